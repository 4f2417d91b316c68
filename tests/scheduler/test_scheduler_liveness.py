"""Up and down by beats and the reader's own clock."""

from __future__ import annotations

from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.liveness import Liveness
from scheduler.clouds import Host, build, put


def cloud() -> HostColumns:
    return build([Host(i, up=False) for i in range(3)])


def test_beats_raise_and_silence_lowers() -> None:
    columns = cloud()
    live = Liveness(columns, down_after_s=10, grace_s=0)
    for i in range(3):
        live.watch(f"h{i}", 0.0)
    live.judge(0.0)
    assert columns.available[:3].tolist() == [False] * 3
    first, second = ("h0",), ("h1",)
    live.beat(first, "p0", 1, 1.0)
    live.beat(second, "p1", 1, 1.0)
    assert columns.available[:3].tolist() == [True, True, False]
    live.beat(first, "p0", 2, 9.0)
    live.beat(second, "p1", 1, 9.0)
    live.judge(11.5)
    assert columns.available[:3].tolist() == [True, False, False]
    live.beat(second, "another", 1, 12.0)
    assert live.is_up("h1", 12.0)
    assert columns.available[:3].tolist() == [True, True, False]


def test_grace_ends() -> None:
    columns = cloud()
    live = Liveness(columns, down_after_s=60, grace_s=5)
    live.watch("h0", 100.0)
    live.judge(104.9)
    assert columns.up[0]
    live.judge(105.1)
    assert not columns.up[0]


def test_goodbye_counts_at_once() -> None:
    columns = cloud()
    live = Liveness(columns)
    live.beat(("h0",), "p0", 7, 1.0)
    live.down("h0")
    assert not columns.available[0]
    assert not live.is_up("h0", 1.0)


def test_disabled_hosts_are_not_available_whatever_they_beat() -> None:
    columns = build([Host(1, disabled=True)])
    live = Liveness(columns)
    live.beat(("h1",), "p1", 1, 1.0)
    live.judge(2.0)
    assert columns.up[0]
    assert not columns.available[0]


def test_one_process_beats_for_many_and_for_hosts_that_come_later() -> None:
    columns = cloud()
    live = Liveness(columns, down_after_s=10, grace_s=0)
    members = ("h0", "h1", "h2", "h9")
    live.beat(members, "p", 1, 1.0)
    assert columns.available[:3].tolist() == [True] * 3
    put(columns, Host(9, up=False))
    live.watch("h9", 2.0)
    assert not live.is_up("h9", 2.0)
    live.beat(members, "p", 2, 2.0)
    assert live.is_up("h9", 2.0)
    live.judge(13.0)
    assert not columns.available.any()
