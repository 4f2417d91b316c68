"""Looks after real neighbours: says in the log when one goes and when it comes back, and counts it in the metrics.

It only looks. What needs a neighbour asks it each time and answers 503 by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from kilonova import metrics
from kilonova.cli.compose.neighbours import Neighbours, probe
from kilonova.http.neighbour import Neighbour, NeighbourAway
from kilonova.log import get_logger

log = get_logger(__name__)
_FIRST_S, _LONGEST_S = 1.0, 30.0
_UP = metrics.gauge("kilonova_neighbour_up", "Whether a real neighbour answers.", ("service",))
Look = Callable[[], Awaitable[None]]
"""Asks a neighbour something that only a working one can answer. Raises NeighbourAway."""


class Watch:
    """``Watch(neighbours)``; run `run` as a background task."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._looks: dict[str, Look] = {each.name: _look(each) for each in neighbours.real}
        who = neighbours.who
        if who.real is not None:
            session = who.real.session

            async def ask() -> None:
                from kilonova.identity.session import KeystoneRefused, KeystoneUnavailable

                try:
                    own = await session.service_token()
                    headers = {"x-auth-token": own, "x-subject-token": own}
                    answer = await session.ask("GET", "/auth/tokens?nocatalog", headers)
                except (KeystoneUnavailable, KeystoneRefused) as error:
                    raise NeighbourAway(str(error)) from error
                if answer.status != 200:
                    session.forget(own)
                    raise NeighbourAway(f"{session.url} answers {answer.status} to our account")

            self._looks["Keystone"] = ask
        self.away: dict[str, str] = {}
        """Why a service cannot be used now, by its name."""
        self.seen: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._looks}
        """Set once a service has answered."""
        self._looked = {name: asyncio.Event() for name in self._looks}

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, look in self._looks.items():
                group.create_task(self._watch(name, look), name=f"watch-{name}")

    async def looked(self, seconds: float) -> None:
        """Return when every neighbour was looked at once, at the latest after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for each in self._looked.values():
                    await each.wait()

    async def _watch(self, name: str, look: Look) -> None:
        pause = _FIRST_S
        while True:
            try:
                await look()
            except NeighbourAway as error:
                if name not in self.away:
                    log.warning("%s cannot be used: %s; what needs it answers 503 until it can", name, error)
                self.away[name] = str(error)
                self._looked[name].set()
                _UP.labels(name).set(0)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_S, pause * 2)
                continue
            if self.away.pop(name, None) is not None or not self.seen[name].is_set():
                log.info("%s answers", name)
            self.seen[name].set()
            self._looked[name].set()
            _UP.labels(name).set(1)
            pause = _FIRST_S
            await asyncio.sleep(_LONGEST_S)


def _look(neighbour: Neighbour) -> Look:
    async def ask() -> None:
        answer = await neighbour.ask("GET", probe(neighbour))
        if answer.status != 200:
            raise NeighbourAway(f"{neighbour.name} answers {answer.status} to our account")

    return ask
