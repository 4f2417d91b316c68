"""States of a server: what a user sees of them, and which action is allowed in which.

Facts: Nova's vm_states, task_states and the API's checks (spec: state machine). Pure data and pure
functions; whoever changes a row asks here first and then changes it conditionally.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

ACTIVE, BUILDING, PAUSED, SUSPENDED = "active", "building", "paused", "suspended"
STOPPED, RESCUED = "stopped", "rescued"
RESIZED, SOFT_DELETED, DELETED, ERROR = "resized", "soft-delete", "deleted", "error"
SHELVED, SHELVED_OFFLOADED = "shelved", "shelved_offloaded"

DELETING = "deleting"

_REBUILD = ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning")
_RESIZE = ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish")

_DEFAULT: Mapping[str, str] = {
    ACTIVE: "ACTIVE", BUILDING: "BUILD", STOPPED: "SHUTOFF", RESIZED: "VERIFY_RESIZE", PAUSED: "PAUSED",
    SUSPENDED: "SUSPENDED", RESCUED: "RESCUE", ERROR: "ERROR", DELETED: "DELETED", SOFT_DELETED: "SOFT_DELETED",
    SHELVED: "SHELVED", SHELVED_OFFLOADED: "SHELVED_OFFLOADED",
}  # fmt: skip
_BY_TASK: Mapping[tuple[str, str], str] = {
    **{(ACTIVE, task): "REBOOT" for task in ("rebooting", "reboot_pending", "reboot_started")},
    **{(ACTIVE, task): "HARD_REBOOT" for task in ("rebooting_hard", "reboot_pending_hard", "reboot_started_hard")},
    (ACTIVE, "updating_password"): "PASSWORD",
    (ACTIVE, "migrating"): "MIGRATING",
    (PAUSED, "migrating"): "MIGRATING",
    (RESIZED, "resize_reverting"): "REVERT_RESIZE",
    **{(state, task): "REBUILD" for state in (ACTIVE, STOPPED, ERROR) for task in _REBUILD},
    **{(state, task): "RESIZE" for state in (ACTIVE, STOPPED) for task in _RESIZE},
}

SHOWS_PROGRESS = frozenset({"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"})
SHOWS_FAULT = frozenset({"ERROR", "DELETED"})


def status(vm_state: str, task_state: str | None) -> str:
    """The API's `status`; UNKNOWN for a vm_state nobody knows."""
    if task_state is not None:
        special = _BY_TASK.get((vm_state, task_state))
        if special is not None:
            return special
    return _DEFAULT.get(vm_state, "UNKNOWN")


def states_of(shown: str) -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """What a `status` filter means: (vm_states that show it by default, (vm_state, task_state) pairs that
    show it specially, pairs of those vm_states that show something else). All empty: no such status.
    """
    wanted = shown.upper()
    default = [state for state, name in _DEFAULT.items() if name == wanted]
    special = [pair for pair, name in _BY_TASK.items() if name == wanted and pair[0] not in default]
    other = [pair for pair, name in _BY_TASK.items() if name != wanted and pair[0] in default]
    return default, special, other


class Rule(Struct, frozen=True, kw_only=True):
    """When an action is allowed and what it sets."""

    name: str
    """As the API's messages call it."""
    vm_states: frozenset[str] | None
    """None: any."""
    task_states: frozenset[str | None] | None = frozenset({None})
    """None: any."""
    sets: str
    """The task_state while it runs."""
    action: str
    """In os-instance-actions."""
    story: str
    lock: bool = True
    """Refused for a locked server, unless by an admin."""
    launched: bool = True
    """Needs a server that was built once."""
    host: bool = True
    """Needs a server that is on a host."""
    takes_lane: bool = False
    """Supersedes every open operation of the server."""


_HARD = (
    None, "rebooting", "reboot_pending", "reboot_started", "resuming", "rebooting_hard", "unpausing", "pausing",
    "suspending",
)  # fmt: skip

START = Rule(name="start", vm_states=frozenset({STOPPED}), sets="powering-on", action="start", story="start")
STOP = Rule(name="stop", vm_states=frozenset({ACTIVE, ERROR}), sets="powering-off", action="stop", story="stop")
SOFT_REBOOT = Rule(
    name="reboot", vm_states=frozenset({ACTIVE}), sets="rebooting", action="reboot", story="reboot", host=False
)
HARD_REBOOT = Rule(
    name="reboot", vm_states=frozenset({ACTIVE, STOPPED, PAUSED, SUSPENDED, ERROR}), task_states=frozenset(_HARD),
    sets="rebooting_hard", action="reboot", story="reboot", host=False,
)  # fmt: skip
DELETE = Rule(
    name="delete", vm_states=None, task_states=None, sets=DELETING, action="delete", story="delete",
    launched=False, host=False, takes_lane=True,
)  # fmt: skip
FORCE_DELETE = Rule(
    name="forceDelete", vm_states=None, task_states=None, sets=DELETING, action="delete", story="delete",
    launched=False, host=False, takes_lane=True,
)  # fmt: skip


class Standing(Struct, frozen=True, kw_only=True):
    """What of a server's row decides."""

    uuid: str
    vm_state: str
    task_state: str | None
    locked_by: str | None
    launched_at: int | None
    host: str | None


def refusal(rule: Rule, server: Standing, *, passes_lock: bool) -> str | None:
    """Why `rule` is not allowed now, in the API's words; None when it is."""
    if rule.lock and server.locked_by is not None and not passes_lock:
        return f"Instance {server.uuid} is locked"
    if rule.host and server.host is None:
        return f"Instance {server.uuid} is not ready"
    if rule.vm_states is not None and server.vm_state not in rule.vm_states:
        return f"Cannot '{rule.name}' instance {server.uuid} while it is in vm_state {server.vm_state}"
    if rule.task_states is not None and server.task_state not in rule.task_states:
        return f"Cannot '{rule.name}' instance {server.uuid} while it is in task_state {server.task_state}"
    if rule.launched and server.launched_at is None:
        return f"Instance {server.uuid} is in an invalid state for '{rule.name}'"
    return None
