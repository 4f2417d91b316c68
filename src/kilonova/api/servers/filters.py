"""The filters of server lists: each is a condition on the cell's columns, a test in Python, or both.

The test decides for servers that have no row yet, and for filters that no database should run (regular
expressions, contents of JSON columns). Expressions run on a linear-time engine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import msgspec
from msgspec import Struct

from kilonova.api.microversion.validation import parse_time
from kilonova.db.statement import Value
from kilonova.http.errors import BadRequest
from kilonova.model.server import Server
from kilonova.model.state_machine import states_of, status

Test = Callable[[Server], bool]
_decode = msgspec.json.Decoder().decode


class Filter(Struct, frozen=True, kw_only=True):
    """One filter; without `sql` the test runs on every row."""

    test: Test
    sql: str | None = None
    params: dict[str, Value] = {}


def exact(column: str, values: list[str]) -> Filter:
    """The column is one of the values."""
    names = {f"{column}_{i}": value for i, value in enumerate(values)}
    wanted = frozenset(values)
    condition = " OR ".join(f"{column} = :{name}" for name in names)
    return Filter(sql=f"({condition})", params=dict(names), test=lambda v: getattr(v, column) in wanted)


def whole(column: str, values: list[str]) -> Filter:
    """The column is that number; a text that is none matches nothing."""
    wanted = {int(value) for value in values if value.isascii() and value.isdigit() and len(value) < 10}
    if not wanted:
        return NOTHING
    names = {f"{column}_{i}": value for i, value in enumerate(sorted(wanted))}
    condition = " OR ".join(f"{column} = :{name}" for name in names)
    return Filter(sql=f"({condition})", params=dict(names), test=lambda v: getattr(v, column) in wanted)


NOTHING = Filter(sql="1 = 0", test=lambda v: False)


def pattern(column: str, values: list[str]) -> Filter:
    """The column holds the last value, read as a regular expression."""
    text = values[-1]
    if not re.search(r"[\\^$.|?*+()\[\]{}]", text):
        escaped = text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
        lowered = text.lower()
        return Filter(
            sql=f"{column} LIKE :{column}_like ESCAPE '!'", params={f"{column}_like": f"%{escaped}%"},
            test=lambda v: lowered in (getattr(v, column) or "").lower(),
        )  # fmt: skip
    matches = _regex(text)
    return Filter(test=lambda v: matches(getattr(v, column) or ""))


def _regex(text: str) -> Callable[[str], bool]:
    if len(text) > 1000:
        raise BadRequest("A regular expression of a filter has at most 1000 characters.")
    try:
        validator = jsonschema_rs.Draft202012Validator(
            {"pattern": text}, pattern_options=jsonschema_rs.RegexOptions(size_limit=1 << 20)
        )
    except (ValueError, jsonschema_rs.ValidationError):
        raise BadRequest(f"Invalid filter: {text[:100]!r} is not a regular expression of the supported kind.") from None
    return validator.is_valid


def address(version: int, values: list[str]) -> Filter:
    """Some address of that IP version matches the expression."""
    matches = _regex(values[-1])

    def test(server: Server) -> bool:
        if server.addresses == "[]":
            return False
        return any(
            kind == version and matches(text)
            for port in _decode(server.addresses)
            for text, kind in (*port.get("ips", ()), *port.get("floating", ()))
        )

    return Filter(test=test)


def tags(mode: str, values: list[str]) -> Filter:
    """`mode`: tags, tags-any, not-tags, not-tags-any; values are comma separated."""
    wanted = frozenset(tag for value in values for tag in value.split(",") if tag)

    def test(server: Server) -> bool:
        has = frozenset(_decode(server.tags))
        found = wanted <= has if mode.endswith("tags") else bool(wanted & has)
        return found != mode.startswith("not-")

    return Filter(test=test)


def metadata(values: list[str]) -> Filter:
    """Every pair of a JSON object is in the server's metadata."""
    try:
        wanted = _decode(values[-1])
    except msgspec.DecodeError:
        wanted = None
    if not isinstance(wanted, dict):
        raise BadRequest("Invalid filter: metadata takes a JSON object.")
    return Filter(test=lambda v: wanted.items() <= _decode(v.metadata).items())


