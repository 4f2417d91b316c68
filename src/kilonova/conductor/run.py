"""One operation in memory: its story's coroutine walked over what the journal knows.

Pure: no I/O, no clock. The coroutine can be thrown away at any time and walked again from the records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from kilonova.conductor.errors import Refused, ReplayMismatch, StepError
from kilonova.conductor.story import All, Done, NoReturn, Op, SetState, Step, Story, encode

Key = tuple[str, str]

_arguments = msgspec.json.Encoder(order="deterministic").encode
"""Sets have another order in every process; a digest must not."""


def prepare(step: Step) -> Step:
    """Encode a step's arguments and take their digest."""
    if not step.encoded:
        step.encoded = _arguments(step.args)
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{step.kind}\0{step.port}\0{step.method}\0".encode())
        digest.update(step.encoded)
        step.digest = digest.hexdigest()
    return step


@dataclass(slots=True)
class Known:
    """What is recorded, or about to be, of one step."""

    name: str
    item: str
    seq: int
    kind: str
    state: str
    """`intent`, `done`, `refused`, `undone`, `debt`."""
    digest: str
    port: str
    args: bytes
    output: bytes = b""
    undo: bytes = b""
    """JSON {port, method, args, resource, keeps} or empty."""
    error: str = ""
    """JSON {message, code, details} of a refusal."""
    attempts: int = 0
    spent_us: int = 0
    started_at: int = 0
    dirty: bool = False
    """The outcome is known here and not yet committed."""
    method: str = ""
    undo_failed: str = ""

    @property
    def key(self) -> Key:
        return (self.name, self.item)

    @property
    def ended(self) -> bool:
        return self.state != "intent"


@dataclass(slots=True)
class Row:
    """A row of `operations`."""

    id: str
    story: str
    version: int
    state: str
    target: str | None
    number: int
    owner: str | None
    epoch: int
    inputs: str
    before: str | None
    error: str | None
    superseded: int
    forward_only: int
    spent_us: int
    wake_at: int | None
    request_id: str
    user_id: str
    project_id: str
    created_at: int
    ended_at: int | None


