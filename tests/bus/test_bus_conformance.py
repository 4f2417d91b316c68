"""What every transport must hold. A new driver joins by one more world."""

from __future__ import annotations

import asyncio

import pytest
from bus_worlds import DEADLINE, MemoryWorld, World, until

from kilonova.bus.api import (
    MAX_PAYLOAD,
    Accepted,
    RemoteError,
    Result,
    Sender,
    TooLarge,
    Unknown,
    Unreachable,
)
from kilonova.bus.core import BusCore, Peer
from kilonova.bus.envelope import Kind, join, split


class Wire:
    """A peer that only notes what is sent to it."""

    def __init__(self, bus: BusCore) -> None:
        self.name, self.incarnation = bus.identity.name, bus.identity.incarnation
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True


def inject(bus: BusCore, data: bytes, peer: Peer, late: float = 0.0) -> None:
    """Put a frame into a bus as if it had come over the wire `late` seconds ago."""
    bus.receive(data, peer, asyncio.get_running_loop().time() - late)


async def pair(world: World) -> tuple[BusCore, BusCore]:
    return await world.bus("conductor-1", "conductor"), await world.bus("host-1", "host")


async def serve(world: World, host: BusCore, name: str, handler: object) -> None:
    host.serve(name, handler)  # type: ignore[arg-type]
    await asyncio.sleep(0)


async def reachable(conductor: BusCore, host: str) -> None:
    await until(lambda: conductor._host_peer(host) is not None)


async def test_call_gives_result_accepted_or_typed_error(world: World) -> None:
    conductor, host = await pair(world)

    async def handler(sender: Sender, method: str, payload: bytes) -> Accepted | Result:
        assert (sender.name, sender.role) == ("conductor-1", "conductor")
        if method == "echo":
            return Result(payload)
        if method == "slow":
            return Accepted()
        if method == "bug":
            raise ZeroDivisionError
        raise RemoteError("unknown_method", method)

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    assert await conductor.call("host-1", "echo", b"\x00\xff", ttl=DEADLINE) == Result(b"\x00\xff")
    assert await conductor.call("host-1", "slow", b"", ttl=DEADLINE) == Accepted()
    with pytest.raises(RemoteError) as caught:
        await conductor.call("host-1", "nothing", b"", ttl=DEADLINE)
    assert caught.value.code == "unknown_method"
    with pytest.raises(RemoteError) as caught:
        await conductor.call("host-1", "bug", b"", ttl=DEADLINE)
    assert (caught.value.code, caught.value.message) == ("internal", "ZeroDivisionError")


async def test_many_calls_at_once_keep_their_answers_apart(world: World) -> None:
    conductor, host = await pair(world)

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        await asyncio.sleep(0.001 * (int(payload) % 3))
        return Result(payload)

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    found = await asyncio.gather(*(conductor.call("host-1", "echo", b"%d" % n, ttl=DEADLINE) for n in range(300)))
    assert found == [Result(b"%d" % n) for n in range(300)]


async def test_unconnected_host_is_unreachable(world: World) -> None:
    conductor, _ = await pair(world)
    with pytest.raises(Unreachable):
        await conductor.call("host-9", "echo", b"", ttl=DEADLINE)


async def test_without_a_conductor_a_host_reaches_nobody(world: World) -> None:
    host = await world.bus("host-1", "host")
    with pytest.raises(Unreachable):
        await host.report("host-1", b"", ttl=DEADLINE)
    with pytest.raises(Unreachable):
        await host.ask("host-1", "secret", b"", ttl=DEADLINE)
    host.wake("operation.x", "1")


async def test_no_answer_in_time_is_unknown(world: World) -> None:
    conductor, host = await pair(world)
    never = asyncio.Event()

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        await never.wait()
        return Result(b"")

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    with pytest.raises(Unknown):
        await conductor.call("host-1", "echo", b"", ttl=0.05)


