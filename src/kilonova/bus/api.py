"""The interface of every queue driver (memory, ZeroMQ, RabbitMQ) and its errors.

What always holds, on every transport: a wake may be lost, doubled or late; a call is delivered at
most once per try and the caller repeats by key; a report is kept by its sender until acknowledged;
every envelope is signed by its sender's enrolled key and checked by the receiver. Payloads are bytes
(the caller's own JSON or msgpack), at most 1 MB. Knows nothing of what the payloads mean.

Errors::

    BusError
    +-- Unreachable     the call was certainly not delivered, or certainly had no effect
    +-- Unknown         it may or may not have been delivered: ask again with the same key
    +-- TooLarge        the payload is over MAX_PAYLOAD: it was not sent
    +-- RemoteError     the receiver answered with a typed error (code, message, retry)

Codes of `RemoteError` that the bus itself makes: `unknown_method`, `forbidden`, `internal`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from msgspec import Struct

MAX_PAYLOAD = 1_000_000

ROLES = ("api", "conductor", "host", "scheduler", "metadata", "console")


class BusError(Exception):
    """Base of what a bus raises."""


class Unreachable(BusError):
    """Nobody took the message: it had no effect."""


class Unknown(BusError):
    """No answer in time: the effect is unknown."""


class TooLarge(BusError):
    """The payload does not travel here; nothing was sent."""


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
    """For a host's asks and reports the host it speaks as; else the process."""
    role: str
    """`api`, `conductor`, `host`, `scheduler`, `metadata`, `console`."""
    incarnation: str
    speaks_for: tuple[str, ...] = ()
    """More host names the process is enrolled for; a trailing `*` stands for any ending."""

    def may_speak_for(self, host: str) -> bool:
        """Tell whether what this sender says about `host` may be believed: its own name or an enrolled one."""
        return host == self.name or matches(host, self.speaks_for)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether `name` equals one of `patterns` or begins like one that ends in `*`."""
    return any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns)


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
        """Try one delivery; `ttl` in seconds bounds queue and wait. Raises Unreachable, Unknown, RemoteError."""

    def serve(self, host: str, handler: CallHandler) -> None:
        """This process is `host` and takes its calls (a process may be many sim hosts)."""

    # asks: host (or api, metadata, console) -> some conductor
    async def ask(self, host: str, method: str, payload: bytes, *, ttl: float) -> bytes:
        """Ask as `host` (another process: as its own name); the answer is encrypted to the asker's key."""

    def answer(self, method: str, handler: AskHandler, roles: tuple[str, ...] = ("host",)) -> None:
        """Take asks for `method` from senders of `roles`; others get RemoteError("forbidden")."""

    # reports: host -> some conductor, kept and repeated until acknowledged
    async def report(self, host: str, payload: bytes, *, ttl: float) -> None:
        """Deliver once and return on acknowledgement; raises Unreachable/Unknown: the caller keeps it."""

    def on_report(self, handler: ReportHandler) -> None: ...

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Called when a conductor (a new one, or one that was away) can be reached: time for a full report."""

    # fan-out: absolute state with its generation; lossy
    def fanout(self, topic: str, payload: bytes) -> None: ...

    def on_fanout(self, topic: str, handler: Callable[[bytes], None]) -> None: ...
