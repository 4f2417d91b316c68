"""What goes wrong in the sim world, on demand.

A rule says: on this host, in this method, at this point, wait, fail, hang or die. Rules live in the
world's file, so a test sets them from outside on a running cloud and they outlast its death.

Points, in the order in which a call passes them::

    ensure_guest      before  disk  tap  guest  after
    ensure_absent     before  guest  tap  disk  after
    any other         before  after

A point named after a thing is passed once that thing is visible (or gone). Actions::

    ''           only the delay
    'transient'  Transient("sim_fault"): before = nothing happened; after = it happened, the answer got lost
    'refused'    Refused("sim_fault")
    'hang'       stands still until the rule is removed
    'kill'       SIGKILL to this very process
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3

from msgspec import Struct

from kilonova.compute.virt.driver import Refused, Transient

ANY = "*"
_LOOK_AGAIN_S = 0.05


class Rule(Struct, frozen=True, kw_only=True):
    id: int
    host: str
    method: str
    point: str
    delay: float
    """Seconds, before the action."""
    action: str
    times: int
    """How often it still fires; -1 = for ever."""


class Faults:
    """The rules of one world; reads them again when another process changed the file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._version = -1
        self._rules: list[Rule] = []

    def set(
        self,
        *,
        host: str = ANY,
        method: str = ANY,
        point: str = "before",
        delay: float = 0.0,
        action: str = "",
        times: int = -1,
    ) -> int:
        """Add a rule; its id is for `remove`."""
        if action not in ("", "transient", "refused", "hang", "kill"):
            raise ValueError(f"no such action: {action}")
        row = self._db.execute(
            "INSERT INTO fault (host, method, point, delay, action, times) VALUES (?, ?, ?, ?, ?, ?)",
            (host, method, point, delay, action, times),
        )
        self._load()
        assert row.lastrowid is not None
        return row.lastrowid

    def remove(self, rule: int) -> None:
        self._db.execute("DELETE FROM fault WHERE id = ?", (rule,))
        self._load()

    def clear(self) -> None:
        self._db.execute("DELETE FROM fault")
        self._load()

    def of(self, host: str, method: str) -> bool:
        """Whether any rule may touch this call."""
        self._refresh()
        return any(r.host in (ANY, host) and r.method in (ANY, method) for r in self._rules)

    async def at(self, host: str, method: str, point: str) -> None:
        """Pass a point: does what the first matching rule says."""
        self._refresh()
        for rule in self._rules:
            if rule.host in (ANY, host) and rule.method in (ANY, method) and rule.point == point:
                break
        else:
            return
        if rule.times > 0:
            self._use(rule)
        if rule.delay:
            await asyncio.sleep(rule.delay)
        match rule.action:
            case "transient":
                raise Transient("sim_fault", f"{method} on {host} failed at {point}, as told")
            case "refused":
                raise Refused("sim_fault", f"{method} on {host} refused at {point}, as told")
            case "hang":
                await self._hang(rule.id)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)

    async def _hang(self, rule: int) -> None:
        # The rule may be removed by another process, which cannot wake us.
        while True:
            self._refresh()
            if not any(r.id == rule for r in self._rules):
                return
            await asyncio.sleep(_LOOK_AGAIN_S)

    def _use(self, rule: Rule) -> None:
        if rule.times == 1 and rule.action != "hang":
            self._db.execute("DELETE FROM fault WHERE id = ?", (rule.id,))
        else:
            self._db.execute("UPDATE fault SET times = max(0, times - 1) WHERE id = ?", (rule.id,))
        self._load()

    def _refresh(self) -> None:
        if self._db.execute("PRAGMA data_version").fetchone()[0] != self._version:
            self._load()

    def _load(self) -> None:
        self._version = self._db.execute("PRAGMA data_version").fetchone()[0]
        rows = self._db.execute(
            "SELECT id, host, method, point, delay, action, times FROM fault ORDER BY id"
        ).fetchall()
        self._rules = [
            Rule(id=i, host=h, method=m, point=p, delay=d, action=a, times=t) for i, h, m, p, d, a, t in rows
        ]
