"""/servers/{id}/metadata and /servers/{id}/tags: small JSON columns, changed under the row's generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import Body, In
from kilonova.api.operation import WEIGHED, Call, operation
from kilonova.api.servers.finding import find, missing
from kilonova.db.database import Tx
from kilonova.db.queries.server_state import change, load
from kilonova.http.errors import BadRequest, Conflict, Forbidden, HttpError, NotFound
from kilonova.http.message import Response, empty
from kilonova.model.server import Server

_META = "os_compute_api:server-metadata:"
_TAGS = "os_compute_api:os-server-tags:"
_META_PATH, _TAGS_PATH = "/servers/{server_id}/metadata", "/servers/{server_id}/tags"
_VALUE = {"type": "string", "maxLength": 255}
_WHOLE = Body([("metadata", In(s.METADATA, 1, 104, True))])
_ITEM = Body(
    [("meta", In({**s.METADATA, "minProperties": 1, "maxProperties": 1}, 1, 104, True))]
)
_TAG_LIST = Body([("tags", In(s.TAGS, 1, 104, True))])
_MOST_TAGS = 50
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
# Nova's table for metadata: not while shelved, suspended states and so on; tags only ask for a settled server.
_META_STATES = frozenset({"active", "paused", "suspended", "stopped"})
_TAG_STATES = frozenset({"active", "paused", "suspended", "stopped"})


class _Edit(Struct, frozen=True):
    server: str
    column: str
    states: frozenset[str]
    change: Callable[[Any], Any]
    """Old value -> new value; may raise an HttpError."""
    passes_lock: bool
    now: int


class _Done(Struct, frozen=True):
    before: Any
    after: Any
    error: HttpError | None = None


async def _edit(tx: Tx, edit: _Edit) -> _Done | None:
    server = await load(tx, edit.server)
    if server is None:
        return None
    before = _decode(getattr(server, edit.column))
    error = _refusal(server, edit)
    if error is not None:
        return _Done(before, before, error)
    try:
        after = edit.change(before)
    except HttpError as fault:
        return _Done(before, before, fault)
    if after != before:
        await change(tx, edit.server, {edit.column: _encode(after).decode()}, edit.now)
    return _Done(before, after)


def _refusal(server: Server, edit: _Edit) -> HttpError | None:
    if server.locked_by is not None and not edit.passes_lock:
        return Conflict(f"Instance {server.uuid} is locked")
    if server.vm_state not in edit.states:
        what = "update metadata" if edit.column == "metadata" else "update tags"
        return Conflict(f"Cannot '{what}' instance {server.uuid} while it is in vm_state {server.vm_state}")
    return None


async def _run(call: Call, rule: str, column: str, how: Callable[[Any], Any]) -> _Done:
    found = await find(call, rule)
    states = _META_STATES if column == "metadata" else _TAG_STATES
    uuid = found.server.uuid
    if found.database is None:
        raise Conflict(f"Instance {uuid} is in vm_state {found.server.vm_state}; try again when it is built.")
    edit = _Edit(uuid, column, states, how, call.policy.is_admin(call.creds), call.services.clock())
    done = await found.database.write(_edit, edit)
    if done is None:
        raise missing(uuid)
    if done.error is not None:
        raise done.error
    return done


def _within(call: Call) -> Callable[[dict[str, str]], dict[str, str]]:
    most = call.services.settings.quotas.get("metadata_items", -1)

    def check(items: dict[str, str]) -> dict[str, str]:
        if 0 <= most < len(items):
            raise Forbidden(f"Quota exceeded, too many metadata items. Limit is {most}.")
        return items

    return check


@operation("GET", _META_PATH, WEIGHED)
async def show_all(call: Call) -> Any:
    found = await find(call, _META + "index")
    return {"metadata": _decode(found.server.metadata)}


@operation("POST", _META_PATH, WEIGHED, body=_WHOLE)
async def add(call: Call) -> Any:
    check = _within(call)
    done = await _run(call, _META + "create", "metadata", lambda old: check({**old, **call.body["metadata"]}))
    return {"metadata": done.after}


@operation("PUT", _META_PATH, WEIGHED, body=_WHOLE)
async def replace_all(call: Call) -> Any:
    check = _within(call)
    done = await _run(call, _META + "update_all", "metadata", lambda old: check(call.body["metadata"]))
    return {"metadata": done.after}


@operation("GET", _META_PATH + "/{key}", WEIGHED)
async def show(call: Call) -> Any:
    found = await find(call, _META + "show")
    items, key = _decode(found.server.metadata), call.params["key"]
    if key not in items:
        raise NotFound("Metadata item was not found")
    return {"meta": {key: items[key]}}


@operation("PUT", _META_PATH + "/{key}", WEIGHED, body=_ITEM)
async def put(call: Call) -> Any:
    item = call.body["meta"]
    if call.params["key"] not in item:
        raise BadRequest("Request body and URI mismatch")
    check = _within(call)
    await _run(call, _META + "update", "metadata", lambda old: check({**old, **item}))
    return {"meta": item}


@operation("DELETE", _META_PATH + "/{key}", WEIGHED, success=204)
async def delete(call: Call) -> None:
    key = call.params["key"]

    def without(old: dict[str, str]) -> dict[str, str]:
        if key not in old:
            raise NotFound("Metadata item was not found")
        return {name: value for name, value in old.items() if name != key}

    await _run(call, _META + "delete", "metadata", without)


@operation("GET", _TAGS_PATH, WEIGHED, since=26)
async def tags(call: Call) -> Any:
    found = await find(call, _TAGS + "index")
    return {"tags": _decode(found.server.tags)}


@operation("PUT", _TAGS_PATH, WEIGHED, since=26, body=_TAG_LIST)
async def replace_tags(call: Call) -> Any:
    done = await _run(call, _TAGS + "update_all", "tags", lambda old: sorted(set(call.body["tags"])))
    return {"tags": done.after}


@operation("DELETE", _TAGS_PATH, WEIGHED, since=26, success=204)
async def delete_tags(call: Call) -> None:
    await _run(call, _TAGS + "delete_all", "tags", lambda old: [])


def _no_tag(call: Call) -> NotFound:
    return NotFound(f"Server {call.params['server_id'][:100]} has no tag '{call.params['tag'][:100]}'")


@operation("GET", _TAGS_PATH + "/{tag}", WEIGHED, since=26, success=204)
async def has_tag(call: Call) -> None:
    found = await find(call, _TAGS + "show")
    if call.params["tag"] not in _decode(found.server.tags):
        raise _no_tag(call)


@operation("PUT", _TAGS_PATH + "/{tag}", WEIGHED, since=26, success=201)
async def put_tag(call: Call) -> Response:
    tag = call.params["tag"]
    if not tag or len(tag) > 60 or "," in tag or "/" in tag:
        raise BadRequest(f"Invalid tag '{tag[:100]}': at most 60 characters, none of them ',' or '/'.")

    def with_it(old: list[str]) -> list[str]:
        if tag not in old and len(old) >= _MOST_TAGS:
            raise BadRequest(f"The number of tags exceeded the per-server limit {_MOST_TAGS}")
        return sorted({*old, tag})

    done = await _run(call, _TAGS + "update", "tags", with_it)
    if tag in done.before:
        return empty(204)
    path = f"/servers/{call.params['server_id']}/tags/{quote(tag, safe='')}"
    location = call.request.state["base"].root + path
    return empty(201, {"location": location})


@operation("DELETE", _TAGS_PATH + "/{tag}", WEIGHED, since=26, success=204)
async def delete_tag(call: Call) -> None:
    tag = call.params["tag"]

    def without(old: list[str]) -> list[str]:
        if tag not in old:
            raise _no_tag(call)
        return [each for each in old if each != tag]

    await _run(call, _TAGS + "delete", "tags", without)


OPERATIONS = (
    show_all, add, replace_all, show, put, delete, tags, replace_tags, delete_tags, has_tag, put_tag, delete_tag,
)  # fmt: skip
