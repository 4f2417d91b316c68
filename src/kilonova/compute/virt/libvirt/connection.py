"""One connection to libvirt, its threads and its events.

Every libvirt call blocks, so all run in small pools of our own: commands never wait behind statistics.
Events arrive in one thread per process that pumps libvirt's own event loop; they hop to asyncio and are
hints only. Keep-alive closes a connection whose daemon is gone, which makes calls stuck on it return; the
next call opens a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from kilonova.compute.virt.driver import Refused, Transient
from kilonova.compute.virt.threads import Threads

T = TypeVar("T")

_KEEPALIVE_S = 5
_KEEPALIVE_MISSED = 3
_pump_lock = threading.Lock()
_pump: threading.Thread | None = None


def _start_pump() -> None:
    """libvirt's event loop, once per process; must run before the first connection is opened."""
    global _pump
    import libvirt

    with _pump_lock:
        if _pump is not None:
            return
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda _context, _error: None, None)

        def run() -> None:
            while True:
                with contextlib.suppress(libvirt.libvirtError):
                    libvirt.virEventRunDefaultImpl()

        _pump = threading.Thread(target=run, name="libvirt-events", daemon=True)
        _pump.start()


class Connection:
    """`happened(uuid)` is called on the loop for every event; `lost()` when the connection closed."""

    def __init__(self, find: Callable[[], str], happened: Callable[[str], None], lost: Callable[[], None]) -> None:
        """`find` gives the URI and may start a daemon; it blocks and is called in a pool thread."""
        self._find = find
        self._happened, self._lost = happened, lost
        self._loop = asyncio.get_running_loop()
        self._commands = Threads("libvirt", 4)
        self._stats = Threads("libvirt-stats", 2)
        self._open_lock = threading.Lock()
        self._conn: Any = None
        self._closing = False
        self.uri = ""

    async def run(self, call: Callable[[Any], T], stats: bool = False) -> T:
        """`call(virConnect)` in a pool. libvirt's errors come out as Refused or Transient."""
        pool = self._stats if stats else self._commands
        return await pool.run(self._guarded, call)

    async def close(self) -> None:
        self._closing = True
        await self._commands.run(self._close)
        self._commands.close()
        self._stats.close()

    # In pool threads.

    def _guarded(self, call: Callable[[Any], T]) -> T:
        import libvirt

        try:
            return call(self._connected())
        except libvirt.libvirtError as error:
            raise _translated(error) from error

    def _connected(self) -> Any:
        import libvirt

        with self._open_lock:
            if self._conn is not None:
                try:
                    if self._conn.isAlive():
                        return self._conn
                except libvirt.libvirtError:
                    pass
                self._close()
            if self._closing:
                raise Transient("hypervisor", "the driver has been stopped")
            _start_pump()
            self.uri = self._find()
            conn = libvirt.open(self.uri)
            conn.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_MISSED)
            conn.registerCloseCallback(self._on_close, None)
            for event in (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_REBOOT):
                conn.domainEventRegisterAny(None, event, self._on_event, None)
            self._conn = conn
            return conn

    def _close(self) -> None:
        conn, self._conn = self._conn, None
        if conn is None:
            return
        import libvirt

        with contextlib.suppress(libvirt.libvirtError):
            conn.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            conn.close()

    # In the event thread: nothing here may call libvirt.

    def _on_event(self, _conn: Any, domain: Any, *_rest: Any) -> None:
        self._hop(self._happened, domain.UUIDString())

    def _on_close(self, _conn: Any, reason: int, _opaque: Any) -> None:
        if not self._closing:
            self._hop(self._lost)

    def _hop(self, call: Callable[..., None], *args: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: so is whoever wanted to know
            self._loop.call_soon_threadsafe(call, *args)


def _translated(error: Any) -> Refused | Transient:
    import libvirt

    definite = {
        libvirt.VIR_ERR_XML_ERROR,
        libvirt.VIR_ERR_XML_DETAIL,
        libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_UNKNOWN_HOST,
    }
    if error.get_error_code() in definite:
        return Refused("hypervisor", str(error))
    text = str(error)
    if "process exited while connecting" in text or "unexpectedly closed the monitor" in text:
        # QEMU itself refused: its own words are in the text, and it would say the same again.
        return Refused("hypervisor", text)
    return Transient("no_space" if "No space left" in text else "hypervisor", text)
