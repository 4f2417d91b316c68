"""The interface of every queue driver (memory, ZeroMQ, RabbitMQ) and its errors.

What always holds, on every transport: a wake may be lost, doubled or late; a call is delivered at
most once per try and the caller repeats by key; a report is kept by its sender until acknowledged;
every envelope is signed by its sender's enrolled key and checked by the receiver. Payloads are bytes
(the caller's own JSON or msgpack), at most 1 MB. Knows nothing of what the payloads mean.

Errors::

    BusError
    +-- Unreachable     the call was certainly not delivered
    +-- Unknown         it may or may not have been delivered: ask again with the same key
    +-- RemoteError     the receiver answered with a typed error (code, message, retry)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

MAX_PAYLOAD = 1_000_000


class BusError(Exception):
    """Base of what a bus raises."""


class Unreachable(BusError):
    """Nobody took the message: it had no effect."""


class Unknown(BusError):
    """No answer in time: the effect is unknown."""


class RemoteError(BusError):
    """The receiver's typed refusal."""

    def __init__(self, code: str, message: str, retry: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.retry = code, message, retry


class Accepted(Struct, frozen=True):
    """The host has the command and works; the result comes in a report."""


class Result(Struct, frozen=True):
    """The command's outcome, here and now."""

    payload: bytes


class Sender(Struct, frozen=True):
    """Who signed an envelope, as checked."""

    name: str
    role: str
    """`api`, `conductor`, `host`, `scheduler`, `metadata`, `console`."""
    incarnation: str


CallHandler = Callable[[Sender, str, bytes], Awaitable[Accepted | Result]]
"""(sender, method, payload) -> answer; raise RemoteError to refuse."""

AskHandler = Callable[[Sender, bytes], Awaitable[bytes]]
ReportHandler = Callable[[Sender, bytes], Awaitable[None]]
"""Returns after commit: the return is the acknowledgement; raising means "send it again"."""


class Bus(Protocol):
    """One process's connection to the queue, speaking as one or more names."""

    async def start(self) -> None: ...

    async def stop(self) -> None:
        """Close cleanly within 2 s; what was not acknowledged is lost, by contract."""

    # wakes: any process -> every process that listens on the topic
    def wake(self, topic: str, subject: str) -> None:
        """Fire and forget. Topics: `operation.<database>`, `change.<database>`, ..."""

    def on_wake(self, topic: str, handler: Callable[[str], None]) -> None: ...

    # calls: conductor -> host
    async def call(self, host: str, method: str, payload: bytes, *, ttl: float) -> Accepted | Result:
        """One delivery try. Raises Unreachable, Unknown, RemoteError. `ttl` in seconds bounds queue and wait."""

    def serve(self, host: str, handler: CallHandler) -> None:
        """This process is `host` and takes its calls (a process may be many sim hosts)."""

    # asks: host -> some conductor (secrets travel only in the answer, encrypted to the asker's key)
    async def ask(self, host: str, method: str, payload: bytes, *, ttl: float) -> bytes: ...

    def answer(self, method: str, handler: AskHandler) -> None: ...

    # reports: host -> some conductor, kept and repeated until acknowledged
    async def report(self, host: str, payload: bytes, *, ttl: float) -> None:
        """Deliver once and return on acknowledgement; raises Unreachable/Unknown: the caller keeps it."""

    def on_report(self, handler: ReportHandler) -> None: ...

    # fan-out: absolute state with its generation; lossy
    def fanout(self, topic: str, payload: bytes) -> None: ...

    def on_fanout(self, topic: str, handler: Callable[[bytes], None]) -> None: ...
