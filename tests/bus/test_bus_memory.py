"""The faults a test may order from the memory hub, and what they may not break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from bus_worlds import until
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.bus.api import BusError, Result, Sender, Unknown
from kilonova.bus.envelope import Kind, ReplayGuard, identity, join
from kilonova.bus.memory import Faults, MemoryBus, MemoryHub


@pytest.fixture
async def hub() -> AsyncIterator[MemoryHub]:
    made = MemoryHub()
    yield made
    for bus in list(made.buses.values()):
        await bus.stop()


async def start(hub: MemoryHub, name: str, role: str) -> MemoryBus:
    bus = MemoryBus(hub, identity(name, role))
    await bus.start()
    return bus


async def run_calls(hub: MemoryHub, calls: int, ttl: float) -> tuple[list[bytes], list[str]]:
    """Return (what the host did, how each call ended)."""
    conductor, host = await start(hub, "conductor-1", "conductor"), await start(hub, "host-1", "host")
    done: list[bytes] = []

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        done.append(payload)
        return Result(payload)

    host.serve("host-1", handler)
    ends: list[str] = []
    for number in range(calls):
        try:
            await conductor.call("host-1", "x", b"%d" % number, ttl=ttl)
            ends.append("ok")
        except BusError as error:
            ends.append(type(error).__name__)
    return done, ends


async def test_drops_are_unknown_and_repeat_from_their_seed() -> None:
    runs = []
    for _ in range(2):
        hub = MemoryHub(Faults(seed=7, drop=0.3))
        runs.append(await run_calls(hub, 40, 0.02))
        for bus in list(hub.buses.values()):
            await bus.stop()
    assert runs[0] == runs[1]
    done, ends = runs[0]
    assert 0 < ends.count("Unknown") < 40 and ends.count("ok") + ends.count("Unknown") == 40
    assert len(done) > ends.count("ok"), "some answers were lost after the effect"


async def test_doubled_frames_have_one_effect(hub: MemoryHub) -> None:
    hub.faults = Faults(seed=1, double=1.0)
    done, ends = await run_calls(hub, 20, 1.0)
    assert done == [b"%d" % n for n in range(20)] and ends == ["ok"] * 20


async def test_late_beyond_its_ttl_has_no_effect(hub: MemoryHub) -> None:
    hub.faults = Faults(seed=3, delay=1.0, delay_max=0.2)
    done, ends = await run_calls(hub, 12, 0.05)
    assert "Unknown" in ends
    host = hub.buses["host-1"]
    await until(lambda: len(done) + host.refused["expired"] == 12)
    assert host.refused["expired"] > 0


async def test_a_cut_off_process_is_unreachable(hub: MemoryHub) -> None:
    conductor, host = await start(hub, "conductor-1", "conductor"), await start(hub, "host-1", "host")

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        return Result(b"")

    host.serve("host-1", handler)
    hub.cut.add("host-1")
    with pytest.raises(BusError):
        await conductor.call("host-1", "x", b"", ttl=1)
    hub.cut.clear()
    await conductor.call("host-1", "x", b"", ttl=1)


async def test_stop_ends_what_waits(hub: MemoryHub) -> None:
    conductor, host = await start(hub, "conductor-1", "conductor"), await start(hub, "host-1", "host")

    async def handler(sender: Sender, method: str, payload: bytes) -> Result:
        await asyncio.Event().wait()
        return Result(b"")

    host.serve("host-1", handler)
    call = asyncio.create_task(conductor.call("host-1", "x", b"", ttl=60))
    await until(lambda: host._tasks)
    await conductor.stop()
    with pytest.raises(Unknown):
        await call


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400), st.binary(max_size=3))
def test_no_bytes_upset_a_receiver(noise: bytes, at: int, patch: bytes) -> None:
    hub = MemoryHub()
    sender = MemoryBus(hub, identity("conductor-1", "conductor"))
    bus = MemoryBus(hub, identity("host-1", "host"))
    frame = bytearray(sender.sealed(Kind.CALL, name="x", payload=b"payload", to="host-1", exchange=1))
    frame[at : at + len(patch)] = patch
    for data in (noise, bytes(frame[:at]), bytes(frame)):
        bus.opened(data)
    signed = join(sender._trust.sign(noise), noise)
    assert bus.opened(signed) is None


def test_replay_guard_accepts_any_order_within_its_window_once() -> None:
    guard = ReplayGuard()
    order = [5, 3, 4, 1, 100, 2, 99, 4000, 60]
    assert all(guard.passes("a", "1", nonce) for nonce in order)
    assert not any(guard.passes("a", "1", nonce) for nonce in order)
    assert guard.passes("a", "1", 10_000)
    assert not guard.passes("a", "1", 10_000 - guard.WINDOW), "beyond the window everything counts as seen"
    assert guard.passes("a", "1", 10_001 - guard.WINDOW)
    assert guard.passes("a", "2", 5), "a restarted sender counts anew"
    assert guard.passes("b", "1", 5)


def test_replay_guard_forgets_old_lives() -> None:
    guard = ReplayGuard()
    for life in range(100):
        assert guard.passes("a", str(life), 1)
    assert len(guard._seen["a"]) == guard.INCARNATIONS