async def test_what_waited_longer_than_its_ttl_is_dropped_unread(world: World) -> None:
    conductor, host = await pair(world)
    ran = []

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        ran.append(method)
        return Result(b"")

    host.serve("host-1", handler)
    wire = Wire(conductor)
    frame = conductor.sealed(
        Kind.CALL, name="echo", ttl=1.0, to="host-1", to_incarnation=host.identity.incarnation, exchange=77
    )
    inject(host, frame, wire, late=1.5)
    await until(lambda: wire.sent)
    assert not ran and host.refused["expired"] == 1


async def test_oversize_is_refused_before_it_is_sent(world: World) -> None:
    conductor, host = await pair(world)

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        return Result(bytes(len(payload)))

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    largest = await conductor.call("host-1", "echo", bytes(MAX_PAYLOAD), ttl=DEADLINE)
    assert isinstance(largest, Result) and len(largest.payload) == MAX_PAYLOAD
    with pytest.raises(TooLarge):
        await conductor.call("host-1", "echo", bytes(MAX_PAYLOAD + 1), ttl=DEADLINE)


async def test_report_returns_when_the_handler_has(world: World) -> None:
    conductor, host = await pair(world)
    commit, order = asyncio.Event(), []

    async def handler(sender: Sender, payload: bytes) -> None:
        await commit.wait()
        order.append((sender.name, sender.role, payload))

    conductor.on_report(handler)
    report = asyncio.create_task(host.report("host-1", b"facts", ttl=DEADLINE))
    await asyncio.sleep(0.02)
    assert not report.done()
    commit.set()
    await report
    assert order == [("host-1", "host", b"facts")]


async def test_report_whose_handler_fails_is_for_the_sender_to_repeat(world: World) -> None:
    conductor, host = await pair(world)

    async def handler(sender: Sender, payload: bytes) -> None:
        if payload == b"who":
            raise RemoteError("unknown_members", "")
        raise OSError

    conductor.on_report(handler)
    with pytest.raises(RemoteError) as caught:
        await host.report("host-1", b"x", ttl=DEADLINE)
    assert caught.value.retry
    with pytest.raises(RemoteError) as caught:
        await host.report("host-1", b"who", ttl=DEADLINE)
    assert caught.value.code == "unknown_members"


async def test_ask_is_answered_and_the_answer_is_sealed(world: World) -> None:
    conductor, host = await pair(world)
    seen: list[bytes] = []
    original = conductor._reply
    conductor._reply = lambda to, peer, kind, payload: (seen.append(payload), original(to, peer, kind, payload))[1]  # type: ignore[method-assign]

    async def handler(sender: Sender, payload: bytes) -> bytes:
        return b"the password of " + payload + b" for " + sender.name.encode()

    conductor.answer("secret", handler)
    found = await host.ask("host-1", "secret", b"web", ttl=DEADLINE)
    assert found == b"the password of web for host-1"
    assert seen and all(b"password" not in payload for payload in seen)
    with pytest.raises(RemoteError) as caught:
        await host.ask("host-1", "other", b"", ttl=DEADLINE)
    assert caught.value.code == "unknown_method"


async def test_an_ask_is_answered_only_to_the_roles_it_names(world: World) -> None:
    conductor, host = await pair(world)
    api = await world.bus("api-1", "api")

    async def handler(sender: Sender, payload: bytes) -> bytes:
        return f"{sender.role} {sender.name}".encode()

    conductor.answer("for hosts", handler)
    conductor.answer("for both", handler, roles=("host", "api"))
    assert await host.ask("host-1", "for hosts", b"", ttl=DEADLINE) == b"host host-1"
    assert await api.ask("api-1", "for both", b"", ttl=DEADLINE) == b"api api-1"
    for method, name in (("for hosts", "api-1"), ("for both", "host-1")):
        with pytest.raises(RemoteError) as caught:
            await api.ask(name, method, b"", ttl=DEADLINE)
        assert caught.value.code == "forbidden"


