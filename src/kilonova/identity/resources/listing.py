"""Answers with many things: filters of the query string, and the envelope with its links."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from kilonova.http.message import Response, json_response
from kilonova.identity.resources.call import Call

R = TypeVar("R")
_SLICE = 250
_FALSE = {"0", "false", "no", "off", "f", "n"}


def truthy(text: str | None) -> bool:
    """A query flag: present and not denied."""
    return text is not None and text.strip().lower() not in _FALSE


def _matches(value: Any, how: str, wanted: str) -> bool:
    if isinstance(value, bool):
        return value == truthy(wanted)
    if how == "equals":
        return (value is None and wanted == "") or (value is not None and str(value) == wanted)
    if value is None:
        return False
    text = str(value)
    if how.startswith("i") and how != "inequals":
        text, wanted, how = text.lower(), wanted.lower(), how[1:]
    match how:
        case "contains":
            return wanted in text
        case "startswith":
            return text.startswith(wanted)
        case "endswith":
            return text.endswith(wanted)
        case "equals":
            return text == wanted
    return True


def filtered(call: Call, rows: Iterable[dict[str, Any]], fields: Iterable[str]) -> list[dict[str, Any]]:
    """Rows that meet every ``field=x`` and ``field__contains=x`` (startswith, endswith, i...) of the query."""
    known = frozenset(fields)
    wanted = []
    for key, value in call.request.query:
        field, _, how = key.partition("__")
        if field in known:
            wanted.append((field, how or "equals", value))
    return [row for row in rows if all(_matches(row.get(f), how, value) for f, how, value in wanted)]


async def pages(
    call: Call, name: str, records: list[R], shown: Callable[[Call, R], dict[str, Any]], fields: Iterable[str]
) -> Response:
    """`collection` of records that may be many: others get their turn every few hundred of them."""
    known = tuple(fields)
    pieces: list[bytes] = []
    for at in range(0, len(records), _SLICE):
        if at:
            await asyncio.sleep(0)
        rows = filtered(call, (shown(call, each) for each in records[at : at + _SLICE]), known)
        if rows:
            pieces.append(msgspec.json.encode(rows)[1:-1])
    listed = msgspec.Raw(b"[" + b",".join(pieces) + b"]")
    return json_response({name: listed, "links": _links(call)})


def collection(
    call: Call, name: str, rows: Iterable[dict[str, Any]], fields: Iterable[str] = (), **more: Any
) -> Response:
    """``{"users": [...], "links": {...}}``, filtered by the query."""
    return json_response({name: filtered(call, rows, fields), "links": _links(call), **more})


def _links(call: Call) -> dict[str, str | None]:
    query = call.request.query_string.decode("latin-1")
    url = f"{call.base}{call.request.path.removeprefix(call.request.mount).removeprefix('/v3')}"
    return {"next": None, "self": f"{url}?{query}" if query else url, "previous": None}
