"""Which host is chosen, for one server and for many, against the rules applied one host at a time."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.scheduler.columns import HostColumns
from scheduler.clouds import SMALL, Host, build, choose, chosen, passes, request, score

TRAITS = ("A", "B", "C")
hosts = st.builds(
    Host,
    number=st.just(0),
    vcpus=st.integers(0, 8),
    memory_mb=st.integers(0, 16).map(lambda n: n * 256),
    disk_gb=st.integers(0, 20),
    used=st.fixed_dictionaries({"VCPU": st.integers(0, 4), "MEMORY_MB": st.integers(0, 2048)}),
    traits=st.lists(st.sampled_from(TRAITS), unique=True).map(tuple),
    zone=st.sampled_from((None, "east", "west")),
    up=st.integers(0, 9).map(bool),
    disabled=st.integers(0, 9).map(lambda n: n == 0),
)
clouds = st.lists(hosts, max_size=12)
requests = st.fixed_dictionaries(
    {
        "zone": st.sampled_from((None, None, "east", "nova", "nowhere")),
        "required": st.frozensets(st.sampled_from(TRAITS), max_size=2),
        "forbidden": st.frozensets(st.sampled_from(TRAITS), max_size=1),
        "resources": st.fixed_dictionaries(
            {"VCPU": st.integers(1, 4), "MEMORY_MB": st.integers(1, 6).map(lambda n: n * 256), "DISK_GB": st.just(1)}
        ),
        "seed": st.integers(0, 2**64),
    }
)


def numbered(cloud: list[Host]) -> list[Host]:
    for number, host in enumerate(cloud):
        host.number = number
    return cloud


@settings(max_examples=300, deadline=None)
@given(clouds, requests)
def test_the_choice_is_one_of_the_best_that_pass(cloud: list[Host], asked: dict[str, object]) -> None:
    columns = build(numbered(cloud))
    wanted = request(**asked)
    fit = [host for host in cloud if passes(host, wanted)]
    choice = choose(columns, wanted)
    assert bool(choice) == bool(fit)
    if choice.explanation.steps:
        assert (choice.explanation.steps[-1].left == 0) == (not fit)
    if fit:
        by_name = {host.name: host for host in fit}
        ones = {"VCPU": 1.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
        scores = {host.name: score(host, fit, ones) for host in fit}
        near = sum(
            wanted.resources[name] / spread
            for name in ones
            if (spread := max(h.free(name) for h in fit) - min(h.free(name) for h in fit))
        )
        place = choice.places[0]
        assert scores[place.host.host] >= max(scores.values()) - near / 2 - 1e-6
        assert choice.explanation.weights[0].score == pytest.approx(scores[place.host.host], abs=1e-5)
        names = [place.host.host, *(ref.host for ref in place.alternates)]
        assert set(names) <= by_name.keys()
        assert len(set(names)) == len(names) == min(3, len(fit))


@settings(max_examples=200, deadline=None)
@given(clouds, requests, st.integers(2, 12))
def test_many_fit_or_none_is_placed(cloud: list[Host], asked: dict[str, object], count: int) -> None:
    columns = build(numbered(cloud))
    wanted = request(*(f"s{i}" for i in range(count)), **asked)
    room = {
        host.name: min(host.free(name) // amount for name, amount in wanted.resources.items())
        for host in cloud
        if passes(host, wanted)
    }
    choice = choose(columns, wanted)
    assert bool(choice) == (sum(room.values()) >= count)
    if choice:
        assert [place.server for place in choice.places] == list(wanted.servers)
        for name, taken in Counter(chosen(choice)).items():
            assert taken <= room[name]
    elif room:
        assert choice.explanation.places == sum(room.values())


def take_all(columns: HostColumns, count: int, **weights: float) -> Counter[str]:
    return Counter(chosen(choose(columns, request(*(f"s{i}" for i in range(count))), **weights)))


def test_many_spread_evenly_over_equal_hosts() -> None:
    assert set(take_all(build([Host(i) for i in range(10)]), 30).values()) == {3}


def test_a_negative_multiplier_packs() -> None:
    packed = {"ram_weight_multiplier": -1.0, "cpu_weight_multiplier": -1.0, "disk_weight_multiplier": -1.0}
    found = take_all(build([Host(i) for i in range(10)]), 20, **packed)
    assert sorted(found.values()) == [4, 16]


def test_one_at_a_time_and_all_at_once_agree() -> None:
    cloud = [Host(i, memory_mb=4096 + 512 * (i % 4)) for i in range(8)]
    one = build(cloud)
    memory_only = {"cpu_weight_multiplier": 0.0, "disk_weight_multiplier": 0.0}
    single = Counter(chosen(choose(one, request(f"s{i}", seed=i), **memory_only))[0] for i in range(40))
    many = take_all(build(cloud), 40, **memory_only)
    memory = {host.name: host.memory_mb for host in cloud}
    for found in (single, many):
        left = [memory[name] - 512 * found[name] for name in memory]
        assert max(left) - min(left) <= 1024


def test_seeds_spread_over_equals() -> None:
    columns = build([Host(i) for i in range(20)])
    found = set()
    for seed in range(200):
        found.update(chosen(choose(columns, request(seed=seed))))
    assert len(found) == 20


def test_alternates_are_of_the_same_cell() -> None:
    columns = build([Host(i, cell=f"cell{i % 2}") for i in range(10)])
    for asked in (request(), request("s1", "s2", "s3")):
        for place in choose(columns, asked).places:
            assert len(place.alternates) == 2
            assert {ref.cell for ref in place.alternates} == {place.host.cell}


def test_places_are_held_until_refused_settled_or_late() -> None:
    host = Host(1, memory_mb=1024)
    columns = build([host])
    assert choose(columns, request("s1"))
    assert choose(columns, request("s2"))
    assert not choose(columns, request("s3"))
    assert choose(columns, request("s1"), now=1.0), "asking again gives the same place back first"
    columns.let_go("s2")
    assert choose(columns, request("s3"), now=2.0)
    host.used = {"MEMORY_MB": 512}
    columns.apply(host.state(2, ("s1",)))
    assert not choose(columns, request("s4"), now=3.0), "s1 is in the state now, s3 still held"
    assert choose(columns, request("s4"), now=12.5), "s3 was never claimed"


def test_news_of_others_keep_own_places_and_old_news_only_settle() -> None:
    host = Host(1, memory_mb=2048)
    columns = build([host])
    choose(columns, request("mine"))
    host.used = {"MEMORY_MB": 512, "VCPU": 1}
    columns.apply(host.state(3, ("theirs",)))
    assert columns.classes["MEMORY_MB"].free[0] == 1024
    columns.apply(host.state(2, ("mine",)))
    assert columns.classes["MEMORY_MB"].free[0] == 1536
    assert len(columns.holds) == 0


@pytest.mark.parametrize("strategy", ["filter", "chance", "zone", "simple"])
def test_strategies_choose_among_those_that_pass(strategy: str) -> None:
    columns = build([Host(i, zone=("east", "west")[i % 2], up=i != 3) for i in range(12)])
    for seed in range(30):
        choice = choose(columns, request(f"s{seed}", seed=seed, zone="west"), strategy)
        assert chosen(choice)[0] in {"h1", "h5", "h7", "h9", "h11"}


def test_the_zone_strategy_uses_every_zone() -> None:
    columns = build([Host(i, zone=("east", "west", "north")[i % 3]) for i in range(9)])
    found = {choose(columns, request(seed=seed), "zone").places[0].host.zone for seed in range(60)}
    assert found == {"east", "west", "north"}


def test_least_load_takes_the_emptiest() -> None:
    columns = build([Host(1, used={"VCPU": 4}), Host(2, used={"MEMORY_MB": 1024}), Host(3, used={"VCPU": 8})])
    assert chosen(choose(columns, request(), "simple")) == ["h2"]


def test_dropped_hosts_are_gone_and_their_rows_used_again() -> None:
    columns = build([Host(1), Host(2)])
    columns.drop_host("host-0001")
    assert chosen(choose(columns, request(host="h1"))) == []
    assert len(columns) == 1
    from scheduler.clouds import put

    put(columns, Host(3, memory_mb=512))
    assert columns.count == 2
    assert chosen(choose(columns, request(host="h3"))) == ["h3"]
    assert not choose(columns, request("other", host="h3", resources=SMALL))
