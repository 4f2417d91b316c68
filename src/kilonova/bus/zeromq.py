"""The queue without a broker: conductors listen, everybody dials every conductor, over CURVE.

Each dialled link begins with a signed HELLO both ways: who we are (with incarnation), which hosts we are, which
topics we listen on. Calls go down the host's own link, asks and reports up a living one. A wake or
fan-out goes to one conductor, which passes the untouched envelope on to all who listen and to the other conductors;
those pass nothing on, as everybody dials all of them. Heartbeats are two plain bytes: the link is encrypted
to an enrolled key, and all a forged one could do is keep a dead link for three seconds more. Queues are bounded: what
finds no room was not sent. Losing a link fails what waited on it as Unknown at once.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import zmq
from msgspec import Struct, msgpack
from zmq.utils import z85

from kilonova.bus.api import MAX_PAYLOAD, matches
from kilonova.bus.core import BusCore, Peer
from kilonova.bus.enrolment import Directory, Keys, KeyTrust
from kilonova.bus.envelope import OVERHEAD, VERSION, Envelope, Identity, Kind, encode
from kilonova.bus.trust import Member
from kilonova.bus.zmqsocket import AllowList, LoopSocket
from kilonova.log import get_logger

log = get_logger(__name__)

QUEUE = 1000
"""Messages a socket holds for one peer in each direction."""
BEAT_SECONDS = 1.0
DEAD_SECONDS = 3.0
HELLO_SECONDS = 0.1
"""How often a link that is not up tries to introduce itself (free until the connection stands)."""

PROBE_SECONDS = 0.02

PING, PONG, WHO, BYE = b"\0P", b"\0O", b"\0W", b"\0B"


class Hello(Struct, frozen=True, array_like=True):
    """Payload of a HELLO."""

    versions: tuple[int, int]
    hosts: tuple[str, ...]
    topics: tuple[str, ...]


_hello = msgpack.Decoder(Hello)


class Link:
    """One conductor that we dial. `up` once it has introduced itself."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.incarnation = ""
        self.up = False
        self.heard = 0.0
        self.topics: frozenset[str] = frozenset()
        self.socket: LoopSocket | None = None
        self.events: LoopSocket | None = None

    def send(self, data: bytes) -> bool:
        return self.socket is not None and self.socket.send([data])


class Dialler:
    """A process that dialled us."""

    def __init__(self, address: bytes, socket: LoopSocket) -> None:
        self.address, self._socket = address, socket
        self.name = self.incarnation = self.role = ""
        self.hosts: tuple[str, ...] = ()
        self.topics: frozenset[str] = frozenset()
        self.heard = 0.0

    def send(self, data: bytes) -> bool:
        return self._socket.send([self.address, data])