def shown_status(values: list[str]) -> Filter | None:
    """The API's status is one of the values; None: there is no such status."""
    arms: list[str] = []
    params: dict[str, Value] = {}
    wanted = frozenset(value.upper() for value in values)
    known = False

    def name(value: str) -> str:
        key = f"s{len(params)}"
        params[key] = value
        return ":" + key

    for value in wanted:
        default, special, other = states_of(value)
        known = known or bool(default or special)
        for state in default:
            apart = [task for vm_state, task in other if vm_state == state]
            if apart:
                listed = ", ".join(name(task) for task in apart)
                arms.append(f"(vm_state = {name(state)} AND COALESCE(task_state, '') NOT IN ({listed}))")
            else:
                arms.append(f"vm_state = {name(state)}")
        arms += [f"(vm_state = {name(state)} AND task_state = {name(task)})" for state, task in special]
    if not known:
        return None
    return Filter(
        sql=f"({' OR '.join(arms)})", params=params, test=lambda v: status(v.vm_state, v.task_state) in wanted
    )


def locked(values: list[str], truth: bool) -> Filter:
    """Locked or not."""
    return Filter(
        sql=f"locked_by IS {'NOT ' if truth else ''}NULL", test=lambda v: (v.locked_by is not None) is truth
    )


def changed(since: str | None, before: str | None) -> list[Filter]:
    """updated_at within the bounds, both included."""
    made: list[Filter] = []
    low = parse_time(since) if since is not None else None
    high = parse_time(before) if before is not None else None
    if low is not None and high is not None and low > high:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    if low is not None:
        made.append(Filter(sql="updated_at >= :since", params={"since": low}, test=lambda v: v.updated_at >= low))
    if high is not None:
        # A text without a fraction means the whole second.
        top = high + 999_999 if high % 1_000_000 == 0 else high
        made.append(Filter(sql="updated_at <= :before", params={"before": top}, test=lambda v: v.updated_at <= top))
    return made


def moment(column: str, values: list[str]) -> Filter:
    """A time column equals the value, to the second."""
    at = parse_time(values[-1])
    if at is None:
        return NOTHING
    low, high = at - at % 1_000_000, at - at % 1_000_000 + 999_999
    return Filter(
        sql=f"({column} >= :{column}_low AND {column} <= :{column}_high)",
        params={f"{column}_low": low, f"{column}_high": high},
        test=lambda v: low <= (getattr(v, column) or 0) <= high,
    )


Make = Callable[[list[str]], Any]
_TEXTS = {
    "name": "name", "display_name": "name", "hostname": "hostname", "key_name": "key_name", "node": "node",
    "flavor": "flavor_id", "reservation_id": "reservation_id", "availability_zone": "availability_zone",
    "description": "description", "display_description": "description", "locked_by": "locked_by",
    "root_device_name": "root_device_name", "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6",
}  # fmt: skip
_EXACTS = {
    "user_id": "user_id", "image": "image_id", "image_ref": "image_id", "vm_state": "vm_state",
    "task_state": "task_state", "host": "host", "uuid": "uuid",
}  # fmt: skip
_NUMBERS = {"launch_index": "launch_index", "power_state": "power_state", "progress": "progress"}
_MOMENTS = ("created_at", "launched_at", "terminated_at")


def _partial(make: Callable[[str, list[str]], Filter], column: str) -> Make:
    return lambda values: make(column, values)


MAKERS: dict[str, Make] = {
    **{name: _partial(pattern, column) for name, column in _TEXTS.items()},
    **{name: _partial(exact, column) for name, column in _EXACTS.items()},
    **{name: _partial(whole, column) for name, column in _NUMBERS.items()},
    **{name: _partial(moment, name) for name in _MOMENTS},
    **{name: _partial(tags, name) for name in ("tags", "tags-any", "not-tags", "not-tags-any")},
    "ip": lambda values: address(4, values),
    "ip6": lambda values: address(6, values),
    "metadata": metadata,
}
"""Filters by the query's names; the list's own parameters and `status`, `locked`, `config_drive` are not here."""