async def test_sealed_answer_opens_only_for_its_asker_and_question(world: World) -> None:
    conductor, host = await pair(world)
    other = await world.bus("host-2", "host")
    sealed = conductor._trust.seal("host-1", b"secret", b"question 1")
    assert host._trust.open(sealed, b"question 1") == b"secret"
    for bus, context in ((other, b"question 1"), (host, b"question 2")):
        with pytest.raises(ValueError, match="not sealed"):
            bus._trust.open(sealed, context)


async def test_wakes_and_fanouts_reach_all_who_listen(world: World) -> None:
    conductor = await world.bus("conductor-1", "conductor")
    heard: list[tuple[str, object]] = []
    apis = [await world.bus(f"api-{n}", "api") for n in (1, 2)]
    for bus in (conductor, *apis):
        name = bus.identity.name
        bus.on_wake("operation.x", lambda subject, name=name: heard.append((name, subject)))
        bus.on_fanout("rows", lambda payload, name=name: heard.append((name, payload)))

    def say() -> bool:
        heard.clear()
        apis[0].wake("operation.x", "42")
        return True

    # subscriptions travel too: a wake is lossy until they are there
    async with asyncio.timeout(DEADLINE):
        while say():
            await asyncio.sleep(0.02)
            if len(heard) == 3:
                break
    assert sorted(heard) == [("api-1", "42"), ("api-2", "42"), ("conductor-1", "42")]
    heard.clear()
    conductor.fanout("rows", b"state")
    await until(lambda: len(heard) == 3)
    heard.clear()
    apis[1].wake("operation.y", "1")
    apis[1].fanout("rows", b"more")
    await until(lambda: len(heard) == 3)
    assert {payload for _, payload in heard} == {b"more"}


