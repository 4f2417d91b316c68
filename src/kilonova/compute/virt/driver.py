"""The interface of every hypervisor driver.

Every method names an end state and may be called again after any crash: a driver keeps nothing in
memory that it needs for being right, it looks at the hypervisor. Whatever it makes carries our mark on
the thing itself, so that a purge finds it without any database. It never knows operations, fences or
the bus: the compute service in front of it does. Shaped by three unlike hypervisors: libvirt (a daemon
that owns the guests), User-Mode Linux (a bare process), and the sim world (a model that outlives us).
A caller runs one call per guest at a time; calls for different guests run side by side.

Errors::

    DriverError(code, message, retry)
    +-- Refused        definite: asking again gives the same (image invalid, not supported, no such guest)
    +-- Transient      may work later, and may have happened already (daemon away, out of space, busy)

Codes: `no_guest`, `no_disk`, `no_image`, `image_invalid`, `no_space`, `hypervisor`, `unsupported`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from kilonova.model.guest import GuestFact, GuestSpec, HostFacts


class DriverError(Exception):
    retry = False

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Refused(DriverError):
    """The same call gives the same refusal."""


class Transient(DriverError):
    """The same call may succeed later."""

    retry = True


class Image(Protocol):
    """A checked image in the host's cache."""

    path: Path
    format: str
    """By content: `qcow2` or `raw`."""
    virtual_size: int


Changed = Callable[[str], None]
"""Called on the loop with a guest's uuid when the hypervisor says something happened; a hint, no more."""

ReportProgress = Callable[[int, str], None]
"""(percent, detail)."""


class Driver(Protocol):
    """One host's hypervisor."""

    needs_image: bool
    """Whether `ensure_guest` wants the image's bytes on this host (the sim world does not)."""

    async def start(self, changed: Changed) -> None: ...

    async def stop(self) -> None:
        """Let go; guests keep running."""

    async def facts(self) -> HostFacts: ...

    async def guests(self) -> list[GuestFact]:
        """All guests that carry this cloud's and host's mark, running or not."""

    async def guest(self, uuid: str) -> GuestFact | None: ...

    async def ensure_guest(
        self,
        spec: GuestSpec,
        image: Image | None,
        config_drive: Mapping[str, bytes] | None,
        progress: ReportProgress,
    ) -> GuestFact:
        """Disks, interfaces and definition exist as in `spec`; it runs if `spec.running`.

        `config_drive`: path inside the drive -> content, or None for no drive. Disks that are there are
        kept, config drive included. Not `spec.running`: is not started, but is not stopped either.
        Cancelling leaves at most things that `ensure_absent` finds.
        """

    async def ensure_absent(self, uuid: str, keep_disks: bool = False) -> None:
        """No guest, no disk, no interface; "not there" is success."""

    async def power_on(self, spec: GuestSpec) -> GuestFact:
        """Runs. Redefines the guest from `spec` and its kept disks if the hypervisor forgot it.

        Refused `no_disk` if there is no disk to run from.
        """

    async def power_off(self, uuid: str, graceful_s: int) -> GuestFact:
        """Does not run; asks by ACPI for `graceful_s` seconds first, then pulls the plug.

        Refused `no_guest` if the hypervisor does not know it.
        """

    async def reboot(self, spec: GuestSpec, kind: str, graceful_s: int) -> GuestFact:
        """SOFT: the guest restarts itself, after `graceful_s` hard. HARD: off, redefined, on."""

    async def console_log(self, uuid: str, max_bytes: int) -> bytes:
        """The tail of what the guest wrote to its serial console; b"" if it never ran."""
