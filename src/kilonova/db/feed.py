"""New changes, handed to any number of readers in this process.

One task per database follows its changes into a short memory; a subscriber is only a position per
database. It is served from the memory while it keeps up and from the tables when it does not, so a slow
reader costs nothing but reads, loses nothing, and gets Reset only when what it wants is no longer kept.

A resume index says a position in each database. It is opaque to clients and carries the databases'
birth marks: an index from another cloud, or from before a purge, is a Reset and never a wrong place.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from kilonova.db.changes import Change, ChangeReader, Reset
from kilonova.db.database import Database
from kilonova.db.errors import DatabaseError
from kilonova.log import get_logger

log = get_logger(__name__)

POLL_S = 1.0
_REMEMBER = 2000
_PORTION = 500


class Position(NamedTuple):
    """A place in one database's changes."""

    born: str
    position: int


class Event(msgspec.Struct, frozen=True, gc=False):
    """A change, which database it is from, and the index to resume after it."""

    database: str
    change: Change
    index: str


class _Source:
    """One database's newest changes, oldest first; `last` is the newest known position."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.reader = ChangeReader(db)
        self.born = ""
        self.last = 0
        self.recent: deque[Change] = deque(maxlen=_REMEMBER)
        self.wake = asyncio.Event()

    async def start(self) -> None:
        self.born = await self.reader.born()
        self.last = await self.reader.position()

    async def advance(self) -> list[Change] | None:
        """Read what is new into memory and return it; None when the way there is lost."""
        try:
            batch = await self.reader.after(self.last, _PORTION)
        except Reset:  # stalled for longer than changes are kept, or the database was put back
            log.warning("the changes of %s went on without us", self.db.name)
            self.last = await self.reader.position()
            self.recent.clear()
            return None
        self.recent.extend(batch.changes)
        self.last = batch.position
        return batch.changes

    def remembered(self, after: int) -> list[Change] | None:
        """Return at most a portion of what follows `after`; None when memory does not reach back there."""
        if after == self.last:
            return []
        if not self.recent or after + 1 < self.recent[0].position or after > self.last:
            return None
        first = after + 1 - self.recent[0].position
        return [self.recent[i] for i in range(first, min(first + _PORTION, len(self.recent)))]


class ChangeFeed:
    """All databases' changes. Run `run()` in a task of your own; `subscribe()` from anywhere on the loop."""

    def __init__(self, databases: Iterable[Database]) -> None:
        self._sources = {db.name: _Source(db) for db in databases}
        self._subscriptions: dict[str | None, set[Subscription]] = {}
        self._started = False

    def __repr__(self) -> str:
        return f"ChangeFeed({list(self._sources)})"

    async def start(self) -> None:
        """Find out where the databases are; before it nobody can subscribe. Raises DatabaseError."""
        for source in self._sources.values():
            await source.start()
        self._started = True

    def wake(self, database: str | None = None) -> None:
        """Say that there may be something new (a wake from the bus)."""
        for name, source in self._sources.items():
            if database is None or name == database:
                source.wake.set()

    def positions(self) -> dict[str, int]:
        """Return the newest known position of each database."""
        return {name: source.last for name, source in self._sources.items()}

    def index(self) -> str:
        """Return the resume index of now."""
        return encode_index({name: Position(s.born, s.last) for name, s in self._sources.items()})

    def subscribe(self, resume: str | None = None, project_id: str | None = None) -> Subscription:
        """Return what follows `resume` (None: what comes from now on), of one project or of all.

        Iterate over it; use it with ``async with``, or close it. Raises Reset for an index that is not of
        these databases; iterating raises Reset when what follows is no longer kept. After a Reset read the
        state anew and subscribe with the `index()` from before that.
        """
        if not self._started:
            raise RuntimeError("the feed has not started")
        positions = self.positions()
        if resume is not None:
            found = decode_index(resume)
            for name, source in self._sources.items():
                place = found.get(name)
                if place is None or place.born != source.born or place.position > source.last:
                    raise Reset("the resume index is not of these databases")
                positions[name] = place.position
        subscription = Subscription(self, positions, project_id)
        self._subscriptions.setdefault(project_id, set()).add(subscription)
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        group = self._subscriptions.get(subscription.project_id)
        if group is not None:
            group.discard(subscription)
            if not group:
                del self._subscriptions[subscription.project_id]

    async def run(self) -> None:
        """Follow the databases until cancelled; starts if that was not done before."""
        if not self._started:
            await self.start()
        async with asyncio.TaskGroup() as group:
            for source in self._sources.values():
                group.create_task(self._follow(source), name=f"changes-{source.db.name}")

    async def _follow(self, source: _Source) -> None:
        unwatch = source.db.watch(source.wake.set)
        try:
            while True:
                source.wake.clear()
                try:
                    while True:
                        changes = await source.advance()
                        if changes == []:
                            break
                        self._announce(source.db.name, changes)
                        if changes is not None and len(changes) < _PORTION:
                            break  # what is committed from now on wakes us again
                except DatabaseError as error:
                    log.warning("the changes of %s wait: %s", source.db.name, error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await source.wake.wait()
        finally:
            unwatch()

    def _announce(self, database: str, changes: list[Change] | None) -> None:
        """Wake those whom it concerns: everybody when the way was lost."""
        if changes is None:
            for group in self._subscriptions.values():
                for subscription in group:
                    subscription.news.set()
            return
        for project_id in {None, *(change.project_id for change in changes)}:
            for subscription in self._subscriptions.get(project_id, ()):
                subscription.wake(database, changes[0].position - 1)


class Subscription:
    """An endless iterator of events, in order within each database, none left out.

    One task iterates at a time. It holds no events of its own, only positions.
    """

    def __init__(self, feed: ChangeFeed, positions: dict[str, int], project_id: str | None) -> None:
        self._feed = feed
        self._positions = positions
        self.project_id = project_id
        self.news = asyncio.Event()
        self._ready: deque[tuple[str, Change]] = deque()
        self._closed = False
        self._idle = False

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription; its iterator ends."""
        self._closed = True
        self._feed._forget(self)
        self.news.set()

    def wake(self, database: str, before: int) -> None:
        """Say that after position `before` there may be something for this subscription, and first there."""
        if self._idle and not self.news.is_set():  # nothing of ours came since we had read everything
            self._positions[database] = max(self._positions[database], before)
        self.news.set()

    def index(self) -> str:
        """Return the index to resume after everything that was handed out or is not for this subscription."""
        sources = self._feed._sources
        if self._idle and not self.news.is_set():
            return self._feed.index()
        return encode_index({name: Position(sources[name].born, at) for name, at in self._positions.items()})

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            self.news.clear()
            await self._fetch()
            if self._closed:
                raise StopAsyncIteration
            if not self._ready:
                self._idle = True
                try:
                    await self.news.wait()
                finally:
                    self._idle = False
                    if not self.news.is_set():  # cancelled while idle: nothing of ours is behind the newest
                        self._positions.update(self._feed.positions())
        name, change = self._ready.popleft()
        self._positions[name] = change.position
        return Event(name, change, self.index())

    def more(self) -> list[Event]:
        """What is read already and needs no waiting, after an event that was waited for."""
        events = []
        while self._ready and not self._closed:
            name, change = self._ready.popleft()
            self._positions[name] = change.position
            events.append(Event(name, change, self.index()))
        return events

    async def _fetch(self) -> None:
        """Read on in every database. Other projects' changes are stepped over."""
        for name, source in self._feed._sources.items():
            if self._positions[name] > source.last:
                raise Reset(f"database {name} went back to an earlier state")
            while self._positions[name] < source.last:
                changes, reached = await self._portion(source, self._positions[name])
                mine = [c for c in changes if self.project_id is None or c.project_id == self.project_id]
                if mine:
                    self._ready.extend((name, change) for change in mine)
                    break
                if reached == self._positions[name]:
                    break  # the database has less than it had: what follows it will find that out
                self._positions[name] = reached

    async def _portion(self, source: _Source, after: int) -> tuple[list[Change], int]:
        changes = source.remembered(after)
        if changes is not None:
            return changes, changes[-1].position if changes else after
        batch = await source.reader.after(after, _PORTION, self.project_id)
        return batch.changes, batch.position


def encode_index(positions: Mapping[str, Position]) -> str:
    """Return the opaque text for positions by database name: URL-safe, fit for a header."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(positions)).decode().rstrip("=")


def decode_index(text: str) -> dict[str, Position]:
    """Read a resume index; Reset if it is none."""
    if len(text) > 4096:
        raise Reset("this is not a resume index")
    try:
        packed = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        return msgspec.msgpack.decode(packed, type=dict[str, Position])
    except (binascii.Error, msgspec.DecodeError, UnicodeError) as error:
        raise Reset("this is not a resume index") from error