class ZeroMQBus(BusCore):
    """A process's bus. `conductors`: (name, host:port) of all configured; `bind`: where a conductor listens."""

    def __init__(
        self,
        identity: Identity,
        keys: Keys,
        directory: Directory,
        conductors: list[tuple[str, str]],
        *,
        bind: str | None = None,
        inflight: int = 2048,
        dead: float = DEAD_SECONDS,
    ) -> None:
        super().__init__(identity, KeyTrust(keys, directory), inflight=inflight)
        self._keys, self._directory, self._bind, self._dead = keys, directory, bind, dead
        self._links = [Link(name, address) for name, address in conductors if name != identity.name]
        self._turn = 0
        self._reported: Link | None = None
        self._look_at_links = asyncio.Event()
        self._diallers: dict[bytes, Dialler] = {}
        self._host_diallers: dict[str, Dialler] = {}
        self._context: zmq.Context[Any] | None = None
        self._router: LoopSocket | None = None
        self._router_events: LoopSocket | None = None
        self._probing = False
        self._allow: AllowList | None = None
        self._beating: asyncio.Task[None] | None = None

    # -- life

    async def start(self) -> None:
        await super().start()
        assert self._loop is not None
        self._context = zmq.Context()
        if self._bind is not None:
            self._allow = AllowList(self._context, self._loop, self._who)
            self._router = self._listen(self._context, self._bind)
        for link in self._links:
            record = self._directory.get(link.name)
            if record is None or record.role != "conductor":
                log.error("conductor %s at %s is not enrolled here yet", link.name, link.address)
        self._dial_enrolled()
        self._beating = self._loop.create_task(self._beat())

    def _listen(self, context: zmq.Context[Any], bind: str) -> LoopSocket:
        assert self._loop is not None
        socket = context.socket(zmq.ROUTER)
        _bound(socket)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(self._keys.curve))
        socket.setsockopt(zmq.ZAP_DOMAIN, b"kilonova")
        try:
            socket.bind(f"tcp://{bind}")
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise OSError(error.errno, f"cannot listen on {bind}: {error.strerror}") from None
        events = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._router_events = LoopSocket(events, self._loop, lambda _: self._probe_soon())
        return LoopSocket(socket, self._loop, self._from_dialler, self._dialler_gone)

    def _dial_enrolled(self) -> None:
        for link in self._links:
            record = self._directory.get(link.name)
            if link.socket is None and record is not None and record.role == "conductor":
                self._dial(link, record.curve)

    def _dial(self, link: Link, server_key: bytes) -> None:
        assert self._loop is not None and self._context is not None
        secret = z85.encode(self._keys.curve)
        socket = self._context.socket(zmq.DEALER)
        _bound(socket)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.RECONNECT_IVL, 100)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(secret))
        socket.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(server_key))
        socket.connect(f"tcp://{link.address}")
        events = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        link.events = LoopSocket(events, self._loop, lambda _: self._disconnected(link))
        link.socket = LoopSocket(socket, self._loop, lambda parts: self._from_link(link, parts))

    async def stop(self) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        await super().stop()
        for link in self._links:
            link.send(BYE)
        for dialler in self._diallers.values():
            dialler.send(BYE)
        ours = [socket for link in self._links for socket in (link.events, link.socket)]
        for socket in (*ours, self._router_events, self._router, self._allow):
            if socket is not None:
                socket.close()
        if self._context is not None:
            await _terminated(self._context)
        self._context = None

    def _who(self, curve: bytes) -> str | None:
        found = self._directory.by_curve(curve)
        if found is None and self._directory.refresh():
            found = self._directory.by_curve(curve)
        return found

    # -- liveness

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        ping_at = 0.0
        while True:
            now = loop.time()
            if now >= ping_at:
                ping_at = now + BEAT_SECONDS
                if self._directory.refresh():
                    self._drop_revoked()
                    self._dial_enrolled()
                for dialler in [d for d in self._diallers.values() if now - d.heard > self._dead]:
                    self._forget(dialler)
                for link in self._links:
                    if link.up:
                        link.send(PING)
            for link in self._links:
                if link.up and now - link.heard > self._dead:
                    self._down(link)
                if not link.up:
                    self._introduce(link)
            waiting = any(not link.up for link in self._links)
            self._look_at_links.clear()
            try:
                async with asyncio.timeout(HELLO_SECONDS if waiting else max(0.01, ping_at - loop.time())):
                    await self._look_at_links.wait()
            except TimeoutError:
                pass

    def _drop_revoked(self) -> None:
        for dialler in list(self._diallers.values()):
            if dialler.name and self._directory.get(dialler.name) is None:
                log.warning("%s is no longer enrolled", dialler.name)
                self._forget(dialler)

    def _disconnected(self, link: Link) -> None:
        if link.up:
            self._down(link)
        self._look_at_links.set()

    def _down(self, link: Link) -> None:
        link.up = False
        log.info("conductor %s is away", link.name)
        self._fail_pending(lambda name: name == link.name)

    def _probe_soon(self) -> None:
        """Somebody hung up; ZeroMQ does not say who, but a send to nobody tells."""
        if not self._probing and self._loop is not None:
            self._probing = True
            self._loop.call_later(PROBE_SECONDS, self._probe)

    def _probe(self) -> None:
        self._probing = False
        for dialler in self._diallers.values():
            dialler.send(PONG)

    def _dialler_gone(self, address: bytes) -> None:
        dialler = self._diallers.get(address)
        if dialler is not None:
            self._forget(dialler)

    def _forget(self, dialler: Dialler) -> None:
        self._diallers.pop(dialler.address, None)
        for host in dialler.hosts:
            if self._host_diallers.get(host) is dialler:
                del self._host_diallers[host]
        self._fail_pending(lambda name: name == dialler.name)

    # -- introductions

    def _introduction(self, to: str, to_incarnation: str) -> bytes:
        topics = (*(f"w:{t}" for t in self._wakes), *(f"f:{t}" for t in self._fanouts))
        hello = Hello((VERSION, VERSION), tuple(self._hosts), topics)
        return self.sealed(Kind.HELLO, payload=encode(hello), to=to, to_incarnation=to_incarnation)

    def _introduce(self, link: Link) -> None:
        if link.socket is not None:
            link.send(self._introduction(link.name, ""))

    def _hello(self, envelope: Envelope, member: Member, peer: Peer) -> None:
        try:
            hello = _hello.decode(envelope.payload)
        except ValueError:
            self.refused["malformed"] += 1
            return
        if envelope.to != self.identity.name or not hello.versions[0] <= VERSION <= hello.versions[1]:
            self.refused["stray"] += 1
            log.warning("hello of %s for %s, versions %s: refused", envelope.sender, envelope.to, hello.versions)
        elif isinstance(peer, Link):
            self._link_is_up(peer, envelope, hello)
        elif isinstance(peer, Dialler):
            self._dialler_is_known(peer, envelope, member, hello)

    def _link_is_up(self, link: Link, envelope: Envelope, hello: Hello) -> None:
        if envelope.sender != link.name or envelope.to_incarnation != self.identity.incarnation:
            self.refused["stray"] += 1
            return
        if link.up and link.incarnation != envelope.incarnation:
            self._down(link)
        fresh = not link.up
        link.incarnation, link.up = envelope.incarnation, True
        link.topics = frozenset(hello.topics)
        if fresh:
            self._reconnected()

    def _dialler_is_known(self, dialler: Dialler, envelope: Envelope, member: Member, hello: Hello) -> None:
        for old in [d for d in self._diallers.values() if d.name == envelope.sender and d is not dialler]:
            self._forget(old)
        hosts = tuple(
            host for host in hello.hosts if member.role == "host" and self._may_be(envelope.sender, member, host)
        )
        if len(hosts) < len(hello.hosts):
            self.refused["forbidden"] += 1
            log.warning("%s says it is hosts that it is not enrolled for", envelope.sender)
        for host in dialler.hosts:
            if self._host_diallers.get(host) is dialler:
                del self._host_diallers[host]
        dialler.name, dialler.incarnation, dialler.role = envelope.sender, envelope.incarnation, member.role
        dialler.hosts, dialler.topics = hosts, frozenset(hello.topics)
        for host in hosts:
            self._host_diallers[host] = dialler
        dialler.send(self._introduction(dialler.name, dialler.incarnation))

    @staticmethod
    def _may_be(sender: str, member: Member, host: str) -> bool:
        return host == sender or matches(host, member.speaks_for)

    def _handlers_changed(self) -> None:
        if self._context is None:
            return
        for link in self._links:
            if link.up:
                self._introduce(link)
        for dialler in self._diallers.values():
            if dialler.role == "conductor":
                dialler.send(self._introduction(dialler.name, dialler.incarnation))

    def _host_added(self, host: str) -> None:
        if self._context is not None and self._loop is not None and not self._announcing:
            self._announcing = True
            self._loop.call_soon(self._announce)

    _announcing = False

    def _announce(self) -> None:
        self._announcing = False
        self._handlers_changed()

    # -- frames

    def _from_link(self, link: Link, parts: list[bytes]) -> None:
        assert self._loop is not None
        data = parts[-1]
        link.heard = now = self._loop.time()
        if data == WHO:
            if link.up:
                self._down(link)
            self._introduce(link)
        elif data == BYE:
            if link.up:
                self._down(link)
        elif data != PONG:
            self.receive(data, link, now)

    def _from_dialler(self, parts: list[bytes]) -> None:
        assert self._loop is not None and self._router is not None
        if len(parts) != 2:
            self.refused["malformed"] += 1
            return
        address, data = parts
        now = self._loop.time()
        dialler = self._diallers.get(address)
        if dialler is None:
            if data == BYE:
                return
            dialler = Dialler(address, self._router)
            self.receive_introduction(dialler, data, now)
            return
        dialler.heard = now
        if data == PING:
            dialler.send(PONG)
        elif data == BYE:
            self._forget(dialler)
        else:
            self.receive(data, dialler, now)

    def receive_introduction(self, dialler: Dialler, data: bytes, now: float) -> None:
        """Take the first frame of an unknown connection: a HELLO makes it known, anything else is asked who it is."""
        if not data.startswith(b"\0"):
            self.receive(data, dialler, now)
        if dialler.name:
            dialler.heard = now
            self._diallers[dialler.address] = dialler
        else:
            dialler.send(WHO)

    # -- routes

    def _host_peer(self, host: str) -> Dialler | None:
        return self._host_diallers.get(host)

    def _conductor_peer(self, kind: Kind, method: str) -> Link | None:
        up = [link for link in self._links if link.up]
        if not up:
            return None
        if kind is Kind.REPORT and self._reported is not None and self._reported.up:
            return self._reported  # who was told before knows what the next report leaves out
        self._turn += 1
        link = up[self._turn % len(up)]
        if kind is Kind.REPORT:
            self._reported = link
        return link

    def _spread(self, kind: Kind, topic: str, data: bytes) -> None:
        if self._bind is None:
            link = self._conductor_peer(kind, topic)
            if link is not None:
                link.send(data)
            return
        self._hand_down(_mark(kind, topic), data, None)
        self._hand_over(_mark(kind, topic), data)

    def _relay(self, envelope: Envelope, data: bytes, peer: Peer) -> None:
        if isinstance(peer, Dialler) and peer.role != "conductor":
            mark = _mark(envelope.kind, envelope.name)
            self._hand_down(mark, data, peer)
            self._hand_over(mark, data)

    def _hand_down(self, mark: str, data: bytes, source: Dialler | None) -> None:
        for dialler in self._diallers.values():
            if dialler is not source and dialler.role != "conductor" and mark in dialler.topics:
                dialler.send(data)

    def _hand_over(self, mark: str, data: bytes) -> None:
        for link in self._links:
            if link.up and mark in link.topics:
                link.send(data)


def _mark(kind: Kind, topic: str) -> str:
    return f"w:{topic}" if kind is Kind.WAKE else f"f:{topic}"


def _bound(socket: zmq.Socket[bytes]) -> None:
    """Set what holds for every socket."""
    socket.setsockopt(zmq.SNDHWM, QUEUE)
    socket.setsockopt(zmq.RCVHWM, QUEUE)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD + OVERHEAD)
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.LINGER, 100)


async def _terminated(context: zmq.Context[Any]) -> None:
    """Wait for ZeroMQ to let go of its ports, off the loop (it blocks), for at most 1.5 s."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    def work() -> None:
        context.term()
        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            pass  # the loop has ended; nobody waits

    threading.Thread(target=work, name="zmq-term", daemon=True).start()
    try:
        await asyncio.wait_for(done, 1.5)
    except TimeoutError:
        log.warning("ZeroMQ did not end in time")
