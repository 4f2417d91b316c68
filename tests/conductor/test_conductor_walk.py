"""What the executor does with stories and ports that misbehave (contracts: 1.4 to 1.13)."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from contextlib import suppress

import pytest

from conductor.toy import Nothing, Toy, stories
from kilonova.conductor.errors import Lost, Refused, Transient
from kilonova.conductor.run import prepare
from kilonova.conductor.story import Done, Step, Undo, done, effect
from kilonova.db.errors import Busy
from kilonova.db.queries import journal
from kilonova.db.statement import Statement


@pytest.fixture
async def toy(databases):
    toy = Toy(databases.cells["cell1"])
    yield toy
    await toy.executor.stop()


def _refused(code):
    async def told(call):
        raise Refused("no", code)

    return told


async def test_one_of_several_calls_that_lost_its_operation_drops_it_quietly(toy, caplog):
    async def two(op, inputs) -> Done:
        await op.all(op.call("a", "toy", "a", None), op.call("b", "toy", "b", None))
        return done()

    async def fenced(call):
        raise Lost("fenced")

    toy.port.told["a"] = fenced
    with stories(two=two), caplog.at_level(logging.WARNING):
        await toy.run("two")
    assert not [r for r in caplog.records if "executor failed" in r.message]


async def test_all_of_several_calls_end_before_the_first_refusal_is_told(toy):
    seen = []

    async def mixed(op, inputs) -> Done:
        try:
            await op.all(op.call("a", "toy", "a", None), op.call("b", "toy", "b", None), op.call("c", "toy", "c", None))
        except Refused as error:
            seen.append(error.code)
        return done()

    async def late(call):
        await asyncio.sleep(0.05)
        raise Refused("no", "late")

    toy.port.told |= {"a": late, "b": _refused("at once")}
    with stories(mixed=mixed):
        operation = await toy.run("mixed")
    assert await toy.row(operation, "state") == "done"
    assert seen[-1] == "late"
    rows = await toy.database.fetch(Statement("SELECT name, state FROM steps ORDER BY name"), {})
    assert rows == [("a", "refused"), ("b", "refused"), ("c", "done")]


async def test_a_call_that_never_answers_ends_with_its_budget(toy):
    async def hangs(op, inputs) -> Done:
        await op.call("a", "toy", "a", None, undo=Undo("toy", "undo_a", None, "thing"), budget_s=0.1)
        return done()

    async def never(call):
        await asyncio.Event().wait()

    toy.port.told["a"] = never
    toy.executor.least_s = 0.1
    with stories(hangs=hangs):
        operation = await asyncio.wait_for(toy.run("hangs"), 10)
    assert await toy.row(operation, "state") == "undone"
    assert ("undo_a", f"{operation}/a//undo") in toy.port.calls


async def test_an_undo_that_never_answers_becomes_a_debt(toy):
    async def fails(op, inputs) -> Done:
        await op.call("a", "toy", "a", None, undo=Undo("toy", "undo_a", None, "thing"))
        raise Refused("no", "no")

    async def never(call):
        await asyncio.Event().wait()

    toy.port.told["undo_a"] = never
    toy.executor.least_s = 0.1
    with stories(fails=fails):
        operation = await asyncio.wait_for(toy.run("fails"), 10)
    assert await toy.row(operation, "state") == "undone"
    assert await toy.database.fetch(Statement("SELECT state FROM debts"), {}) == [("open",)]


async def test_a_bug_in_a_write_step_undoes_the_operation(toy):
    """Anything but a refusal is a bug: undo, fault `internal` (1.8), not a try a second for ever."""

    async def story(op, inputs) -> Done:
        await op.call("a", "toy", "a", None, undo=Undo("toy", "undo_a", None, "thing"))
        await op.effect(broken, Nothing())
        return done()

    with stories(buggy=story):

        @effect("broken", Nothing)
        async def broken(tx, args, context):
            raise KeyError("oops")

        operation = await toy.run("buggy")
    state, error = await toy.row(operation, "state", "error")
    assert state == "undone"
    assert '"internal"' in error
    assert [m for m, _ in toy.port.calls] == ["a", "undo_a"]


async def test_an_error_of_a_walk_that_was_rolled_back_is_forgotten(toy):
    """The transaction is run again after a conflict: what the first walk failed with never happened."""
    tries = []

    async def story(op, inputs) -> Done:
        if await op.effect(full, Nothing()) == "full":
            raise Refused("full", "full")
        return done()

    with stories(again=story):

        @effect("full", Nothing, str)
        async def full(tx, args, context):
            tries.append(1)
            return "full" if len(tries) == 1 else "free"

        write = toy.database.write

        async def twice(f, args):
            """As after a serialization failure: `f` ran to its end, and is run again."""

            async def run(tx, a):
                async def lost(inner, b):
                    await f(inner, b)
                    raise Busy("conflict")

                if len(tries) == 0 and f.__name__ == "commit_boundary":
                    try:
                        await write(lost, a)
                    except Busy:
                        pass
                return None

            if f.__name__ == "commit_boundary" and not tries:
                await run(None, args)
            return await write(f, args)

        toy.executor.database = _Tapped(toy.database, twice)
        operation = await toy.run("again")
    assert await toy.row(operation, "state", "error") == ("done", None)


class _Tapped:
    """A database whose writes go through a function of the test's."""

    def __init__(self, inner, write) -> None:
        self._inner, self.write = inner, write

    def __getattr__(self, name):
        return getattr(self._inner, name)


