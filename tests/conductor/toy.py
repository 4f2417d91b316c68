"""One executor over one database with stories made up by a test and a port that answers as told."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from uuid import uuid4

import msgspec

from kilonova.conductor.executor import Executor
from kilonova.conductor.ports import Ports
from kilonova.conductor.story import EFFECTS, STORIES, story
from kilonova.db.queries.operations import open_operation
from kilonova.db.statement import Statement
from kilonova.model.operation import NewOperation


class Nothing(msgspec.Struct, frozen=True):
    """No inputs."""


class ToyPort:
    """Answers by method; `told` maps a method to an async function of the call."""

    def __init__(self) -> None:
        self.told = {}
        self.calls: list[tuple[str, str]] = []

    async def perform(self, target, method, args, call):
        self.calls.append((method, call.key))
        told = self.told.get(method)
        if told is None:
            return b"null"
        return await told(call)


class Toy:
    """An executor named `me` on `database`."""

    def __init__(self, database, *, me: str | None = None, may_act=lambda: True) -> None:
        self.database, self.port, self.ports = database, ToyPort(), Ports()
        self.ports.add("toy", self.port)
        self.me = me or str(uuid4())
        self.executor = Executor(
            database, self.ports, self.me, name="cell1", wake=lambda _: None,
            now_us=lambda: time.time_ns() // 1000, may_act=may_act,
        )  # fmt: skip
        self.executor.backoff_s = (0.01,)
        self.executor.undo_budget_s = 0.2

    async def open(self, name: str, *, target=None, number=0, version=1) -> str:
        return await self._insert(NewOperation(
            id=str(uuid4()), story=name, version=version, target=target, number=number, inputs=b"{}",
            request_id="req-toy", user_id="u", project_id="p", created_at=time.time_ns() // 1000,
        ))  # fmt: skip

    async def _insert(self, operation: NewOperation) -> str:
        await self.database.write(open_operation, operation)
        return operation.id

    async def run(self, name: str, **kw) -> str:
        operation = await self.open(name, **kw)
        self.executor.poke(operation)
        await self.executor.idle()
        return operation

    async def row(self, operation: str, *columns: str):
        """Columns of an operation; one column is its value."""
        found = await self.database.fetch_one(
            Statement(f"SELECT {', '.join(columns)} FROM operations WHERE id = :id"), {"id": operation}
        )
        return found[0] if found is not None and len(columns) == 1 else found

    async def sql(self, text: str, **params):
        async def f(tx, _):
            return await tx.execute(Statement(text), params)

        return await self.database.write(f, None)

    async def until(self, condition, what: str, seconds: float = 10.0) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not await condition():
            assert asyncio.get_running_loop().time() < deadline, f"waited for {what}"
            await asyncio.sleep(0.01)


@contextmanager
def stories(**functions):
    """Register ``name=function`` as stories (`on_undone` none) for the length of a test."""
    effects = set(EFFECTS)
    try:
        for name, function in functions.items():
            story(name, Nothing, on_undone="none")(function)
        yield
    finally:
        for name in functions:
            STORIES.pop((name, 1), None)
        for name in set(EFFECTS) - effects:
            del EFFECTS[name]
