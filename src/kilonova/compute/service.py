"""The compute service: takes commands for the hosts of this process, does each once, says how it went.

A command is answered from the ledger if its key is known, refused if its fence is below the highest seen, and
otherwise done in the server's lane. What ends within a short grace is answered at once; the rest is `Accepted` and
reported until acknowledged. It has no database of the cloud and knows no operations: only keys and fences.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from kilonova.bus.api import Accepted, Bus, RemoteError, Result, Sender
from kilonova.compute import commands
from kilonova.compute.imagesource import Images
from kilonova.compute.lanes import Job, Lanes
from kilonova.compute.ledger import Ledger
from kilonova.compute.reporter import Reporter
from kilonova.compute.virt.driver import Driver
from kilonova.log import get_logger
from kilonova.model.command import Command, DestroyArgs, ForgetArgs, Method, Progress, StepResult
from kilonova.model.guest import GuestFact

log = get_logger(__name__)

GRACE_SECONDS = 0.05

_command = msgspec.json.Decoder(Command)
_forget = msgspec.json.Decoder(ForgetArgs)
_destroy = msgspec.json.Decoder(DestroyArgs | None)
_fact = msgspec.json.Decoder(GuestFact)
_encode = msgspec.json.Encoder().encode

_FACTS = frozenset((Method.SPAWN, Method.POWER_ON, Method.POWER_OFF, Method.REBOOT))


class _OfHost:
    """A method with its first argument, a third of a `partial`'s size: there may be ten thousand hosts."""

    __slots__ = ("_act", "_host")

    def __init__(self, act: Callable[..., Any], host: str) -> None:
        self._act, self._host = act, host

    def __call__(self, *args: Any) -> Any:
        return self._act(self._host, *args)


class ComputeService:
    """One process's hosts.

    `process` is the name it is enrolled under; `drivers` has one driver a host; `directory` is this process's own
    (its ledger is `ledger.log` in it); `durable` false only where the hypervisor itself forgets more at a power loss.
    """

    def __init__(
        self,
        bus: Bus,
        process: str,
        drivers: Mapping[str, Driver],
        directory: Path,
        *,
        images: Images | None = None,
        durable: bool = True,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.bus, self.images = bus, images
        self.ledger = Ledger(directory / "ledger.log", durable=durable)
        self._drivers, self._grace = dict(drivers), grace
        self._lanes = Lanes(self.ledger, self._run, self._ended)
        self.reporter = Reporter(bus, process, self._drivers, self._lanes, self.ledger)
        self._reporting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the ledger, start the drivers, take commands, begin to report. Raises LedgerInUse."""
        self.ledger.open()
        look, handle = self.reporter.look, self._handle  # bound once, not once for each of ten thousand hosts
        for host, driver in self._drivers.items():
            await driver.start(_OfHost(look, host))
        self._repeat_promises()
        self.bus.on_reconnect(self.reporter.reconnected)
        for host in self._drivers:
            self.bus.serve(host, _OfHost(handle, host))
        self._reporting = asyncio.get_running_loop().create_task(self.reporter.run())
        self._reporting.add_done_callback(_reporting_ended)

    async def stop(self) -> None:
        """Stop taking and reporting; guests keep running."""
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.wait([self._reporting])
        await self._lanes.stop()
        for driver in self._drivers.values():
            await driver.stop()
        await self.ledger.close()

    def _repeat_promises(self) -> None:
        """Report what an earlier life promised, and what it began and did not end."""
        for (host, _), entry in self.ledger.entries.items():
            if host not in self._drivers:
                continue
            for key in entry.owed or ():
                if key in entry.results:
                    self.reporter.owe(host, self.ledger.decoded(entry.results[key]))
        for host, server, key in self.ledger.interrupted:
            if host in self._drivers:
                self.reporter.owe(host, StepResult(
                    server=server, key=key, ok=False, code="interrupted",
                    message="the compute service ended in the middle of it", retry=True,
                ))  # fmt: skip

    # -- commands

    async def _handle(self, host: str, sender: Sender, method: str, payload: bytes) -> Accepted | Result:
        if method == Method.FORGET:
            return self._forget(host, payload)
        if method not in commands.KNOWN:
            raise RemoteError("unknown_method", f"this host does not know {method}")
        try:
            command = _command.decode(payload)
        except msgspec.MsgspecError as error:
            raise RemoteError("refused", f"command: {error}") from None
        if command.method != method:
            raise RemoteError("refused", f"{command.method} sent as {method}")
        if method in commands.UNFENCED:
            return Result(_encode(await commands.run(self, host, self._drivers[host], command, _ignore)))
        return await self._fenced(host, command)

    async def _fenced(self, host: str, command: Command) -> Accepted | Result:
        entry = self.ledger.entries.get((host, command.server))
        if entry is not None:
            known = entry.results.get(command.key)
            if known is not None:
                self.ledger.lift(host, command.server, command.fence)
                return Result(known)
        job = self._lanes.submit(host, command)
        await job.wait(self._grace)
        if not job.ended:
            job.owed = True
            return Accepted()
        if job.result is None:
            if job.stopped:
                raise RemoteError("fenced", "stopped by a higher fence")
            raise RemoteError("interrupted", "the compute service ended in the middle of it", retry=True)
        return Result(_encode(job.result))

    def _forget(self, host: str, payload: bytes) -> Result:
        try:
            items = _forget.decode(payload).items
        except msgspec.MsgspecError as error:
            raise RemoteError("refused", f"forget: {error}") from None
        for item in items:
            self.ledger.forget(host, item.server, item.keys)
        return Result(b"null")

    async def _run(self, job: Job) -> StepResult:
        command = job.command
        try:
            await self.ledger.begin(job.host, command.server, command.key)
        except OSError as error:
            return commands.failed(command, "no_space", f"the host's own file: {error.strerror}", True)
        return await commands.run(self, job.host, self._drivers[job.host], command, partial(self._note_progress, job))

    @staticmethod
    def _note_progress(job: Job, percent: int, detail: str = "") -> None:
        job.progress = Progress(
            server=job.command.server, key=job.command.key, percent=max(0, min(100, percent)), detail=detail
        )

    def _ended(self, job: Job) -> None:
        """Keep what must be kept of an ended (or stopped) command."""
        host, command, result = job.host, job.command, job.result
        if result is None:
            if job.stopped:
                self.ledger.finish(host, command.server, command.key, None, owed=False)
            return
        if result.ok or not result.retry:
            self.ledger.finish(host, command.server, command.key, _encode(result), owed=job.owed)
        elif not job.owed:
            self.ledger.finish(host, command.server, command.key, None, owed=False)
        # else: it stays "begun" in the file until its report is acknowledged
        if result.ok:
            self._learn(host, command, result)
        if job.owed:
            self.reporter.owe(host, result)

    def _learn(self, host: str, command: Command, result: StepResult) -> None:
        if command.method in _FACTS:
            self.reporter.known(host, command.server, _fact.decode(result.output))
        elif command.method in commands.FINAL:
            self.reporter.known(host, command.server, None)
            args = _destroy.decode(command.args)
            if args is None or not args.keep_disks:
                self.ledger.gone(host, command.server)


def _reporting_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("reporting has ended: this host will be taken for dead", exc_info=task.exception())


def _ignore(percent: int, detail: str) -> None:
    """Progress of what is too short to have any."""