async def test_an_answer_that_cannot_be_read_stops_the_operation(toy):
    """A journal written by another version: stop here and alarm, do not try a second for ever (1.6)."""

    async def story(op, inputs) -> Done:
        await op.call("a", "toy", "a", None, int)
        await op.call("b", "toy", "b", None)
        return done()

    async def word(call):
        return b'"word"'

    toy.port.told["a"] = word
    with stories(unreadable=story):
        operation = await toy.run("unreadable")
        assert operation in toy.executor.stuck
        calls = len(toy.port.calls)
        await toy.executor.poll()
        await toy.executor.idle()
        assert len(toy.port.calls) == calls
        # What takes its lane ends the alarm as well.
        await toy.sql("UPDATE operations SET superseded = 1, ended_at = 1 WHERE id = :id", id=operation)
        await toy.executor.poll()
        assert toy.executor.stuck == {}


async def test_changed_arguments_stop_the_operation(toy):
    value = ["one"]

    async def story(op, inputs) -> Done:
        await op.call("a", "toy", "a", value[0])
        await op.call("b", "toy", "b", None)
        return done()

    hold = asyncio.Event()

    async def wait(call):
        await hold.wait()
        return b"null"

    toy.port.told["b"] = wait
    with stories(changed=story):
        operation = await toy.open("changed")
        toy.executor.poke(operation)
        await toy.until(lambda: _among(toy, "b"), "the second call")
        await toy.executor.stop()
        other = Toy(toy.database, me=toy.me)
        value[0] = "two"
        other.executor.poke(operation)
        await other.executor.idle()
        assert operation in other.executor.stuck


async def _among(toy, method):
    return any(m == method for m, _ in toy.port.calls)


