"""A driver whose hypervisor is the sim world.

It holds no state but its host's name: ten thousand of them fit in one process. Every call is a list of
effects with named points between them (`faults`); when no fault rule touches the call all its effects share
one commit, otherwise each is committed, and visible to others, by itself.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Mapping, Sequence

import msgspec

from kilonova.compute.virt.driver import Changed, Image, Refused, ReportProgress
from kilonova.compute.virt.sim import schema
from kilonova.compute.virt.sim.world import Args, SimWorld
from kilonova.model.guest import GuestFact, GuestSpec, HostFacts
from kilonova.model.power import PowerState

Effect = tuple[str, tuple[tuple[str, Args], ...]]
"""(name of the point passed once it is visible, statements)."""

_RUNNING = PowerState.RUNNING


class _MetaData(msgspec.Struct):
    uuid: str = ""
    hostname: str = ""
    public_keys: dict[str, str] = {}


_meta_data = msgspec.json.Decoder(_MetaData)


class SimDriver:
    """One sim host. `cloud` is the mark on all it makes."""

    __slots__ = ("cloud", "host", "world")
    needs_image = False

    def __init__(self, world: SimWorld, hostname: str, cloud: str = "sim") -> None:
        self.world = world
        self.host = hostname
        self.cloud = cloud

    async def start(self, changed: Changed) -> None:
        self.world.listen(self.host, changed)

    async def stop(self) -> None:
        self.world.listen(self.host, None)

    async def facts(self) -> HostFacts:
        size = self.world.size(self.host)
        return HostFacts(
            hostname=self.host,
            hypervisor_type="sim",
            hypervisor_version=1_000_000,
            vcpus=size.vcpus,
            memory_mb=size.memory_mb,
            local_gb=size.local_gb,
            arch="x86_64",
            cpu_info='{"vendor":"sim","model":"sim","arch":"x86_64","features":[],"topology":{}}',
            supported_instances=(("x86_64", "qemu", "hvm"), ("x86_64", "kvm", "hvm")),
            free_disk_gb=max(0, size.local_gb - self.world.used_gb(self.host)),
        )

    async def guests(self) -> list[GuestFact]:
        return [_fact(*row) for row in self.world.rows(schema.LIST_GUESTS, (self.host, self.cloud))]

    async def guest(self, uuid: str) -> GuestFact | None:
        return self._look(uuid)

    async def ensure_guest(
        self,
        spec: GuestSpec,
        image: Image | None,
        config_drive: Mapping[str, bytes] | None,
        progress: ReportProgress,
    ) -> GuestFact:
        host, cloud, uuid = self.host, self.cloud, spec.uuid
        gb = spec.root_gb + spec.ephemeral_gb + (spec.swap_mb + 1023) // 1024
        image_id = spec.image.id if spec.image else ""
        disk = (schema.DISK, (host, uuid, cloud, gb, image_id, uuids.uuid4().hex))
        await self._do("ensure_guest", (("disk", (disk,)), self._taps(spec), self._define(spec, config_drive)))
        return self._seen(uuid)

    async def ensure_absent(self, uuid: str, keep_disks: bool = False) -> None:
        here = (self.host, uuid)
        effects: list[Effect] = [
            ("guest", ((schema.DROP_GUEST, here),)),
            ("tap", ((schema.DROP_TAPS, here),)),
        ]
        if not keep_disks:
            effects.append(("disk", ((schema.DROP_DISK, here),)))
        await self._do("ensure_absent", effects)

    async def power_on(self, spec: GuestSpec) -> GuestFact:
        self._need_disk(spec.uuid)
        await self._do("power_on", (self._taps(spec), self._define(spec, None, run=True)))
        return self._seen(spec.uuid)

    async def power_off(self, uuid: str, graceful_s: int) -> GuestFact:
        off = (schema.POWER, (int(PowerState.SHUTDOWN), "", self.host, uuid))
        await self._do("power_off", (("guest", (off,)),))
        return self._seen(uuid)

    async def reboot(self, spec: GuestSpec, kind: str, graceful_s: int) -> GuestFact:
        self._need_disk(spec.uuid)
        if kind == "HARD":
            name, statements = self._define(spec, None, run=False)
        elif self._look(spec.uuid) is None:
            raise Refused("no_guest", f"no guest {spec.uuid} on {self.host}")
        else:
            name, statements = "guest", ()
        again = (schema.RESTART, (_banner(spec), _prompt(spec), self.host, spec.uuid))
        await self._do("reboot", (self._taps(spec), (name, (*statements, again))))
        return self._seen(spec.uuid)

    async def console_log(self, uuid: str, max_bytes: int) -> bytes:
        await self._do("console_log", ())
        row = self.world.row(schema.GET_CONSOLE, (self.host, uuid, self.cloud))
        text = row[0] if row else b""
        return text[-max_bytes:] if isinstance(text, bytes) and max_bytes > 0 else b""

    # How effects happen.

    async def _do(self, method: str, effects: Sequence[Effect]) -> None:
        world, faults = self.world, self.world.faults
        if not faults.of(self.host, method):
            if effects:
                for _, statements in effects:
                    for sql, args in statements:
                        world.write(sql, args)
                await world.committed()
            return
        await faults.at(self.host, method, "before")
        for point, statements in effects:
            for sql, args in statements:
                world.write(sql, args)
            await world.committed()
            await faults.at(self.host, method, point)
        await faults.at(self.host, method, "after")

    def _taps(self, spec: GuestSpec) -> Effect:
        return "tap", tuple((schema.TAP, (self.host, spec.uuid, nic.port_id, self.cloud, nic.mac)) for nic in spec.nics)

    def _define(self, spec: GuestSpec, config_drive: Mapping[str, bytes] | None, run: bool | None = None) -> Effect:
        define = (
            schema.GUEST,
            (
                self.host,
                spec.uuid,
                self.cloud,
                spec.name,
                spec.instance_name,
                spec.vcpus,
                spec.memory_mb,
                _told(config_drive),
            ),
        )
        if spec.running if run is None else run:
            return "guest", (define, (schema.BOOT, (_banner(spec), _prompt(spec), self.host, spec.uuid)))
        return "guest", (define,)

    # Looking.

    def _look(self, uuid: str) -> GuestFact | None:
        row = self.world.row(schema.GET_GUEST, (self.host, uuid, self.cloud))
        return _fact(uuid, *row) if row else None

    def _seen(self, uuid: str) -> GuestFact:
        fact = self._look(uuid)
        if fact is None:
            raise Refused("no_guest", f"no guest {uuid} on {self.host}")
        return fact

    def _need_disk(self, uuid: str) -> None:
        if self.world.row(schema.GET_DISK, (self.host, uuid)) is None:
            raise Refused("no_disk", f"the disk of {uuid} is not on {self.host}")


def _fact(uuid: object, power: object, note: object) -> GuestFact:
    if power == 1:
        return GuestFact(uuid=str(uuid), power_state=_RUNNING)
    return GuestFact(uuid=str(uuid), power_state=PowerState(int(str(power))), note=str(note))


def _banner(spec: GuestSpec) -> bytes:
    return b"sim: firmware\r\nsim: %d vcpu, %d MiB, %d nic\r\n" % (spec.vcpus, spec.memory_mb, len(spec.nics))


def _prompt(spec: GuestSpec) -> bytes:
    return b"%s login: " % spec.hostname.encode() + b"\r\n"


def _told(config_drive: Mapping[str, bytes] | None) -> str:
    """What the guest says on its console about its config drive."""
    text = config_drive.get("openstack/latest/meta_data.json") if config_drive else None
    if text is None:
        return ""
    try:
        meta = _meta_data.decode(text)
    except msgspec.DecodeError:
        return "config-drive: unreadable meta_data.json\r\n"
    keys = "".join(f"config-drive: key {name} {key}\r\n" for name, key in meta.public_keys.items())
    return f"config-drive: uuid {meta.uuid}\r\nconfig-drive: hostname {meta.hostname}\r\n{keys}"