async def test_a_handler_that_fails_does_not_silence_the_next(world: World) -> None:
    conductor = await world.bus("conductor-1", "conductor")
    api = await world.bus("api-1", "api")
    heard: list[str] = []
    conductor.on_wake("operation.x", lambda subject: 1 // 0)  # type: ignore[arg-type,return-value]
    conductor.on_wake("operation.x", heard.append)
    api.wake("operation.x", "1")
    await until(lambda: heard)


async def test_only_conductors_command_hosts(world: World) -> None:
    await world.bus("conductor-1", "conductor")
    host = await world.bus("host-1", "host")
    ran = []

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        ran.append(sender)
        return Result(b"")

    host.serve("host-1", handler)
    for number, role in enumerate(("api", "host", "scheduler", "metadata", "console")):
        other = await world.bus(f"other-{number}", role)
        wire = Wire(other)
        frame = other.sealed(
            Kind.CALL, name="guest.destroy", to="host-1", to_incarnation=host.identity.incarnation, exchange=1
        )
        if isinstance(world, MemoryWorld):
            inject(host, frame, wire)
        else:
            host._directory.refresh()  # type: ignore[attr-defined]
            inject(host, frame, wire)
        await until(lambda wire=wire: wire.sent)
    assert not ran and host.refused["forbidden"] == 5


async def test_a_host_speaks_only_for_itself(world: World) -> None:
    conductor, host = await pair(world)
    heard: list[str] = []

    async def report(sender: Sender, payload: bytes) -> None:
        heard.append(sender.name)

    async def secret(sender: Sender, payload: bytes) -> bytes:
        heard.append(sender.name)
        return b"secret"

    conductor.on_report(report)
    conductor.answer("secret", secret)
    with pytest.raises(RemoteError) as caught:
        await host.report("host-2", b"", ttl=DEADLINE)
    assert caught.value.code == "forbidden"
    with pytest.raises(RemoteError) as caught:
        await host.ask("host-2", "secret", b"", ttl=DEADLINE)
    assert caught.value.code == "forbidden"
    api = await world.bus("api-1", "api")
    with pytest.raises(RemoteError) as caught:
        await api.report("api-1", b"", ttl=DEADLINE)
    assert caught.value.code == "forbidden"
    assert not heard


async def test_one_process_may_be_many_hosts(world: World) -> None:
    conductor = await world.bus("conductor-1", "conductor")
    sims = await world.bus("compute-1", "host", ("sim-*",))
    heard: list[Sender] = []

    async def report(sender: Sender, payload: bytes) -> None:
        heard.append(sender)

    def handler(name: str) -> object:
        async def answer(sender: Sender, method: str, payload: bytes) -> Result:
            return Result(name.encode())

        return answer

    conductor.on_report(report)
    names = [f"sim-{n}" for n in range(50)]
    for name in names:
        sims.serve(name, handler(name))  # type: ignore[arg-type]
    for name in names:
        await reachable(conductor, name)
        assert await conductor.call(name, "name", b"", ttl=DEADLINE) == Result(name.encode())
    await sims.report("sim-7", b"", ttl=DEADLINE)
    assert heard[0].name == "sim-7"
    assert heard[0].may_speak_for("sim-8") and not heard[0].may_speak_for("host-1")


async def test_forged_and_damaged_frames_are_dropped_unanswered(world: World) -> None:
    conductor, host = await pair(world)
    wire = Wire(conductor)
    good = conductor.sealed(Kind.CALL, name="echo", to="host-1", to_incarnation=host.identity.incarnation, exchange=1)
    signature, body = split(good)
    forged = join(bytes(len(signature)), body)
    altered = join(signature, body.replace(b"echo", b"kill"))
    for frame in (forged, altered):
        inject(host, frame, wire)
    assert host.refused["signature"] == 2
    for frame in (b"", b"\x40", b"\x01\x00", good[:30], bytes(500), join(signature, b"\xc1")):
        inject(host, frame, wire)
    assert host.refused["malformed"] + host.refused["signature"] == 8
    assert not wire.sent


async def test_one_may_not_sign_as_another(world: World) -> None:
    conductor, host = await pair(world)
    liar = await world.bus("host-2", "host")
    wire = Wire(liar)
    liar.identity = conductor.identity
    inject(
        host,
        liar.sealed(Kind.CALL, name="echo", to="host-1", to_incarnation=host.identity.incarnation, exchange=1),
        wire,
    )
    assert host.refused["signature"] == 1 and not wire.sent


async def test_a_role_is_what_is_enrolled_not_what_is_claimed(world: World) -> None:
    _, host = await pair(world)
    api = await world.bus("api-1", "api")
    if not isinstance(world, MemoryWorld):
        host._directory.refresh()  # type: ignore[attr-defined]
    from kilonova.bus.envelope import Identity

    api.identity = Identity(name="api-1", role="conductor", incarnation=api.identity.incarnation)
    wire = Wire(api)
    inject(
        host,
        api.sealed(Kind.CALL, name="x", to="host-1", to_incarnation=host.identity.incarnation, exchange=1),
        wire,
    )
    assert host.refused["forbidden"] == 1


async def test_a_frame_counts_once(world: World) -> None:
    conductor, host = await pair(world)
    ran = []

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        ran.append(payload)
        return Result(b"")

    host.serve("host-1", handler)
    frames = [
        conductor.sealed(
            Kind.CALL, name="x", payload=b"%d" % n, to="host-1",
            to_incarnation=host.identity.incarnation, exchange=1000 + n,
        )
        for n in range(5)
    ]  # fmt: skip
    wire = Wire(conductor)
    for frame in (*reversed(frames), *frames, *frames):
        inject(host, frame, wire)
    await until(lambda: len(wire.sent) == 5)
    assert sorted(ran) == [b"0", b"1", b"2", b"3", b"4"] and host.refused["replay"] == 10


async def test_a_frame_recorded_before_a_restart_is_worthless(world: World) -> None:
    conductor, host = await pair(world)
    frame = conductor.sealed(Kind.CALL, name="x", to="host-1", to_incarnation=host.identity.incarnation, exchange=9)
    await world.stop(host)
    reborn = await world.bus("host-1", "host")
    ran = []

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        ran.append(method)
        return Result(b"")

    reborn.serve("host-1", handler)
    wire = Wire(conductor)
    inject(reborn, frame, wire)
    await until(lambda: wire.sent)
    assert not ran and reborn.refused["stray"] == 1


async def test_a_restarted_peer_is_reached_again(world: World) -> None:
    conductor, host = await pair(world)

    async def first(sender: Sender, method: str, payload: bytes) -> Result:
        return Result(b"first")

    async def second(sender: Sender, method: str, payload: bytes) -> Result:
        return Result(b"second")

    host.serve("host-1", first)
    await reachable(conductor, "host-1")
    assert await conductor.call("host-1", "x", b"", ttl=DEADLINE) == Result(b"first")
    await world.stop(host)
    await until(lambda: conductor._host_peer("host-1") is None)
    with pytest.raises(Unreachable):
        await conductor.call("host-1", "x", b"", ttl=DEADLINE)
    reborn = await world.bus("host-1", "host")
    reborn.serve("host-1", second)
    await reachable(conductor, "host-1")
    assert await conductor.call("host-1", "x", b"", ttl=DEADLINE) == Result(b"second")


async def test_a_host_learns_that_its_conductor_came_back(world: World) -> None:
    conductor, host = await pair(world)
    came: list[int] = []
    host.on_reconnect(lambda: came.append(1))
    await world.stop(conductor)
    reborn = await world.bus("conductor-1", "conductor")
    await until(lambda: came)

    async def handler(sender: Sender, payload: bytes) -> None:
        pass

    reborn.on_report(handler)
    await host.report("host-1", b"all", ttl=DEADLINE)


async def test_what_waits_on_a_peer_that_goes_is_unknown_at_once(world: World) -> None:
    conductor, host = await pair(world)
    began = asyncio.Event()

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        began.set()
        await asyncio.Event().wait()
        return Result(b"")

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    call = asyncio.create_task(conductor.call("host-1", "x", b"", ttl=60))
    await began.wait()
    await world.stop(host)
    with pytest.raises(Unknown):
        async with asyncio.timeout(DEADLINE):
            await call


async def test_too_much_in_flight_is_refused_without_effect(world: World) -> None:
    conductor, host = await pair(world)
    host._inflight = 4
    ran, release = [], asyncio.Event()

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        ran.append(payload)
        await release.wait()
        return Result(b"")

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    calls = [asyncio.create_task(conductor.call("host-1", "x", b"", ttl=DEADLINE)) for _ in range(10)]
    await until(lambda: sum(call.done() for call in calls) == 6)
    release.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(one, Unreachable) for one in found) == 6
    assert len(ran) == 4


