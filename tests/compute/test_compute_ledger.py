"""The ledger's file: nothing acknowledged is lost, nothing damaged is believed, it does not grow for ever."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.compute.ledger import Ledger
from kilonova.model.command import Fence


def opened(path: Path, **options: Any) -> Ledger:
    ledger = Ledger(path, **options)
    ledger.open()
    return ledger


def state(ledger: Ledger) -> dict[tuple[str, str], Any]:
    return {
        subject: (entry.fence, dict(entry.results), set(entry.owed or ()), set(entry.begun or ()))
        for subject, entry in ledger.entries.items()
    }


async def step(ledger: Ledger, host: str, server: str, fence: Fence, key: str) -> None:
    ledger.lift(host, server, fence)
    await ledger.begin(host, server, key)


@pytest.mark.parametrize("durable", [True, False])
async def test_what_began_is_in_the_file_before_begin_returns(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "ledger.log"
    ledger = opened(path, durable=durable)
    await step(ledger, "h", "s", Fence(3, 1), "k")
    copy = tmp_path / "copy.log"
    copy.write_bytes(path.read_bytes())
    other = opened(copy)
    assert other.entry("h", "s").fence == Fence(3, 1)
    assert other.interrupted == [("h", "s", "k")]
    await other.close()
    await ledger.close()


async def test_incarnations_rise_even_if_the_clock_does_not(tmp_path: Path) -> None:
    path = tmp_path / "ledger.log"
    seen = []
    for _ in range(5):
        ledger = opened(path)
        seen.append(ledger.incarnation)
        await ledger.close()
    assert seen == sorted(set(seen))


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage"])
async def test_a_torn_tail_is_cut_off(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.log"
    ledger = opened(path)
    await step(ledger, "h", "s", Fence(1, 1), "first")
    ledger.finish("h", "s", "first", b"{}", owed=False)
    await asyncio.sleep(0)
    whole = path.stat().st_size
    await step(ledger, "h", "s", Fence(2, 1), "second")
    await ledger.close()
    data = bytearray(path.read_bytes())
    if damage == "cut":
        del data[-3:]
    elif damage == "flip":
        data[whole + 12] ^= 0x40
    else:
        data += os.urandom(50)
    path.write_bytes(bytes(data))
    again = opened(path)
    expected = Fence(2, 1) if damage == "garbage" else Fence(1, 1)
    assert again.entry("h", "s").fence == expected
    await step(again, "h", "s", Fence(5, 1), "third")
    await again.close()
    last = opened(path)
    assert last.entry("h", "s").fence == Fence(5, 1)
    await last.close()


async def test_a_later_operation_drops_the_results_of_earlier_ones(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "ledger.log", durable=False)
    await step(ledger, "h", "s", Fence(1, 1), "a")
    ledger.finish("h", "s", "a", b"{}", owed=True)
    await step(ledger, "h", "s", Fence(1, 2, 1), "a/undo")
    assert "a" in ledger.entry("h", "s").results
    await step(ledger, "h", "s", Fence(2, 1), "b")
    assert not ledger.entry("h", "s").results and not ledger.entry("h", "s").owed
    await ledger.close()


async def test_the_file_is_rewritten_before_it_grows_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "COMPACT_BYTES", 20_000)
    path = tmp_path / "ledger.log"
    for durable in (True, False):
        ledger = opened(path, durable=durable)
        for number in range(2000):
            await step(ledger, "h", f"s{number % 7}", Fence(number, 1), f"k{number}")
            ledger.finish("h", f"s{number % 7}", f"k{number}", b"{}" * 20, owed=number % 2 == 0)
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        before = state(ledger)
        await ledger.close()
        assert path.stat().st_size < 60_000
        again = opened(path)
        assert state(again) == before
        await again.close()
        path.unlink()


async def test_destroyed_servers_are_forgotten_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "COMPACT_BYTES", 10_000)
    monkeypatch.setattr(Ledger, "GONE_SECONDS", -1.0)
    path = tmp_path / "ledger.log"
    ledger = opened(path, durable=False)
    for number in range(500):
        await step(ledger, "h", f"s{number}", Fence(1, 1), "k")
        ledger.finish("h", f"s{number}", "k", b"{}", owed=False)
        ledger.gone("h", f"s{number}")
        await asyncio.sleep(0.0005)
    await step(ledger, "h", "s0", Fence(2, 1), "back")
    await ledger.close()
    assert len(ledger.entries) < 300
    again = opened(path)
    assert again.entry("h", "s0").fence == Fence(2, 1) and again.entry("h", "s0").gone_at is None
    await again.close()


async def test_a_write_that_fails_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.log"
    ledger = opened(path, durable=True)
    await step(ledger, "h", "s", Fence(1, 1), "a")
    size = path.stat().st_size
    real = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 10:
            return real(fd, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        await step(ledger, "h", "s", Fence(2, 1), "b")
    monkeypatch.undo()
    assert path.stat().st_size == size
    await step(ledger, "h", "s", Fence(2, 1), "b")
    await ledger.close()
    again = opened(path)
    assert again.entry("h", "s").fence == Fence(2, 1)
    await again.close()


Action = tuple[str, str, str, int, str]
actions = st.lists(
    st.tuples(
        st.sampled_from(["begin", "finish", "owed", "none", "ack", "forget", "forget all", "gone"]),
        st.sampled_from(["h1", "h2"]),
        st.sampled_from(["s1", "s2"]),
        st.integers(1, 4),
        st.sampled_from(["k1", "k2", "k3"]),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(actions)
def test_reading_back_gives_what_memory_held(tmp_path_factory: pytest.TempPathFactory, todo: list[Action]) -> None:
    async def play() -> None:
        path = tmp_path_factory.mktemp("ledger") / "ledger.log"
        ledger = opened(path, durable=False)
        for what, host, server, number, key in todo:
            entry = ledger.entries.get((host, server))
            if what == "begin":
                await step(ledger, host, server, Fence(number, 1), key)
            elif entry is None or key not in (entry.begun or ()) | entry.results.keys():
                continue
            elif what in ("finish", "owed"):
                ledger.finish(host, server, key, b'{"n":%d}' % number, owed=what == "owed")
            elif what == "none":
                if key not in entry.results:
                    ledger.finish(host, server, key, None, owed=False)
            elif what == "ack":
                ledger.acknowledge(host, server, key)
            elif what == "forget":
                ledger.forget(host, server, (key,))
            elif what == "forget all":
                ledger.forget(host, server)
            else:
                ledger.gone(host, server)
        before = state(ledger)
        await ledger.close()
        again = opened(path)
        assert state(again) == before
        await again.close()

    asyncio.run(play())