class Run:
    """The walk of one operation's story."""

    def __init__(self, row: Row, story: Story, steps: list[Known], database: str, together: frozenset[str]) -> None:
        self.row, self.story, self.database, self.together = row, story, database, together
        self.known: dict[Key, Known] = {s.key: s for s in steps}
        self.next_seq = max((s.seq for s in steps), default=0) + 1
        self.state = "ready" if row.state == "ready" else row.state
        self.forward_only = bool(row.forward_only) or story.forward_only
        self.current: Step | All | None = None
        self.ended: Done | None = None
        self.failed: BaseException | None = None
        self.show: dict[str, Any] = {}
        self.event: str | None = None
        self._coroutine: Coroutine[Any, Any, Done] | None = None
        self._used: set[Key] = set()

    def __repr__(self) -> str:
        return f"<Run {self.row.story} {self.row.id} {self.state} steps={len(self.known)}>"

    def forget_walk(self) -> None:
        """Throw the coroutine away; the next `advance` walks from the start."""
        if self._coroutine is not None:
            self._coroutine.close()
        self._coroutine = self.current = self.ended = self.failed = None
        self._used = set()

    def advance(self) -> None:
        """Walk until the story wants something that is not known, ends, or fails.

        Then exactly one of `current`, `ended`, `failed` is set.
        """
        if self.ended is not None or self.failed is not None:
            return
        value: Any = None
        error: BaseException | None = None
        if self._coroutine is None:
            self._start()
        elif self.current is not None:
            answer = self._answer(self.current)
            if answer is None:
                return
            value, error = answer
        self.current = None
        coroutine = self._coroutine
        assert coroutine is not None
        while True:
            try:
                request = coroutine.send(value) if error is None else coroutine.throw(error)
            except StopIteration as stop:
                self._finish(stop.value)
                return
            except BaseException as failure:
                self.failed = failure
                return
            value = error = None
            if isinstance(request, NoReturn):
                self.forward_only = True
                continue
            if isinstance(request, SetState):
                self.show.update(request.fields)
                continue
            self._check(request)
            answer = self._answer(request)
            if answer is None:
                self.current = request
                return
            value, error = answer

    def _start(self) -> None:
        row = self.row
        op = Op(
            row.id, row.number, row.request_id, row.user_id, row.project_id, row.created_at, self.database,
            self.together,
        )  # fmt: skip
        try:
            inputs = msgspec.json.decode(row.inputs, type=self.story.inputs)
        except msgspec.MsgspecError as error:
            raise ReplayMismatch(f"inputs of {row.story} cannot be read: {error}") from None
        self._coroutine = self.story.function(op, inputs)  # type: ignore[assignment]  # an async def gives a coroutine
        self._used = set()

    def _finish(self, value: Any) -> None:
        unasked = [k for k in self.known if k not in self._used]
        if unasked:
            raise ReplayMismatch(f"the story ended without asking for the recorded steps {unasked}")
        if not isinstance(value, Done):
            self.failed = TypeError(f"story {self.story.name} returned {value!r} instead of done(...)")
        else:
            self.ended = value

    def _check(self, request: Step | All) -> None:
        """A request must be what is recorded under its name; a new one may come only after all recorded were asked."""
        if not isinstance(request, (Step, All)):
            raise ReplayMismatch(f"story {self.story.name} awaited {request!r}")
        for step in request.steps if isinstance(request, All) else (request,):
            prepare(step)
            known = self.known.get(step.key)
            if step.key in self._used:
                raise ReplayMismatch(f"step {step.key} is asked twice; give each item of a loop its own key")
            if known is not None:
                if known.digest != step.digest or known.kind != step.kind:
                    raise ReplayMismatch(f"step {step.key} asks for another {step.kind} than the journal recorded")
                self._used.add(step.key)
            else:
                unasked = [k for k in self.known if k not in self._used]
                if unasked and not isinstance(request, All):
                    raise ReplayMismatch(f"step {step.key} is new, but {unasked} are recorded and were not asked for")

    def _answer(self, request: Step | All) -> tuple[Any, BaseException | None] | None:
        if isinstance(request, All):
            values, first = [], None
            for step in request.steps:
                one = self._answer(step)
                if one is None:
                    return None
                values.append(one[0])
                first = first or one[1]
            return (values, None) if first is None else (None, first)
        known = self.known.get(request.key)
        if known is None or not known.ended:
            return None
        self._used.add(request.key)
        if request.owe:
            return known.state == "done", None
        if known.state == "done":
            if request.output is None:
                return None, None
            if request.output is msgspec.Raw:
                return msgspec.Raw(known.output), None
            try:
                return msgspec.json.decode(known.output, type=request.output), None
            except msgspec.MsgspecError as error:
                raise ReplayMismatch(f"the recorded answer of step {request.key} cannot be read: {error}") from None
        return None, _refusal(known.error)

    # recording

    def intend(self, step: Step, now: int) -> Known:
        """A new record of a step that is about to run."""
        known = Known(
            step.name, step.item, self.next_seq, step.kind, "intent", step.digest, step.port, step.encoded,
            method=step.method, started_at=now,
        )  # fmt: skip
        if step.undo is not None:
            known.undo = encode(step.undo)
        self.next_seq += 1
        self.known[step.key] = known
        return known

    def undoable(self) -> list[Known]:
        """Steps whose effect must go, newest first."""
        steps = [s for s in self.known.values() if s.undo and s.state in ("intent", "done", "refused")]
        return sorted(steps, key=lambda s: -s.seq)


def _refusal(error: str) -> StepError:
    facts = msgspec.json.decode(error or "{}", type=dict[str, str])
    return Refused(facts.get("message", "refused"), facts.get("code", "refused"), facts.get("details", ""))


def refusal_json(error: StepError) -> str:
    """A refusal as it is recorded."""
    return encode({"message": error.message, "code": error.code, "details": error.details}).decode()
