"""Each filter by a table of cases."""

from __future__ import annotations

import pytest

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters import registry
from kilonova.scheduler.filters.image_properties import version_fits
from kilonova.scheduler.filters.per_host import PerHost
from kilonova.scheduler.filters.protocol import HostView
from scheduler.clouds import SMALL, X86, Host, build, choose, chosen, request

ARM = ("aarch64", "qemu", "hvm")
XEN = ("x86_64", "xen", "xen")


@pytest.mark.parametrize(
    ("host", "asked", "fits"),
    [
        (Host(1), {}, True),
        (Host(1, up=False), {}, False),
        (Host(1, disabled=True), {}, False),
        (Host(1, up=False), {"host": "h1"}, False),
        (Host(1, up=False), {"host": "h1", "force": True}, True),
        (Host(1), {"host": "h2"}, False),
        (Host(1), {"node": "h1"}, True),
        (Host(1), {"node": "h2"}, False),
        (Host(1), {"host": "h1", "node": "h2", "force": True}, False),
        (Host(1), {"zone": "nova"}, True),
        (Host(1), {"zone": "east"}, False),
        (Host(1, zone="east"), {"zone": "east"}, True),
        (Host(1, zone="east"), {"zone": "nova"}, False),
        (Host(1, zone="east"), {}, True),
        (Host(1, zone="east"), {"zone": "west", "host": "h1", "force": True}, True),
        (Host(1), {"cell": "cell1"}, True),
        (Host(1), {"cell": "cell2"}, False),
        (Host(1), {"exclude": frozenset({"host-0001"})}, False),
        (Host(1, memory_mb=512), {}, True),
        (Host(1, memory_mb=511), {}, False),
        (Host(1, memory_mb=511), {"host": "h1", "force": True}, False),
        (Host(1, used={"VCPU": 16}), {}, False),
        (Host(1, used={"VCPU": 20}), {}, False),
        (Host(1, max_unit={"MEMORY_MB": 511}), {}, False),
        (Host(1, rules={"MEMORY_MB": (1, 500)}), {}, False),
        (Host(1, rules={"MEMORY_MB": (1, 256)}), {}, True),
        (Host(1, rules={"MEMORY_MB": (513, 1)}), {}, False),
        (Host(1), {"resources": SMALL | {"VGPU": 1}}, False),
        (Host(1, traits=("A",)), {"required": frozenset({"A"})}, True),
        (Host(1, traits=("A",)), {"required": frozenset({"A", "B"})}, False),
        (Host(1), {"required": frozenset({"A"}), "host": "h1", "force": True}, False),
        (Host(1, traits=("A",)), {"forbidden": frozenset({"A"})}, False),
        (Host(1, traits=("A",)), {"forbidden": frozenset({"B"})}, True),
        (Host(1, traits=tuple(f"T{i:03d}" for i in range(130))), {"required": frozenset({"T000", "T127"})}, True),
        (Host(1, traits=tuple(f"T{i:03d}" for i in range(130))), {"forbidden": frozenset({"T129"})}, False),
        (Host(1), {"image": {"hw_architecture": "x86_64"}}, True),
        (Host(1), {"image": {"hw_architecture": "AMD64"}}, True),
        (Host(1), {"image": {"architecture": "aarch64"}}, False),
        (Host(1, supports=(X86, ARM)), {"image": {"hw_architecture": "arm64"}}, True),
        (Host(1, supports=(X86, ARM)), {"image": {"hw_architecture": "aarch64", "img_hv_type": "kvm"}}, False),
        (Host(1, supports=()), {"image": {"img_hv_type": "kvm"}}, False),
        (Host(1, supports=()), {"image": {"os_distro": "debian"}}, True),
        (Host(1, supports=(XEN,)), {"image": {"hw_vm_mode": "pv"}}, True),
        (Host(1), {"image": {"img_hv_type": "kvm", "img_hv_requested_version": ">=8.0,<9"}}, True),
        (Host(1), {"image": {"img_hv_type": "kvm", "img_hv_requested_version": ">8"}}, False),
        (Host(1), {"image": {"img_hv_requested_version": ">8"}}, True),
    ],
)
def test_a_host_passes(host: Host, asked: dict[str, object], fits: bool) -> None:
    # Beside it a host that must never be chosen, so that zones, traits and classes are known of some host.
    other = Host(
        2, zone="west", traits=("A", "B"), memory_mb=0, supports=(ARM, X86, XEN), used={"VCPU": 99}, cell="cell2"
    )
    assert chosen(choose(build([host, other]), request(**asked))) == (["h1"] if fits else [])


