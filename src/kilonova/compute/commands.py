"""What each command does: arguments in, calls of the driver, a StepResult out.

Every failure becomes a typed result here: the driver's own words, a full disk, a queue that is away. Nothing that
is raised passes this module but cancellation.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from kilonova.bus.api import Bus, BusError, RemoteError
from kilonova.compute.imagesource import Images
from kilonova.compute.virt.driver import Driver, DriverError, Image, ReportProgress, Transient
from kilonova.log import get_logger
from kilonova.model.command import (
    Command,
    ConsoleArgs,
    ConsoleOutput,
    DestroyArgs,
    Method,
    PowerArgs,
    RebootArgs,
    SpawnArgs,
    StepResult,
)
from kilonova.model.guest import GuestFact, GuestSpec

log = get_logger(__name__)

CONSOLE_BYTES = 100 * 1024
"""How much of a console's tail one answer holds at most."""
CONFIG_DRIVE = "server.config_drive"
"""Asked of a conductor with JSON {"server": uuid}; the answer is a JSON object, path in the drive -> base64."""

encode = msgspec.json.Encoder().encode
_files = msgspec.json.Decoder(dict[str, bytes])
_NULL = msgspec.Raw(b"null")

_SPACE = frozenset((errno.ENOSPC, errno.EDQUOT))


class Work(Protocol):
    """What a command works with."""

    bus: Bus
    images: Images | None


Do = Callable[[Work, str, Driver, Command, ReportProgress], Awaitable[Any]]


async def run(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> StepResult:
    """Do one command on one host and say how it went."""
    try:
        output = await _METHODS[command.method](work, host, driver, command, progress)
    except DriverError as error:
        return failed(command, error.code, error.message, error.retry)
    except RemoteError as error:
        return failed(command, error.code, error.message, error.retry)
    except BusError as error:
        return failed(command, "unreachable", str(error), True)
    except msgspec.MsgspecError as error:
        return failed(command, "refused", f"arguments of {command.method}: {error}", False)
    except OSError as error:
        code = "no_space" if error.errno in _SPACE else "hypervisor"
        return failed(command, code, f"{error.strerror or error}", True)
    except Exception as error:
        log.exception("%s of %s failed", command.method, command.server)
        return failed(command, "internal", type(error).__name__, False)
    raw = _NULL if output is None else msgspec.Raw(encode(output))
    return StepResult(server=command.server, key=command.key, ok=True, output=raw)


def failed(command: Command, code: str, message: str, retry: bool) -> StepResult:
    """Return a result that says why not."""
    return StepResult(server=command.server, key=command.key, ok=False, code=code, message=message[:2000], retry=retry)


def _decoder(kind: Any) -> Callable[[msgspec.Raw], Any]:
    return msgspec.json.Decoder(kind).decode


_spawn_args = _decoder(SpawnArgs)
_destroy_args = _decoder(DestroyArgs | None)
_power_args = _decoder(PowerArgs)
_reboot_args = _decoder(RebootArgs)
_console_args = _decoder(ConsoleArgs | None)


async def _spawn(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> GuestFact:
    spec: GuestSpec = _spawn_args(command.args).spec
    _same_server(command, spec.uuid)
    image: Image | None = None
    if driver.needs_image and spec.image is not None:
        if work.images is None:
            raise Transient("image_service", "this host has no image service")
        image = await work.images.get(spec.image, progress)
    files: dict[str, bytes] | None = None
    if spec.config_drive:
        answer = await work.bus.ask(host, CONFIG_DRIVE, encode({"server": spec.uuid}), ttl=15)
        files = _files.decode(answer)
    return await driver.ensure_guest(spec, image, files, progress)


async def _destroy(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> None:
    args = _destroy_args(command.args) or DestroyArgs()
    await driver.ensure_absent(command.server, args.keep_disks)


async def _power_on(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> GuestFact:
    args: PowerArgs = _power_args(command.args)
    _same_server(command, args.spec.uuid)
    return await driver.power_on(args.spec)


async def _power_off(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> GuestFact:
    args: PowerArgs = _power_args(command.args)
    return await driver.power_off(command.server, args.graceful_s)


async def _reboot(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> GuestFact:
    args: RebootArgs = _reboot_args(command.args)
    _same_server(command, args.spec.uuid)
    return await driver.reboot(args.spec, args.kind, args.graceful_s)


async def _console(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> ConsoleOutput:
    args = _console_args(command.args) or ConsoleArgs()
    text = (await driver.console_log(command.server, CONSOLE_BYTES)).decode(errors="replace")
    if args.lines is not None and args.lines >= 0:
        kept = text.splitlines(keepends=True)[-args.lines :] if args.lines else []
        text = "".join(kept)
    return ConsoleOutput(output=text)


async def _fence(work: Work, host: str, driver: Driver, command: Command, progress: ReportProgress) -> None:
    return None


def _same_server(command: Command, uuid: str) -> None:
    if uuid != command.server:
        raise msgspec.ValidationError("the guest is not the command's server")


_METHODS: dict[str, Do] = {
    Method.SPAWN: _spawn,
    Method.DESTROY: _destroy,
    Method.POWER_ON: _power_on,
    Method.POWER_OFF: _power_off,
    Method.REBOOT: _reboot,
    Method.CONSOLE: _console,
    Method.FENCE: _fence,
}

KNOWN = frozenset(_METHODS)
UNFENCED = frozenset((Method.CONSOLE,))
"""Only read: need no fence and no lane."""
FINAL = frozenset((Method.DESTROY,))
"""After these the server is not on this host."""
