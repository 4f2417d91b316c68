"""The life of a process that is one service: start, say so, run until asked to end, end in time.

SIGTERM and SIGINT end it within `STOP_S`; SIGHUP opens the log file again. Readiness is told to
whoever started it by systemd's protocol (sd_notify(3)), and in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from typing import Protocol

from kilonova.cli.errors import CliError
from kilonova.log import get_logger, reopen

log = get_logger(__name__)
STOP_S = 2.8


class Service(Protocol):
    """What a process is."""

    async def start(self) -> str:
        """Begin; returns a line about where and how. Raises CliError."""

    async def ended(self) -> None:
        """Return when the service cannot go on by itself (as a rule: never)."""

    async def stop(self) -> None:
        """End in order; also after a start that did not come to its end."""


async def live(service: Service, name: str) -> int:
    """Run `service` until a signal; the process's exit code."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked.set)
    loop.add_signal_handler(signal.SIGHUP, _reopen)
    code = 0
    wait = loop.create_task(asked.wait())
    start = loop.create_task(service.start())
    try:
        await asyncio.wait((wait, start), return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            said = _result(name, start)
            log.info("%s is ready: %s", name, said)
            notify(f"READY=1\nSTATUS={said}")
            gc.collect()
            gc.freeze()
            end = loop.create_task(service.ended())
            await asyncio.wait((wait, end), return_when=asyncio.FIRST_COMPLETED)
            if end.done() and not wait.done():
                end.result()
                log.error("%s cannot go on and ends", name)
                code = 1
            await _given_up(end)
        else:
            await _given_up(start)
    finally:
        notify("STOPPING=1")
        await _given_up(wait)
        try:
            async with asyncio.timeout(STOP_S):
                await service.stop()
        except TimeoutError:
            log.error("%s did not end in %.1f s; what runs is left to the journal", name, STOP_S)
            code = code or 1
    log.info("%s has ended", name)
    return code


def _result(name: str, start: asyncio.Task[str]) -> str:
    """What `start` said; what stopped it is one line for the terminal, and in the log with its traceback."""
    try:
        return start.result()
    except (CliError, asyncio.CancelledError):
        raise
    except Exception as error:
        log.critical("%s cannot start", name, exc_info=error)
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CliError(f"{name} cannot start: {words or type(error).__name__}") from None


def _reopen() -> None:
    reopen()
    log.info("the log was opened again")


async def _given_up(task: asyncio.Task[object]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task


def notify(text: str) -> None:
    """Tell the service manager, if there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect(address)
        line.sendall(text.encode())


def run(service: Service, name: str) -> int:
    """`live` on a fresh event loop."""
    sys.setswitchinterval(0.001)
    try:
        import uvloop
    except ImportError:
        runner = asyncio.Runner()
    else:
        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        return runner.run(live(service, name))