@pytest.mark.parametrize(
    ("version", "predicates", "fits"),
    [
        (6_002_000, "6.2", True),
        (6_002_000, "== 6.2.0", True),
        (6_002_001, "6.2", False),
        (6_002_001, ">6.2, <= 6.2.1", True),
        (6_002_001, "!=6.2.1", False),
        (6_002_001, "nonsense", False),
        (6_002_001, "", False),
    ],
)
def test_versions(version: int, predicates: str, fits: bool) -> None:
    assert version_fits(version, predicates) is fits


def test_the_explanation_counts_hosts_in_order() -> None:
    columns = build([
        Host(1, up=False), Host(2, zone="east"), Host(3, memory_mb=100), Host(4, disk_gb=0, traits=("GOLD",))
    ])  # fmt: skip
    choice = choose(columns, request(zone="nova"))
    assert not choice
    said = choice.explanation
    assert [(s.name, s.left) for s in said.steps] == [
        ("ComputeFilter", 3),
        ("AvailabilityZoneFilter (nova)", 2),
        ("CapacityFilter (VCPU)", 2),
        ("CapacityFilter (MEMORY_MB)", 1),
        ("CapacityFilter (DISK_GB)", 0),
    ]
    assert said.for_owner().startswith("No valid host was found. No host was left by CapacityFilter (DISK_GB).")
    assert not any(character.isdigit() for character in said.for_owner())
    assert "4 hosts; ComputeFilter: 3;" in said.for_admin()


def test_no_hosts_at_all() -> None:
    choice = choose(HostColumns(), request())
    assert choice.explanation.for_owner() == "No valid host was found. There are no compute hosts."


class OddOnly:
    name = "OddOnly"

    def passes(self, host: HostView, request: Request) -> bool:
        return int(host.host[1:]) % 2 == 1


class Broken:
    name = "Broken"

    def passes(self, host: HostView, request: Request) -> bool:
        raise RuntimeError("no idea")


@pytest.mark.parametrize(("inner", "left"), [(OddOnly(), [True, False, True]), (Broken(), [False] * 3)])
def test_a_filter_for_one_host_at_a_time(inner: OddOnly | Broken, left: list[bool]) -> None:
    columns = build([Host(1), Host(2), Host(3)])
    passing: Bools = columns.alive[:3].copy()
    PerHost(inner).narrow(columns, request(), passing, lambda what: True)
    assert passing.tolist() == left


def test_a_host_with_debts_takes_nothing_new_not_even_by_force() -> None:
    columns = build([Host(1), Host(2)])
    assert "DebtFilter" not in [step.name for step in choose(columns, request()).explanation.steps]
    columns.owing[columns.row[Host(1).uuid]] = True
    assert chosen(choose(columns, request())) == ["h2"]
    refused = choose(columns, request(host="h1", force=True))
    assert not refused
    assert "No host was left by DebtFilter." in refused.explanation.for_owner()


def test_filters_by_name() -> None:
    assert [f.name for f in registry.build(["ComputeFilter"])] == [
        "RequestedHostFilter", "DebtFilter", "ComputeFilter", "AvailabilityZoneFilter", "TraitsFilter", "CapacityFilter"
    ]  # fmt: skip
    with pytest.raises(registry.UnknownFilter, match="ComputeFliter"):
        registry.build(["ComputeFliter"])
