"""/resource_providers/{uuid}/usages and /usages: how much is taken."""

from __future__ import annotations

from typing import Any

from kilonova.db.queries import placement_api as sql
from kilonova.db.statement import Value
from kilonova.http.errors import BadRequest, Forbidden
from kilonova.http.message import Request, Response
from kilonova.placement.handlers.context import Context
from kilonova.placement.wire import MISSING_VALUE, answer, known_query, no_query

_EMPTY = "the value is too short. Failed validating 'minLength' in schema"


async def of_provider(request: Request, context: Context) -> Response:
    no_query(request)
    provider = await context.provider(request.params["uuid"])
    rows = await context.db.fetch(sql.INVENTORIES, {"uuid": provider[0]})
    body = {"resource_provider_generation": provider[4], "usages": {row[0]: row[7] for row in rows}}
    return answer(request, body, provider[5])


async def of_project(request: Request, context: Context) -> Response:
    names = ("project_id", "user_id") + (("consumer_type",) if request.version >= 38 else ())
    query = known_query(request, names, names)
    if not query.get("project_id", [""])[0]:
        missing = "'project_id' is a required property"
        raise BadRequest(
            f"Invalid query string parameters: {missing if 'project_id' not in query else _EMPTY}", code=MISSING_VALUE
        )
    if "user_id" in query and not query["user_id"][0]:
        raise BadRequest(f"Invalid query string parameters: {_EMPTY}")
    if any(len(query.get(name, [""])[0]) > 255 for name in ("project_id", "user_id")):
        raise BadRequest(
            "Invalid query string parameters: the value is too long. Failed validating 'maxLength' in schema"
        )
    creds = request.credentials
    project = query["project_id"][0]
    if "admin" not in creds.roles and "service" not in creds.roles and creds.project_id != project:
        raise Forbidden("Usages of another project are not shown.")
    params: dict[str, Value] = {"project_id": project}
    user = query.get("user_id")
    if user:
        params["user_id"] = user[0]
    rows = await context.db.scan(sql.USER_USAGE if user else sql.USAGE, params, list)
    kinds: dict[str, dict[str, Any]] = {}
    asked = query.get("consumer_type", [None])[0]
    grouped = request.version >= 38 and asked != "all"
    counts = await context.db.fetch(sql.USER_CONSUMER_COUNT if user else sql.CONSUMER_COUNT, params)
    for kind, count in counts:
        into = kinds.setdefault((kind or "unknown") if grouped else "all", {"consumer_count": 0})
        into["consumer_count"] += count
    for kind, name, amount in rows:
        into = kinds[(kind or "unknown") if grouped else "all"]
        into[name] = into.get(name, 0) + amount
    if request.version < 38:
        usages: dict[str, Any] = {k: v for k, v in kinds.get("all", {}).items() if k != "consumer_count"}
    elif asked is not None:
        usages = {asked: kinds[asked]} if asked in kinds else {}
    else:
        usages = kinds
    return answer(request, {"usages": usages})
