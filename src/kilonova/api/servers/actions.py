"""POST /servers/{id}/action: one declaration and one function an action."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from kilonova.api.microversion.fields import Body, In
from kilonova.api.microversion.schemas import ANY, MAX_INT, obj
from kilonova.api.microversion.version import LATEST
from kilonova.api.operation import WEIGHED, Call, operation
from kilonova.api.servers.admitting import act, admission, delete_server, finish
from kilonova.api.servers.finding import find, missing
from kilonova.db.database import Tx
from kilonova.db.queries.admission import Admission, record_action, reset_state
from kilonova.db.queries.server_state import change
from kilonova.db.statement import Value
from kilonova.http.errors import Conflict, NotFound
from kilonova.model.command import ConsoleArgs, ConsoleOutput, Method
from kilonova.model.operation import RebootInputs, ServerInputs, StopInputs
from kilonova.model.state_machine import DELETE, HARD_REBOOT, SOFT_REBOOT, START, STOP

_ON_SERVER = "os_compute_api:servers:"
_encode = msgspec.json.Encoder().encode


def _body(name: str, *rules: In) -> Body:
    spanned = [In(each.schema, each.since or 1, each.until or LATEST, True) for each in rules]
    return Body([(name, each) for each in spanned])


async def start(call: Call) -> None:
    found_id = call.params["server_id"]
    await act(call, _ON_SERVER + "start", START, ServerInputs(server=found_id.lower()))


async def stop(call: Call) -> None:
    inputs = StopInputs(server=call.params["server_id"].lower(), graceful_s=call.services.settings.stop_graceful_s)
    await act(call, _ON_SERVER + "stop", STOP, inputs)


async def reboot(call: Call) -> None:
    kind = call.body["reboot"]["type"].upper()
    inputs = RebootInputs(server=call.params["server_id"].lower(), kind=kind)
    await act(call, _ON_SERVER + "reboot", HARD_REBOOT if kind == "HARD" else SOFT_REBOOT, inputs)


async def force_delete(call: Call) -> None:
    await delete_server(call, "os_compute_api:os-deferred-delete:force", force=True)


class _Setting(Struct, frozen=True):
    asked: Admission
    fields: dict[str, Value]
    action: str


async def _set(tx: Tx, setting: _Setting) -> bool:
    if not await change(tx, setting.asked.server, setting.fields, setting.asked.now):
        return False
    await record_action(tx, setting.asked, setting.action)
    return True


async def _record(call: Call, rule: str, fields: dict[str, Value], action: str) -> None:
    """Change a row at once and note the action."""
    found = await find(call, rule)
    if found.database is None:
        raise Conflict(f"Instance {found.server.uuid} is not ready")
    asked = admission(call, found, DELETE, None)
    if not await found.database.write(_set, _Setting(asked, fields, action)):
        raise missing(found.server.uuid)


async def lock(call: Call) -> None:
    found = await find(call, "os_compute_api:os-lock-server:lock")
    body = call.body["lock"]
    reason = body.get("locked_reason") if isinstance(body, dict) else None
    own = call.creds.project_id == found.server.project_id
    by = "owner" if own and not call.policy.is_admin(call.creds) else "admin"
    fields: dict[str, Value] = {"locked_by": by, "locked_reason": reason}
    await _record(call, "os_compute_api:os-lock-server:lock", fields, "lock")


async def unlock(call: Call) -> None:
    found = await find(call, "os_compute_api:os-lock-server:unlock")
    if found.server.locked_by == "admin":
        call.authorize("os_compute_api:os-lock-server:unlock:unlock_override", found.target)
    await _record(
        call, "os_compute_api:os-lock-server:unlock", {"locked_by": None, "locked_reason": None}, "unlock"
    )


class _Reset(Struct, frozen=True):
    asked: Admission
    vm_state: str


async def _reset(tx: Tx, reset: _Reset) -> Any:
    return await reset_state(tx, reset.asked, reset.vm_state)


async def set_state(call: Call) -> None:
    found = await find(call, "os_compute_api:os-admin-actions:reset_state")
    if found.database is None:
        raise Conflict(f"Instance {found.server.uuid} is not ready")
    asked = admission(call, found, DELETE, None)
    finish(call, asked, await found.database.write(_reset, _Reset(asked, call.body["os-resetState"]["state"])))


async def console_output(call: Call) -> Any:
    found = await find(call, "os_compute_api:os-console-output")
    server = found.server
    if server.host is None:
        raise Conflict(f"Instance {server.uuid} is not ready")
    asked = (call.body["os-getConsoleOutput"] or {}).get("length")
    # -1 and nothing mean all there is.
    lines = int(asked) if asked is not None and int(asked) >= 0 else None
    args = _encode({"server": server.uuid, **msgspec.to_builtins(ConsoleArgs(lines=lines))})
    try:
        raw = await call.services.call_host(server.host, Method.CONSOLE, args)
    except ConnectionError:
        raise Conflict(f"The host of instance {server.uuid} cannot be asked now; try again") from None
    except LookupError:
        raise NotFound(f"Unable to get console for instance {server.uuid}") from None
    output = msgspec.json.decode(raw, type=ConsoleOutput).output
    if lines is not None:
        # A line break at the end begins one more line.
        output = "\n".join(output.split("\n")[-lines:]) if lines else ""
    return {"output": output}


_LENGTH = {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$", "minimum": -1, "maximum": MAX_INT,
           "format": "number>=-1"}  # fmt: skip


def _action(name: str, function: Any, *rules: In, code: int = 202, also: bool = False) -> list[Any]:
    """`also`: under /os-volumes_boot as well, where it was the servers' own action."""
    paths = [("/servers", LATEST)] + ([("/os-volumes_boot", 102)] if also else [])
    return [
        operation(
            "POST", f"{path}/{{server_id}}/action", WEIGHED, action=name, body=_body(name, *rules), success=code,
            until=until,
        )(function)
        for path, until in paths
    ]  # fmt: skip


OPERATIONS = (
    *_action("os-start", start, In(ANY), also=True),
    *_action("os-stop", stop, In(ANY), also=True),
    *_action(
        "reboot", reboot,
        In(obj(("type",), type={"type": "string", "enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]})),
        also=True,
    ),
    *_action("forceDelete", force_delete, In(ANY)),
    *_action(
        "lock", lock,
        In(ANY, until=72),
        In({"type": ["object", "null"], "properties": {"locked_reason": {"type": "string", "minLength": 1,
           "maxLength": 255}}, "additionalProperties": False}, since=73),
    ),
    *_action("unlock", unlock, In(ANY)),
    *_action("os-resetState", set_state, In(obj(("state",), state={"type": "string", "enum": ["active", "error"]}))),
    *_action(
        "os-getConsoleOutput", console_output,
        In({"type": "object", "properties": {"length": _LENGTH}, "additionalProperties": False}), code=200,
    ),
)  # fmt: skip
