"""Turning an action into an admitted operation, or into the 409 that says why not."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.operation import Call
from kilonova.api.servers.finding import Found, find, locate, missing
from kilonova.db.queries.admission import Admission, Admitted, admit, admit_unplaced_delete
from kilonova.http.errors import Conflict
from kilonova.model.operation import ServerInputs
from kilonova.model.state_machine import DELETE, FORCE_DELETE, Rule, Standing, refusal

_encode = msgspec.json.Encoder().encode


def admission(call: Call, found: Found, rule: Rule, inputs: Any) -> Admission:
    """The request for an action as the database sees it."""
    return Admission(
        server=found.server.uuid, rule=rule, operation_id=call.services.new_id(), inputs=_encode(inputs),
        request_id=call.request.request_id, user_id=call.creds.user_id,
        project_id=call.creds.project_id or found.server.project_id,
        passes_lock=call.policy.is_admin(call.creds), now=call.services.clock(),
    )  # fmt: skip


async def act(call: Call, policy_rule: str, rule: Rule, inputs: Any) -> None:
    """Admit an action on a server that has a row. Raises NotFound, Forbidden, Conflict."""
    found = await find(call, policy_rule)
    if found.database is None:
        raise Conflict(_unplaced_refusal(found, rule))
    asked = admission(call, found, rule, inputs)
    outcome = await found.database.write(admit, asked)
    finish(call, asked, outcome)


def _unplaced_refusal(found: Found, rule: Rule) -> str:
    server = found.server
    standing = Standing(
        uuid=server.uuid, vm_state=server.vm_state, task_state=server.task_state, locked_by=server.locked_by,
        launched_at=None, host="?",
    )  # fmt: skip
    return refusal(rule, standing, passes_lock=True) or f"Instance {server.uuid} is not ready"


async def delete_server(call: Call, policy_rule: str, *, force: bool) -> None:
    """Admit a delete wherever the server is; a server placed between two looks is found at the next."""
    found: Found | None = await find(call, policy_rule)
    rule = FORCE_DELETE if force else DELETE
    uuid = found.server.uuid if found is not None else ""
    for _ in range(3):
        if found is None:
            raise missing(uuid)
        asked = admission(call, found, rule, ServerInputs(server=uuid))
        if found.database is None:
            # No operation is opened: `schedule` hands the server to a delete once it is in its cell.
            outcome = await call.services.databases.global_.write(admit_unplaced_delete, asked)
        else:
            outcome = await found.database.write(admit, asked)
            if not outcome.gone:
                return finish(call, asked, outcome)
        if outcome.refused is not None:
            raise Conflict(outcome.refused)
        if not outcome.gone:
            return None
        found = await locate(call.services, uuid)
    raise missing(uuid)


def finish(call: Call, asked: Admission, outcome: Admitted) -> None:
    """Turn an outcome into its answer, and wake whoever continues. Raises NotFound, Conflict."""
    if outcome.gone:
        raise missing(asked.server)
    if outcome.refused is not None:
        raise Conflict(outcome.refused)
    if not outcome.already:
        call.services.wake("operation", asked.operation_id)