def test_arguments_with_sets_have_one_digest_in_every_process():
    code = (
        "from kilonova.conductor.run import prepare\n"
        "from kilonova.conductor.story import Step\n"
        "s = frozenset(f'TRAIT_{n}' for n in range(20))\n"
        "print(prepare(Step('n', '', 'ask', 'p', 'm', {'required': s}, None)).digest)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert prepare(Step("n", "", "ask", "p", "m", {"b": 1}, None)).digest


async def test_operations_that_cannot_begin_do_not_hide_those_that_can(toy):
    """Behind a lane that is held, superseded, or of a version we do not have."""

    async def story(op, inputs) -> Done:
        return done()

    lane = "44444444-4444-4444-8444-444444444444"
    with stories(plain=story):
        first = await toy.open("plain", target=lane, number=1)
        await toy.sql("UPDATE operations SET owner = 'another', epoch = 1, state = 'running'")

        async def fill(tx, _):
            for n in range(600):
                await tx.execute(
                    Statement(
                        """INSERT INTO operations SELECT :id, :story, 1, 'ready', :target, :n, NULL, 0, inputs, NULL,
                           NULL, NULL, :gone, 0, 0, NULL, request_id, user_id, project_id, created_at, updated_at,
                           NULL FROM operations WHERE id = :first"""
                    ),
                    {
                        "id": f"id-{n}", "n": n + 2, "first": first, "gone": int(n % 3 == 1),
                        "story": "unheard-of" if n % 3 == 2 else "plain", "target": None if n % 3 == 2 else lane,
                    },
                )  # fmt: skip

        await toy.database.write(fill, None)
        last = await toy.open("plain")
        await toy.executor.poll()
        await toy.executor.idle()
        assert await toy.row(last, "state") == "done"


async def test_a_signal_whose_wake_was_lost_is_found_by_poll(toy):
    async def story(op, inputs) -> Done:
        await op.wait("plugged", "network-vif-plugged", "port-1", 60)
        return done()

    with stories(waits=story):
        operation = await toy.run("waits", target="55555555-5555-4555-8555-555555555555", number=1)
        assert await toy.row(operation, "state") == "running"
        await toy.executor.poll()
        assert toy.executor.active == {}

        async def signal(tx, _):
            await tx.execute(journal.INSERT_SIGNAL, {
                "id": "s1", "subject": "55555555-5555-4555-8555-555555555555", "name": "network-vif-plugged",
                "tag": "port-1", "payload": "{}", "now": 1,
            })  # fmt: skip

        await toy.database.write(signal, None)
        await toy.executor.poll()
        await toy.executor.idle()
        assert await toy.row(operation, "state") == "done"


async def test_a_signal_before_the_wait_and_a_timer_over_a_takeover(toy):
    async def story(op, inputs) -> Done:
        with suppress(Refused):
            await op.wait("never", "never", "x", 0.3)
        await op.wait("plugged", "network-vif-plugged", "port-1", 60)
        return done()

    async def signal(tx, subject):
        await tx.execute(journal.INSERT_SIGNAL, {
            "id": "s1", "subject": subject, "name": "network-vif-plugged", "tag": "port-1", "payload": "{}", "now": 1,
        })  # fmt: skip

    with stories(waits=story):
        operation = await toy.run("waits")
        await toy.database.write(signal, operation)
        await toy.executor.stop()
        other = Toy(toy.database, me=toy.me)
        await asyncio.sleep(0.35)

        async def over():
            await other.executor.poll()
            await other.executor.idle()
            return await toy.row(operation, "state") == "done"

        await toy.until(over, "the wait to end")
        await other.executor.stop()


async def test_an_operation_taken_from_its_owner_is_not_called_for_again(toy):
    """A call is tried again and again; after a delete took the lane it must stop (a neighbour has no fences)."""

    async def story(op, inputs) -> Done:
        await op.call("a", "toy", "a", None)
        return done()

    async def away(call):
        raise Transient("away", "away")

    toy.port.told["a"] = away
    with stories(taken=story):
        operation = await toy.open("taken")
        toy.executor.poke(operation)
        await toy.until(lambda: _among(toy, "a"), "the first try")
        await toy.sql("UPDATE operations SET superseded = 1 WHERE id = :id", id=operation)
        await asyncio.wait_for(toy.executor.idle(), 5)


async def test_a_budget_outlives_its_owners(toy):
    """Seconds spent are saved while they are spent (1.13): owners that die early do not make a budget endless."""

    async def story(op, inputs) -> Done:
        await op.call("a", "toy", "a", None, budget_s=1000)
        return done()

    async def away(call):
        raise Transient("away", "away")

    toy.port.told["a"] = away
    toy.executor.save_s = 0.05
    with stories(spends=story):
        operation = await toy.open("spends")
        toy.executor.poke(operation)

        async def saved():
            row = await toy.database.fetch_one(Statement("SELECT spent_us, attempts FROM steps"), {})
            return row is not None and row[0] > 0 and row[1] > 1

        await toy.until(saved, "the seconds spent to be saved")
        await toy.executor.stop()


async def test_stopping_in_the_middle_of_a_commit_leaves_the_boundary_whole(toy):
    """The writer thread may walk the story while its task is cancelled: nobody pulls the walk from under it."""
    for _ in range(40):
        executor = Toy(toy.database, me=toy.me)

        async def story(op, inputs) -> Done:
            for n in range(20):
                await op.effect(note, Nothing(), item=str(n))
            return done()

        with stories(busy=story):

            @effect("note", Nothing)
            async def note(tx, args, context):
                await tx.fetch(Statement("SELECT COUNT(*) FROM steps"), {})

            operation = await executor.open("busy")
            executor.executor.poke(operation)
            await asyncio.sleep(0.001)
            await executor.executor.stop()
            again = Toy(toy.database, me=toy.me)

            async def ended(again=again, operation=operation):
                again.executor.poke(operation)
                await again.executor.idle()
                return await again.row(operation, "ended_at") is not None

            await toy.until(ended, "the operation to end")
            assert await toy.row(operation, "state") == "done"
            rows = await toy.database.fetch(
                Statement("SELECT COUNT(*) FROM steps WHERE operation_id = :id AND state = 'done'"), {"id": operation}
            )
            assert rows == [(20,)]


async def test_a_host_that_works_on_a_call_gets_longer_but_not_for_ever(toy):
    """Accepted is an answer: its work may take more than silence may. Three budgets, then it is given up."""
    ended = []

    async def works(op, inputs) -> Done:
        try:
            await op.call("a", "toy", "a", None, budget_s=0.1)
            ended.append("done")
        except Refused as error:
            ended.append(error.code)
        return done()

    takes = [0.15]

    async def accepted(call):
        call.accepted()
        await asyncio.sleep(takes[0])
        return b"null"

    toy.port.told["a"] = accepted
    toy.executor.least_s = 0.1
    with stories(works=works):
        await toy.run("works")
        takes[0] = 60
        await asyncio.wait_for(toy.run("works"), 10)
    assert ended[0] == "done"
    assert ended[-1] == "unknown"
