"""GET /kilonova/events: what changes, as server-sent events, in order, resumable (Nova has no such thing).

Each event's id is the index to resume after it (`Last-Event-ID`); lines without data carry newer ids, so
that an idle stream can resume as well. An index that is not kept any more is answered by an event
``reset``: list anew, then follow what comes after its id. The stream ends with its token.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from msgspec import Raw

from kilonova.api.microversion.fields import In, query
from kilonova.api.microversion.schemas import BOOLEAN, TEXT, as_bool
from kilonova.api.moments import plain
from kilonova.api.operation import Call, operation
from kilonova.db.changes import Reset
from kilonova.db.feed import ChangeFeed, Event, Subscription
from kilonova.http.errors import HttpError, NotImplementedHere
from kilonova.http.message import Response

HEARTBEAT_S = 15.0
CHECK_S = 1.0
"""How soon a revoked token ends its stream."""
_encode = msgspec.json.Encoder().encode
_QUERY = query(("all_projects", In(BOOLEAN)), ("last_event_id", In(TEXT)), strict=1)


@operation("GET", "/kilonova/events", "os_compute_api:servers:detail", query=_QUERY)
async def follow(call: Call) -> Response:
    feed = call.services.feed
    if feed is None:
        raise NotImplementedHere("This service follows no changes.")
    project: str | None = call.project_id
    if as_bool(call.one("all_projects") or False):
        call.authorize("os_compute_api:servers:detail:get_all_tenants")
        project = None
    resume = call.request.headers.get("last-event-id") or call.one("last_event_id")
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
    return Response(200, headers=headers, stream=_stream(call, feed, resume, project))


async def _stream(call: Call, feed: ChangeFeed, resume: str | None, project: str | None) -> AsyncIterator[bytes]:
    ended = asyncio.create_task(_end(call), name="event-stream-end")
    try:
        while True:
            now = feed.index()
            try:
                subscription = feed.subscribe(resume, project)
                async with subscription:
                    yield _mark(subscription.index(), "connected")
                    async for piece in _pieces(subscription, ended):
                        yield piece
                yield _event("end", subscription.index(), {"reason": ended.result()})
                return
            except Reset as reset:
                yield _event("reset", now, {"reason": str(reset)})
                resume = now
    finally:
        ended.cancel()


async def _pieces(subscription: Subscription, ended: asyncio.Task[str]) -> AsyncIterator[bytes]:
    """Events and heartbeats, until `ended` is done."""
    following: asyncio.Task[Event] | None = None
    try:
        while not ended.done():
            if following is None:
                following = asyncio.create_task(anext(subscription), name="event-stream-next")
            await asyncio.wait({following, ended}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                event, following = following.result(), None
                yield b"".join(map(_change, (event, *subscription.more())))
            elif not ended.done():
                yield _mark(subscription.index(), "alive")
    finally:
        if following is not None:
            following.cancel()
            await asyncio.wait({following})


async def _end(call: Call) -> str:
    """Return when the stream has to end, saying why: the client left, the token ended, or we stop."""
    services, token = call.services, call.request.headers.get("x-auth-token", "")
    gone = asyncio.create_task(call.request.disconnected(), name="event-stream-client")
    try:
        while True:
            done, _ = await asyncio.wait({gone}, timeout=CHECK_S)
            if done:
                return "client"
            if services.stopping is not None and services.stopping.is_set():
                return "shutdown"
            if call.creds.expired(services.clock()):
                return "token"
            try:
                await services.identity.validate(token)
            except HttpError as error:
                if error.status < 500:
                    return "token"
    finally:
        gone.cancel()


def _change(event: Event) -> bytes:
    change = event.change
    data = {
        "kind": change.kind, "id": change.subject, "project_id": change.project_id, "generation": change.generation,
        "time": plain(change.created_at), "state": Raw(change.payload),
    }  # fmt: skip
    return _event(change.kind, event.index, data)


def _event(name: str, index: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (name.encode(), index.encode(), _encode(data))


def _mark(index: str, comment: str) -> bytes:
    return b": %s\nid: %s\n\n" % (comment.encode(), index.encode())


OPERATIONS = (follow,)
