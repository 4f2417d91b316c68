"""What a story is and what it may ask for.

A story is ``async def story(op, inputs)``. It awaits only what `Op` gives: each await hands a request to
the executor and gets the recorded answer back, so that the same story over the same records always walks
the same way. Between steps it sees inputs and answers only: no clock, no chance, no I/O.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid5

import msgspec

from kilonova.db.database import Database, Tx

T = TypeVar("T")
Encoded = bytes
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Context:
    """What an effect knows besides its arguments."""

    operation_id: str
    request_id: str
    user_id: str
    project_id: str
    now: int
    dialect: str
    given: Any = None
    """What the effect's `reads` found in the operation's own database, when the effect runs in another one."""
    opened: list[str] = field(default_factory=list)
    """Ids of operations that the effect opened: conductors are woken for them after the commit."""


EffectFunction = Callable[[Tx, Any, Context], Awaitable[Any]]
EffectReads = Callable[[Database, Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Effect:
    """A function over one transaction, known by name; exactly once where it runs.

    It raises Refused before it writes anything, or not at all.
    """

    name: str
    function: EffectFunction
    args: Any
    output: Any
    reads: EffectReads | None = None
    """``async def f(global database, args)``: read before the transaction when that is in another database."""


EFFECTS: dict[str, Effect] = {}


def effect(
    name: str, args: Any, output: Any = None, *, reads: EffectReads | None = None
) -> Callable[[EffectFunction], Effect]:
    """Register ``async def f(tx, args, context) -> output`` under `name`."""

    def register(function: EffectFunction) -> Effect:
        if name in EFFECTS:
            raise ValueError(f"two effects named {name}")
        EFFECTS[name] = made = Effect(name, function, args, output, reads)
        return made

    return register


@dataclass(frozen=True, slots=True)
class Undo:
    """The call that makes a step's effect absent; "not there" is success."""

    port: str
    method: str
    args: Any
    resource: str = ""
    """What must be absent, for a debt: ``guest``, ``ports``, ``allocation``."""
    keeps: tuple[Undo, ...] = ()
    """Effects that a debt of this undo still uses; they run once it is paid, not before."""
    holds: tuple[str, ...] = ()
    """Steps whose undo a debt takes over (they are among `keeps`)."""


@dataclass(slots=True)
class Step:
    """One request of a story."""

    name: str
    item: str
    kind: str
    """`write`, `call`, `ask`, `wait`."""
    port: str
    method: str
    args: Any
    output: Any
    undo: Undo | None = None
    task_state: str | None = None
    event: str | None = None
    budget_s: float = 60.0
    owe: bool = False
    """A refusal becomes a debt and the story goes on with False instead of True."""
    keeps: tuple[Undo, ...] = ()
    """With `owe`: what the debt still uses; run once it is paid."""
    resource: str = ""
    encoded: bytes = b""
    """Filled by the executor."""
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return (self.name, self.item)


@dataclass(slots=True)
class All:
    """Steps that run beside each other; all their intents commit together."""

    steps: list[Step]


@dataclass(slots=True)
class NoReturn:
    """From here on only forward."""


@dataclass(slots=True)
class SetState:
    """Show something of the server from the next boundary on."""

    fields: dict[str, Any]


Request = Step | All | NoReturn | SetState


