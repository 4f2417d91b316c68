"""The state machine as a table: every status, every rule."""

from __future__ import annotations

import pytest

from kilonova.model import state_machine as m


@pytest.mark.parametrize(
    ("vm_state", "task_state", "shown"),
    [
        ("active", None, "ACTIVE"), ("active", "image_snapshot", "ACTIVE"), ("active", "rebooting", "REBOOT"),
        ("active", "reboot_started_hard", "HARD_REBOOT"), ("active", "updating_password", "PASSWORD"),
        ("active", "rebuild_spawning", "REBUILD"), ("active", "migrating", "MIGRATING"),
        ("active", "resize_finish", "RESIZE"), ("building", "spawning", "BUILD"), ("stopped", None, "SHUTOFF"),
        ("stopped", "powering-on", "SHUTOFF"), ("stopped", "resize_prep", "RESIZE"),
        ("stopped", "rebuilding", "REBUILD"), ("resized", None, "VERIFY_RESIZE"),
        ("resized", "resize_reverting", "REVERT_RESIZE"), ("paused", "migrating", "MIGRATING"),
        ("paused", None, "PAUSED"), ("suspended", None, "SUSPENDED"), ("rescued", None, "RESCUE"),
        ("error", None, "ERROR"), ("error", "rebuilding", "REBUILD"), ("deleted", None, "DELETED"),
        ("soft-delete", None, "SOFT_DELETED"), ("shelved", None, "SHELVED"),
        ("shelved_offloaded", "unshelving", "SHELVED_OFFLOADED"), ("odd", None, "UNKNOWN"),
    ],
)  # fmt: skip
def test_the_status_of_a_state(vm_state: str, task_state: str | None, shown: str) -> None:
    assert m.status(vm_state, task_state) == shown


_VM_STATES = (
    "active", "building", "paused", "suspended", "stopped", "rescued", "resized", "soft-delete", "deleted", "error",
    "shelved", "shelved_offloaded",
)  # fmt: skip
_TASKS = (
    None, "rebooting", "reboot_started_hard", "migrating", "rebuilding", "resize_prep", "powering-off", "spawning",
)  # fmt: skip


@pytest.mark.parametrize("shown", ["ACTIVE", "REBUILD", "RESIZE", "MIGRATING", "SHUTOFF", "ERROR", "HARD_REBOOT"])
def test_a_status_filter_means_the_states_that_show_it(shown: str) -> None:
    default, special, other = m.states_of(shown.lower())
    for vm_state in _VM_STATES:
        for task_state in _TASKS:
            pair = (vm_state, task_state)
            meant = pair in special or (vm_state in default and pair not in other)
            assert meant is (m.status(vm_state, task_state) == shown), pair


def test_an_unknown_status_means_nothing() -> None:
    assert m.states_of("nonsense") == ([], [], [])


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        (m.START, {"stopped"}), (m.STOP, {"active", "error"}), (m.SOFT_REBOOT, {"active"}),
        (m.HARD_REBOOT, {"active", "stopped", "paused", "suspended", "error"}), (m.DELETE, set(_VM_STATES)),
    ],
    ids=["start", "stop", "soft", "hard", "delete"],
)  # fmt: skip
def test_which_state_allows_which_action(rule: m.Rule, allowed: set[str]) -> None:
    for vm_state in _VM_STATES:
        server = m.Standing(
            uuid="u", vm_state=vm_state, task_state=None, locked_by=None, launched_at=1, host="h"
        )
        assert (m.refusal(rule, server, passes_lock=False) is None) is (vm_state in allowed)
