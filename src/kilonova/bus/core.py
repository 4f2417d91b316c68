"""What all queue drivers share: sealing, checking, dispatching and matching of answers.

A driver adds only routes: to a host, to some conductor, to everybody on a topic; and hands each frame that
comes in to `receive` with the peer it can be answered through. Nothing is believed before the signature, the
replay guard and the table of rights have passed; what fails them is counted and dropped, a known
sender that lacks the right is told so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from kilonova.bus import rights
from kilonova.bus.api import (
    MAX_PAYLOAD,
    Accepted,
    AskHandler,
    CallHandler,
    RemoteError,
    ReportHandler,
    Result,
    Sender,
    TooLarge,
    Unknown,
    Unreachable,
)
from kilonova.bus.envelope import (
    REPLIES,
    VERSION,
    BadEnvelope,
    Envelope,
    Failure,
    Identity,
    Kind,
    ReplayGuard,
    decode,
    decode_failure,
    encode,
    join,
    split,
)
from kilonova.bus.trust import Member, Trust
from kilonova.log import get_logger

log = get_logger(__name__)

NO_EFFECT = frozenset(("not_here", "busy", "expired"))
"""Error codes of the bus itself that say: the message was dropped unread."""


class Peer(Protocol):
    """A way to one process."""

    name: str
    incarnation: str

    def send(self, data: bytes) -> bool:
        """Queue one frame; False if there is no room or nobody: then nothing was sent."""


class _Pending:
    __slots__ = ("answer", "host", "peer")

    def __init__(self, answer: asyncio.Future[Envelope], peer: str, host: str) -> None:
        self.answer, self.peer, self.host = answer, peer, host


class BusCore:
    """A bus without routes."""

    def __init__(self, identity: Identity, trust: Trust, *, inflight: int = 2048) -> None:
        self.identity = identity
        self.refused: Counter[str] = Counter()
        """What was dropped, by reason: `signature`, `replay`, `forbidden`, `malformed`, `stray`, `busy`, `expired`."""
        self._trust = trust
        self._inflight = inflight
        self._guard = ReplayGuard()
        self._nonce = 0
        self._pending: dict[int, _Pending] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._hosts: dict[str, CallHandler] = {}
        self._answers: dict[str, tuple[AskHandler, tuple[str, ...]]] = {}
        self._report: ReportHandler | None = None
        self._wakes: dict[str, list[Callable[[str], None]]] = {}
        self._fanouts: dict[str, list[Callable[[bytes], None]]] = {}
        self._reconnects: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- what a driver fills in

    def _host_peer(self, host: str) -> Peer | None:
        raise NotImplementedError

    def _conductor_peer(self, kind: Kind, method: str) -> Peer | None:
        raise NotImplementedError

    def _spread(self, kind: Kind, topic: str, data: bytes) -> None:
        """Send one frame to every other process that listens on the topic."""
        raise NotImplementedError

    def _relay(self, envelope: Envelope, data: bytes, peer: Peer) -> None:
        """Pass on, as it is, what is for everybody, where the transport needs a middleman."""

    def _hello(self, envelope: Envelope, member: Member, peer: Peer) -> None:
        """Take a peer's introduction, where the transport has one."""

    def _handlers_changed(self) -> None:
        """Called after a handler was added."""

    def _host_added(self, host: str) -> None:
        """Called after this process began to be one more host."""

    # -- life

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        self._fail_pending(lambda _: True)
        if tasks:
            await asyncio.wait(tasks, timeout=2)

    # -- handlers

    def serve(self, host: str, handler: CallHandler) -> None:
        self._hosts[host] = handler
        self._host_added(host)

    def answer(self, method: str, handler: AskHandler, roles: tuple[str, ...] = ("host",)) -> None:
        self._answers[method] = (handler, roles)
        self._handlers_changed()

    def on_report(self, handler: ReportHandler) -> None:
        self._report = handler
        self._handlers_changed()

    def on_wake(self, topic: str, handler: Callable[[str], None]) -> None:
        self._wakes.setdefault(topic, []).append(handler)
        self._handlers_changed()

    def on_fanout(self, topic: str, handler: Callable[[bytes], None]) -> None:
        self._fanouts.setdefault(topic, []).append(handler)
        self._handlers_changed()

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        self._reconnects.append(handler)

    # -- saying

    def wake(self, topic: str, subject: str) -> None:
        payload = subject.encode()
        if topic in self._wakes and self._loop is not None:
            self._loop.call_soon(self._deliver_wake, topic, subject)
        self._spread(Kind.WAKE, topic, self.sealed(Kind.WAKE, name=topic, payload=payload))

    def fanout(self, topic: str, payload: bytes) -> None:
        self._check_size(payload)
        if topic in self._fanouts and self._loop is not None:
            self._loop.call_soon(self._deliver_fanout, topic, payload)
        self._spread(Kind.FANOUT, topic, self.sealed(Kind.FANOUT, name=topic, payload=payload))

    async def call(self, host: str, method: str, payload: bytes, *, ttl: float) -> Accepted | Result:
        peer = self._host_peer(host)
        if peer is None:
            raise Unreachable(f"host {host} is not connected")
        reply = await self._exchange(peer, Kind.CALL, "", host, method, payload, ttl)
        return Accepted() if reply.kind is Kind.ACCEPTED else Result(reply.payload)

    async def ask(self, host: str, method: str, payload: bytes, *, ttl: float) -> bytes:
        peer = self._conductor_peer(Kind.ASK, method)
        if peer is None:
            raise Unreachable("no conductor is connected")
        reply = await self._exchange(peer, Kind.ASK, host, peer.name, method, payload, ttl)
        try:
            return self._trust.open(reply.payload, _context(self.identity.name, reply.exchange))
        except ValueError as error:
            raise Unknown(f"answer cannot be opened: {error}") from None

    async def report(self, host: str, payload: bytes, *, ttl: float) -> None:
        peer = self._conductor_peer(Kind.REPORT, "")
        if peer is None:
            raise Unreachable("no conductor is connected")
        await self._exchange(peer, Kind.REPORT, host, peer.name, "", payload, ttl)

    async def _exchange(
        self, peer: Peer, kind: Kind, speaker: str, to: str, name: str, payload: bytes, ttl: float
    ) -> Envelope:
        self._check_size(payload)
        if self._loop is None:
            raise Unreachable("the bus is not started")
        answer: asyncio.Future[Envelope] = self._loop.create_future()
        exchange = self._nonce + 1
        data = self.sealed(
            kind, name=name, payload=payload, ttl=ttl, speaker=speaker, to=to,
            to_incarnation=peer.incarnation, exchange=exchange,
        )  # fmt: skip
        self._pending[exchange] = _Pending(answer, peer.name, to)
        timer = self._loop.call_later(ttl, self._late, exchange)
        try:
            if not peer.send(data):
                raise Unreachable(f"no room in the queue to {peer.name}")
            reply = await answer
        finally:
            timer.cancel()
            self._pending.pop(exchange, None)
        if reply.kind is Kind.ERROR:
            try:
                failure = decode_failure(reply.payload)
            except ValueError:
                raise Unknown(f"{to} failed in a way that cannot be read") from None
            if failure.code in NO_EFFECT:
                raise Unreachable(f"{to}: {failure.message}")
            raise RemoteError(failure.code, failure.message, failure.retry)
        return reply

    def _late(self, exchange: int) -> None:
        pending = self._pending.get(exchange)
        if pending is not None and not pending.answer.done():
            pending.answer.set_exception(Unknown(f"no answer from {pending.host} in time"))

    def _fail_pending(self, which: Callable[[str], bool]) -> None:
        """Give up waiting for the processes that `which` (by name) picks: their answers will not come."""
        for pending in self._pending.values():
            if which(pending.peer) and not pending.answer.done():
                pending.answer.set_exception(Unknown(f"{pending.peer} went away"))

    def sealed(
        self,
        kind: Kind,
        *,
        name: str = "",
        payload: bytes = b"",
        ttl: float = 60.0,
        speaker: str = "",
        to: str = "",
        to_incarnation: str = "",
        exchange: int = 0,
    ) -> bytes:
        """Return a signed frame with the next nonce."""
        self._nonce = nonce = self._nonce + 1
        me = self.identity
        body = encode(
            Envelope(
                VERSION, kind, me.name, me.role, me.incarnation, nonce, ttl, speaker, to, to_incarnation, name,
                exchange, payload,
            )
        )  # fmt: skip
        return join(self._trust.sign(body), body)

    @staticmethod
    def _check_size(payload: bytes) -> None:
        if len(payload) > MAX_PAYLOAD:
            raise TooLarge(f"{len(payload)} bytes; the limit is {MAX_PAYLOAD}")

    # -- hearing

    def opened(self, data: bytes) -> tuple[Envelope, Member] | None:
        """Return the envelope of a frame and who signed it, or None (counted) if it proves nothing."""
        try:
            signature, body = split(data)
            envelope = decode(body)
        except BadEnvelope:
            self.refused["malformed"] += 1
            return None
        member = self._trust.check(envelope.sender, body, signature)
        if member is None:
            self.refused["signature"] += 1
            return None
        if not self._guard.passes(envelope.sender, envelope.incarnation, envelope.nonce):
            self.refused["replay"] += 1
            return None
        return envelope, member

    def receive(self, data: bytes, peer: Peer, at: float) -> None:
        """Take one frame that came at loop time `at` and can be answered through `peer`."""
        found = self.opened(data)
        if found is None:
            return
        envelope, member = found
        kind = envelope.kind
        if not rights.allowed(envelope, member.role, member.speaks_for):
            self.refused["forbidden"] += 1
            log.warning("refused %s of %s (%s) as %r", kind.name, envelope.sender, member.role, envelope.speaker)
            if envelope.exchange and kind not in REPLIES:
                self._fail(envelope, peer, "forbidden", f"a {member.role} may not {kind.name.lower()} this")
        elif kind in REPLIES:
            self._match(envelope, member)
        elif kind is Kind.WAKE:
            self._relay(envelope, data, peer)
            self._deliver_wake(envelope.name, envelope.payload.decode(errors="replace"))
        elif kind is Kind.FANOUT:
            self._relay(envelope, data, peer)
            self._deliver_fanout(envelope.name, envelope.payload)
        elif kind is Kind.HELLO:
            self._hello(envelope, member, peer)
        else:
            self._take(envelope, member, peer, at)

    def _match(self, envelope: Envelope, member: Member) -> None:
        pending = self._pending.get(envelope.exchange)
        if (
            pending is None
            or pending.answer.done()
            or envelope.sender != pending.peer
            or envelope.to != self.identity.name
            or envelope.to_incarnation != self.identity.incarnation
        ):
            self.refused["stray"] += 1
            return
        pending.answer.set_result(envelope)

    def _take(self, envelope: Envelope, member: Member, peer: Peer, at: float) -> None:
        here = envelope.to in self._hosts if envelope.kind is Kind.CALL else envelope.to == self.identity.name
        if not here or envelope.to_incarnation != self.identity.incarnation:
            self.refused["stray"] += 1
            self._fail(envelope, peer, "not_here", "not served here")
        elif len(self._tasks) >= self._inflight:
            self.refused["busy"] += 1
            self._fail(envelope, peer, "busy", "too much in flight")
        else:
            self._spawn(self._handle(envelope, member, peer, at))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None, "the bus is not started"
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, envelope: Envelope, member: Member, peer: Peer, at: float) -> None:
        assert self._loop is not None
        if self._loop.time() - at > envelope.ttl:
            self.refused["expired"] += 1
            self._fail(envelope, peer, "expired", "waited longer than its ttl")
            return
        sender = Sender(envelope.speaker or envelope.sender, member.role, envelope.incarnation, member.speaks_for)
        try:
            kind, payload = await self._run_handler(envelope, sender)
            self._check_size(payload)
        except RemoteError as error:
            self._fail(envelope, peer, error.code, error.message, error.retry)
        except Exception as error:
            log.exception("handler of %s %s failed", envelope.kind.name, envelope.name)
            self._fail(envelope, peer, "internal", type(error).__name__, retry=envelope.kind is Kind.REPORT)
        else:
            self._reply(envelope, peer, kind, payload)

    async def _run_handler(self, envelope: Envelope, sender: Sender) -> tuple[Kind, bytes]:
        if envelope.kind is Kind.CALL:
            result = await self._hosts[envelope.to](sender, envelope.name, envelope.payload)
            return (Kind.RESULT, result.payload) if isinstance(result, Result) else (Kind.ACCEPTED, b"")
        if envelope.kind is Kind.ASK:
            if envelope.name not in self._answers:
                raise RemoteError("unknown_method", f"{self.identity.role} has no {envelope.name}")
            handler, roles = self._answers[envelope.name]
            if sender.role not in roles:
                self.refused["forbidden"] += 1
                raise RemoteError("forbidden", f"a {sender.role} may not ask {envelope.name}")
            secret = await handler(sender, envelope.payload)
            return Kind.ANSWER, self._trust.seal(envelope.sender, secret, _context(envelope.sender, envelope.exchange))
        if self._report is None:
            raise RemoteError("unknown_method", f"{self.identity.role} takes no reports", retry=True)
        await self._report(sender, envelope.payload)
        return Kind.ACK, b""

    def _fail(self, to: Envelope, peer: Peer, code: str, message: str, retry: bool = False) -> None:
        self._reply(to, peer, Kind.ERROR, encode(Failure(code, message[:1000], retry)))

    def _reply(self, to: Envelope, peer: Peer, kind: Kind, payload: bytes) -> None:
        peer.send(self.sealed(kind, payload=payload, to=to.sender, to_incarnation=to.incarnation, exchange=to.exchange))

    def _deliver_wake(self, topic: str, subject: str) -> None:
        for handler in self._wakes.get(topic, ()):
            try:
                handler(subject)
            except Exception:
                log.exception("wake handler of %s failed", topic)

    def _deliver_fanout(self, topic: str, payload: bytes) -> None:
        for handler in self._fanouts.get(topic, ()):
            try:
                handler(payload)
            except Exception:
                log.exception("fan-out handler of %s failed", topic)

    def _reconnected(self) -> None:
        for handler in self._reconnects:
            handler()


def _context(asker: str, exchange: int) -> bytes:
    return f"{asker} {exchange}".encode()