async def test_an_answer_by_somebody_else_is_ignored(world: World) -> None:
    conductor, host = await pair(world)
    other = await world.bus("host-2", "host")
    if not isinstance(world, MemoryWorld):
        conductor._directory.refresh()  # type: ignore[attr-defined]

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        exchange = next(iter(conductor._pending))
        inject(
            conductor,
            other.sealed(
                Kind.RESULT, payload=b"false", to="conductor-1",
                to_incarnation=conductor.identity.incarnation, exchange=exchange,
            ),
            Wire(other),
        )  # fmt: skip
        return Result(b"true")

    host.serve("host-1", handler)
    await reachable(conductor, "host-1")
    assert await conductor.call("host-1", "x", b"", ttl=DEADLINE) == Result(b"true")
    assert conductor.refused["stray"] == 1


async def test_a_newer_sender_may_say_more(world: World) -> None:
    from msgspec import msgpack

    conductor, _ = await pair(world)
    api = await world.bus("api-1", "api")
    if not isinstance(world, MemoryWorld):
        conductor._directory.refresh()  # type: ignore[attr-defined]
    heard: list[str] = []
    conductor.on_wake("t", heard.append)
    _, body = split(api.sealed(Kind.WAKE, name="t", payload=b"1"))
    longer = msgpack.encode([*msgpack.decode(body), "a field of tomorrow"])
    inject(conductor, join(api._trust.sign(longer), longer), Wire(api))
    assert heard == ["1"]
