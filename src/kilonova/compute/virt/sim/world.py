"""The file that is the sim world.

Always holds: an effect that was answered is in the file and survives SIGKILL of every process that has
it open (not a power cut: it is a simulation). Effects of one turn of the event loop share a commit; a
commit takes well under a millisecond, so it is made on the loop itself. Several processes may have the
same world open; a checker reads it with `snapshot`. It knows hosts and things on them, never servers,
operations or the cloud's records.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct, field

from kilonova.compute.virt.driver import Transient
from kilonova.compute.virt.sim import schema
from kilonova.compute.virt.sim.faults import Faults
from kilonova.model.power import PowerState

Args = tuple[object, ...]


class HostSize(Struct, frozen=True, kw_only=True):
    vcpus: int = 64
    memory_mb: int = 256 * 1024
    local_gb: int = 2048


class SimGuest(Struct, frozen=True, kw_only=True):
    uuid: str
    cloud: str
    name: str
    instance_name: str
    vcpus: int
    memory_mb: int
    power_state: PowerState


class SimDisk(Struct, frozen=True, kw_only=True):
    uuid: str
    """The guest it was made for."""
    cloud: str
    gb: int
    image: str
    serial: str
    """New with every disk made: tells a kept disk from one made again."""


class SimTap(Struct, frozen=True, kw_only=True):
    uuid: str
    port: str
    cloud: str
    mac: str


class HostContent(Struct, kw_only=True):
    """All that is on one host, whole or half made."""

    guests: list[SimGuest] = field(default_factory=list)
    disks: list[SimDisk] = field(default_factory=list)
    taps: list[SimTap] = field(default_factory=list)


class SimWorld:
    """One file with all sim hosts. `default_size` is every host's unless `resize` said otherwise."""

    def __init__(self, path: Path, default_size: HostSize | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.default_size = default_size or HostSize()
        self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        # Small checkpoints: each is paid by whoever commits, on the loop.
        self._db.execute("PRAGMA wal_autocheckpoint = 200")
        self._db.executescript(schema.TABLES)
        self.faults = Faults(self._db)
        self._sizes: dict[str, HostSize] = {
            h: HostSize(vcpus=v, memory_mb=m, local_gb=g)
            for h, v, m, g in self._db.execute("SELECT host, vcpus, memory_mb, local_gb FROM size")
        }
        self._pending: list[tuple[str, Args]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._scheduled = False
        self._listeners: dict[str, Callable[[str], None]] = {}

    def close(self) -> None:
        self._flush()
        self._db.close()

    # Effects: what the sim drivers do.

    def write(self, sql: str, args: Args) -> None:
        """Part of an effect; visible and durable when `committed` returns."""
        self._pending.append((sql, args))

    def committed(self) -> asyncio.Future[None]:
        """Done when all that was written so far is in the file. Transient if it can't be."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiters.append(done)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush)
        return done

    def row(self, sql: str, args: Args) -> tuple[object, ...] | None:
        found: tuple[object, ...] | None = self._db.execute(sql, args).fetchone()
        return found

    def rows(self, sql: str, args: Args) -> list[tuple[object, ...]]:
        return self._db.execute(sql, args).fetchall()

    def _flush(self) -> None:
        self._scheduled = False
        pending, self._pending = self._pending, []
        waiters, self._waiters = self._waiters, []
        failure: Transient | None = None
        if pending:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                for sql, args in pending:
                    self._db.execute(sql, args)
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as error:
                with contextlib.suppress(sqlite3.OperationalError):
                    self._db.execute("ROLLBACK")
                failure = Transient("no_space" if "full" in str(error) else "sim_world", str(error))
        for waiter in waiters:
            if waiter.done():
                continue
            if failure:
                waiter.set_exception(failure)
            else:
                waiter.set_result(None)

    # The size of hosts.

    def size(self, host: str) -> HostSize:
        return self._sizes.get(host, self.default_size)

    def resize(self, host: str, size: HostSize) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO size (host, vcpus, memory_mb, local_gb) VALUES (?, ?, ?, ?)",
            (host, size.vcpus, size.memory_mb, size.local_gb),
        )
        self._sizes[host] = size

    def used_gb(self, host: str) -> int:
        row = self.row("SELECT coalesce(sum(gb), 0) FROM disk WHERE host = ?", (host,))
        return int(str(row[0])) if row else 0

    # For the checker, and for whoever changes the world behind kilonova's back.

    def listen(self, host: str, changed: Callable[[str], None] | None) -> None:
        if changed is None:
            self._listeners.pop(host, None)
        else:
            self._listeners[host] = changed

    def snapshot(self) -> dict[str, HostContent]:
        """All hosts that hold anything, in one consistent read."""
        world: dict[str, HostContent] = {}

        def on(host: str) -> HostContent:
            return world.setdefault(host, HostContent())

        self._db.execute("BEGIN")
        try:
            for h, u, c, n, i, v, m, p in self._db.execute(
                "SELECT host, uuid, cloud, name, instance_name, vcpus, memory_mb, power FROM guest"
            ):
                on(h).guests.append(
                    SimGuest(
                        uuid=u,
                        cloud=c,
                        name=n,
                        instance_name=i,
                        vcpus=v,
                        memory_mb=m,
                        power_state=PowerState(p),
                    )
                )
            for h, u, c, g, i, s in self._db.execute("SELECT host, uuid, cloud, gb, image, serial FROM disk"):
                on(h).disks.append(SimDisk(uuid=u, cloud=c, gb=g, image=i, serial=s))
            for h, u, p, c, m in self._db.execute("SELECT host, uuid, port, cloud, mac FROM tap"):
                on(h).taps.append(SimTap(uuid=u, port=p, cloud=c, mac=m))
        finally:
            self._db.execute("COMMIT")
        return world

    def force_power(self, host: str, uuid: str, power: PowerState, note: str = "") -> None:
        """The guest stops, crashes or starts by itself."""
        self._db.execute(schema.POWER, (int(power), note, host, uuid))
        self._hint(host, uuid)

    def force_forget(self, host: str, uuid: str) -> None:
        """The hypervisor forgets the guest; its disk and taps stay."""
        self._db.execute(schema.DROP_GUEST, (host, uuid))
        self._hint(host, uuid)

    def plant(
        self, host: str, uuid: str, *, cloud: str, guest: bool = False, disk: bool = False, tap: bool = False
    ) -> None:
        """Make a thing that no record knows."""
        if disk:
            self._db.execute(schema.DISK, (host, uuid, cloud, 1, "", "planted"))
        if tap:
            self._db.execute(schema.TAP, (host, uuid, "planted", cloud, "fa:16:3e:00:00:00"))
        if guest:
            self._db.execute(schema.GUEST, (host, uuid, cloud, "planted", "planted", 1, 64, ""))
            self._db.execute(schema.POWER, (int(PowerState.RUNNING), "", host, uuid))
        self._hint(host, uuid)

    def purge(self, cloud: str) -> int:
        """Remove all that a cloud made; the number of things."""
        return sum(
            self._db.execute(f"DELETE FROM {table} WHERE cloud = ?", (cloud,)).rowcount  # noqa: S608 - our own names
            for table in ("guest", "tap", "disk")
        )

    def empty(self) -> bool:
        return not any(self.row(f"SELECT 1 FROM {t} LIMIT 1", ()) for t in ("guest", "tap", "disk"))  # noqa: S608 - our own names

    def _hint(self, host: str, uuid: str) -> None:
        listener = self._listeners.get(host)
        if listener:
            listener(uuid)