class Asked(Generic[T]):
    """Awaitable of one request."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def __await__(self) -> Generator[Request, T, T]:
        return (yield self.request)


@dataclass(slots=True)
class Op:
    """A story's only window on the world."""

    id: str
    number: int
    request_id: str
    user_id: str
    project_id: str
    created_at: int
    database: str
    """Name of the database the operation lives in."""
    together: frozenset[str] = frozenset()
    """Names of databases, and of ports with effects (`network`), that are this same database."""
    _ids: UUID = field(init=False)

    def __post_init__(self) -> None:
        self._ids = UUID(self.id)

    def uuid(self, name: str) -> str:
        """An id of this operation's own, the same at every replay."""
        return str(uuid5(self._ids, name))

    def chance(self, name: str) -> random.Random:
        """Chance that falls the same at every replay."""
        return random.Random(f"{self.id}/{name}")

    def effect(
        self, defn: Effect, args: Any, *, database: str | None = None, item: str = "", name: str | None = None,
        undo: Undo | None = None, task_state: str | None = None, event: str | None = None, budget_s: float = math.inf,
    ) -> Asked[Any]:  # fmt: skip
        """Run an effect in `database` (default: this operation's own, in the same commit as its record).

        Another database that is away is waited for, for as long as it takes unless `budget_s` says otherwise.
        """
        target = database or self.database
        own = target == self.database or target in self.together
        return Asked(Step(
            name or defn.name, item, "write" if own else "call", f"db:{target}", defn.name, args, defn.output, undo,
            task_state, event, budget_s,
        ))  # fmt: skip

    def call(
        self, name: str, port: str, method: str, args: Any, output: Any = None, *, item: str = "",
        undo: Undo | None = None, task_state: str | None = None, event: str | None = None, budget_s: float = 60.0,
    ) -> Asked[Any]:  # fmt: skip
        """Ask something outside for an idempotent effect; at least once, under one key.

        Where the port is `together` with this operation's database the effect ``port.method`` is written instead.
        """
        kind = "call"
        if port in self.together:
            kind, method = "write", f"{port}.{method}"
        return Asked(Step(name, item, kind, port, method, args, output, undo, task_state, event, budget_s))

    def ensure_absent(
        self, name: str, port: str, method: str, args: Any, *, resource: str, keeps: tuple[Undo, ...] = (),
        item: str = "", task_state: str | None = None, event: str | None = None, budget_s: float = 20.0,
    ) -> Asked[bool]:  # fmt: skip
        """Remove something; False when that cannot be done now and is owed instead (a debt, paid later).

        `keeps` are released after the debt is paid; when the answer is True the story releases them itself.
        """
        if port in self.together:
            made = Step(name, item, "write", port, f"{port}.{method}", args, None, None, task_state, event, owe=True)
            return Asked(made)
        return Asked(Step(
            name, item, "call", port, method, args, None, None, task_state, event, budget_s, True, keeps, resource,
        ))  # fmt: skip

    def ask(
        self, name: str, port: str, method: str, args: Any, output: Any = None, *, item: str = "",
        budget_s: float = 60.0,
    ) -> Asked[Any]:  # fmt: skip
        """Ask a question without effect: its answer is recorded with the next boundary, it needs no intent."""
        return Asked(Step(name, item, "ask", port, method, args, output, budget_s=budget_s))

    def wait(self, name: str, event: str, tag: str, seconds: float, *, item: str = "") -> Asked[Any]:
        """Wait for a stored signal (name, tag) about this operation's server, or for `seconds`: Refused then.

        Holds no task; a signal that came before the wait is not lost.
        """
        return Asked(Step(name, item, "wait", "signal", event, {"tag": tag}, msgspec.Raw, budget_s=seconds))

    def all(self, *asked: Asked[Any]) -> Asked[list[Any]]:
        """Run steps beside each other; their answers in order, or the first refusal once all have ended."""
        steps = [a.request for a in asked]
        if not all(isinstance(s, Step) for s in steps):
            raise TypeError("op.all takes calls and effects")
        return Asked(All(steps))  # type: ignore[arg-type]  # checked above

    def point_of_no_return(self) -> Asked[None]:
        return Asked(NoReturn())

    def show(self, **fields: Any) -> Asked[None]:
        """Change what the server's row shows (host, addresses, ...) with the next boundary."""
        return Asked(SetState(fields))


class _Now:
    def __repr__(self) -> str:
        return "NOW"


NOW = _Now()
"""In `op.show` and `done`: the time of the boundary that commits it."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a story ends: what the server shows. Fields are columns of `servers`."""

    fields: dict[str, Any]
    result: Any = None


def done(result: Any = None, **fields: Any) -> Done:
    return Done(fields, result)


AfterUndone = Callable[[Tx, Any, str, Context], Awaitable[None]]
"""(tx, inputs, error as JSON, context): what stands instead, written in the commit that ends an undone operation."""
StoryFunction = Callable[[Op, Any], Awaitable[Done]]


@dataclass(frozen=True, slots=True)
class Story:
    """One registered story."""

    name: str
    version: int
    function: StoryFunction
    inputs: Any
    on_undone: str
    """`before`: the server shows its before-image again; `error`: ERROR; `none`: no server row."""
    forward_only: bool
    """Beyond the point of no return from its first step."""
    after_undone: AfterUndone | None = None


STORIES: dict[tuple[str, int], Story] = {}


def story(
    name: str, inputs: Any, *, version: int = 1, on_undone: str = "before", forward_only: bool = False,
    after_undone: AfterUndone | None = None,
) -> Callable[[StoryFunction], Story]:  # fmt: skip
    """Register a story."""

    def register(function: StoryFunction) -> Story:
        if (name, version) in STORIES:
            raise ValueError(f"two stories {name} version {version}")
        made = Story(name, version, function, inputs, on_undone, forward_only, after_undone)
        STORIES[name, version] = made
        return made

    return register

