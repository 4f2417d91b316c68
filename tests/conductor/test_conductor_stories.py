"""What every story gets by being registered (contracts: tests every story gets).

For each story and each call that it makes: the call twice, refused, with an unknown effect, its owner killed
before and after the effect, its owner a zombie, a delete in its middle, the host down, its undo failing into a debt.
After each the world is compared with the records by the checker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from conductor.small_cloud import SmallCloud, small_cloud
from kilonova.conductor.errors import Refused, Transient, UnknownEffect
from kilonova.conductor.story import STORIES

Do = Callable[[SmallCloud, str], Awaitable[object]]


async def nothing(cloud, uuid):
    return None


async def boot(cloud) -> str:
    (uuid,) = await cloud.create()
    await cloud.settled(uuid, "active")
    return uuid


async def boot_and_stop(cloud) -> str:
    uuid = await boot(cloud)
    await cloud.power_off(uuid)
    await cloud.settled(uuid, "stopped")
    return uuid


async def only_create(cloud) -> str:
    (uuid,) = await cloud.create()
    return uuid


async def create_where_nothing_fits(cloud) -> str:
    (uuid,) = await cloud.create(host="no-such-host")
    return uuid


@dataclass
class Scenario:
    """How one story is begun, and where it may leave the server."""

    prepare: Callable[[SmallCloud], Awaitable[str]]
    begin: Do
    calls: int
    """How many calls it makes when nothing fails."""
    done: str
    failed: tuple[str, ...]
    creates: bool = False
    """The story begins with the request itself: `prepare` starts it."""


CREATE = Scenario(only_create, nothing, 2, "active", ("error", "active"), creates=True)
SCENARIOS = {
    "schedule": CREATE,  # its own calls are writes and questions; with the databases apart also `place`
    "build": CREATE,
    "bury": Scenario(create_where_nothing_fits, nothing, 0, "error", ("error",), creates=True),
    "delete": Scenario(boot, lambda c, u: c.delete(u), 2, "deleted", ("deleted",)),
    "start": Scenario(boot_and_stop, lambda c, u: c.power_on(u), 1, "active", ("stopped", "active")),
    "stop": Scenario(boot, lambda c, u: c.power_off(u), 1, "stopped", ("active", "stopped")),
    "reboot": Scenario(boot, lambda c, u: c.reboot(u, "HARD"), 1, "active", ("active",)),
    "reset": Scenario(boot, lambda c, u: c.reset(u, "error"), 1, "error", ("error",)),
}
STORY_NAMES = sorted(SCENARIOS)


def test_every_registered_story_has_a_scenario():
    assert {name for name, _ in STORIES} == set(SCENARIOS)


class At:
    """Acts on the n-th forward call of a scenario; `wanted` says which ports count."""

    def __init__(self, n: int, act, undo=None) -> None:
        self.n, self.act, self.undo = n, act, undo
        self.reached = asyncio.Event()
        self.release = asyncio.Event()
        self.keys: list[str] = []

    async def __call__(self, call, go):
        if call.port.startswith("scheduler"):
            return await go()
        if call.undo:
            return await (self.undo(call, go) if self.undo else go())
        if call.key not in self.keys:
            self.keys.append(call.key)
        if len(self.keys) > self.n and self.keys[self.n] == call.key:
            return await self.act(self, call, go)
        return await go()


async def twice(at, call, go):
    at.reached.set()
    first = await go()
    second = await go()
    assert first == second or call.port == "network"
    return second


async def refuse(at, call, go):
    if call.port.startswith("db:") and call.method != "place":
        return await go()  # effects in databases are waited for; only `place` may refuse (a bug in it)
    at.reached.set()
    raise Refused("The test refuses.", "refused", f"at {call.method}")


async def unknown_once(at, call, go):
    answer = await go()
    if not at.reached.is_set():
        at.reached.set()
        raise UnknownEffect("The answer is lost.", "unknown")
    return answer


async def unknown_for_ever(at, call, go):
    answer = await go()
    if call.port.startswith("db:") and at.reached.is_set():
        return answer
    at.reached.set()
    raise UnknownEffect("The answer is lost.", "unknown")


async def hold_before(at, call, go):
    at.reached.set()
    await at.release.wait()
    return await go()


async def hold_after(at, call, go):
    answer = await go()
    at.reached.set()
    await at.release.wait()
    return answer


async def host_down(at, call, go):
    if call.port.startswith("db:"):
        return await go()
    at.reached.set()
    raise Transient("The compute host cannot be reached.", "unreachable")


async def undo_twice(call, go):
    await go()
    return await go()


async def undo_down(call, go):
    raise Transient("The holder is away.", "unreachable")


@pytest.fixture
async def cloud(databases, tmp_path):
    """The cloud a test begins with; a test that kills it leaves its successor in `box`."""
    async with small_cloud(databases, tmp_path) as made:
        box = [made]
        yield box
        if box[0] is not made:
            await box[0].stop()


def small_budgets(cloud, scale=0.002):
    for executor in cloud.conductor.executors:
        executor.budget_scale = scale


async def begin(cloud, scenario, at):
    """Bring the scenario to its n-th call; None when it makes fewer (the databases are one)."""
    if scenario.creates:
        cloud.tap.hook = at
        uuid = await scenario.prepare(cloud)
    else:
        uuid = await scenario.prepare(cloud)
        cloud.tap.hook = at
        answer = await scenario.begin(cloud, uuid)
        assert answer.refused is None, answer
    return uuid


async def each_call(box, story, act, undo=None, *, after=None, states=None, clean=True):
    """Run the scenario once for each of its calls with `act` on that call."""
    scenario = SCENARIOS[story]
    n = reached = 0
    while True:
        cloud = box[0]
        at = At(n, act, undo)
        uuid = await begin(cloud, scenario, at)
        waiter = asyncio.ensure_future(at.reached.wait())
        ended = asyncio.ensure_future(cloud.settled(uuid, scenario.done, *scenario.failed))
        await asyncio.wait([waiter, ended], return_when=asyncio.FIRST_COMPLETED)
        reached += len(at.keys) > n
        if at.reached.is_set():
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)
            if after is not None:
                await after(box, at, uuid)
            cloud = box[0]
            await cloud.settled(uuid, *(states or (scenario.done, *scenario.failed)))
        else:
            waiter.cancel()
            await ended
        cloud.tap.hook = None
        if clean:
            assert await cloud.audit() == [], f"{story}, call {n}"
        if len(at.keys) <= n:
            break
        n += 1
    assert reached >= scenario.calls
    return reached


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_each_call_twice(cloud, story):
    await each_call(cloud, story, twice, states=(SCENARIOS[story].done,))


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_each_call_refused(cloud, story):
    await each_call(cloud, story, refuse, after=pay_debts)


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_each_answer_lost_once(cloud, story):
    await each_call(cloud, story, unknown_once, states=(SCENARIOS[story].done,))


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_each_answer_lost_for_ever(cloud, story):
    small_budgets(cloud[0])
    await each_call(cloud, story, unknown_for_ever, after=pay_debts)


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_each_undo_twice(cloud, story):
    await each_call(cloud, story, refuse, undo_twice, after=pay_debts)


async def pay_debts(box, at, uuid):
    """The story ends; then what it left as debts is paid once the holders are back."""
    cloud = box[0]
    await cloud.settled(uuid, "active", "error", "stopped", "deleted")
    cloud.tap.hook = None
    for executor in cloud.conductor.executors:
        await executor.idle()
    for reconciler in cloud.conductor.reconcilers:
        await reconciler.pay()
    for reconciler in cloud.conductor.reconcilers:
        await reconciler.pay()
        assert reconciler.open == 0
    await cloud.indebted()


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_each_undo_fails_into_a_debt_that_is_paid(cloud, story):
    await each_call(cloud, story, refuse, undo_down, after=pay_debts)


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_host_down_at_each_call(cloud, story):
    small_budgets(cloud[0])
    await each_call(cloud, story, host_down, undo_down, after=pay_debts)


async def kill(box, at, uuid):
    box[0] = await box[0].crash()


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_killed_after_each_intent(cloud, story):
    await each_call(cloud, story, hold_before, after=kill, states=(SCENARIOS[story].done,))


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_killed_after_each_effect(cloud, story):
    await each_call(cloud, story, hold_after, after=kill, states=(SCENARIOS[story].done,))


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_killed_before_each_commit(cloud, story):
    """The walk of every boundary was made, its transaction never committed."""
    scenario = SCENARIOS[story]
    for n in range(20):
        box = cloud[0]
        count = 0
        reached = asyncio.Event()

        def hold(executor, n=n, reached=reached):
            inner = executor._boundary

            async def boundary(run):
                nonlocal count
                count += 1
                if count > n:
                    reached.set()
                    await asyncio.Event().wait()
                return await inner(run)

            executor._boundary = boundary

        if scenario.creates:
            for executor in box.conductor.executors:
                hold(executor)
            uuid = await scenario.prepare(box)
        else:
            uuid = await scenario.prepare(box)
            for executor in box.conductor.executors:
                hold(executor)
            await scenario.begin(box, uuid)
        waiter = asyncio.ensure_future(reached.wait())
        ended = asyncio.ensure_future(box.settled(uuid, scenario.done))
        await asyncio.wait([waiter, ended], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        ended.cancel()
        await asyncio.gather(waiter, ended, return_exceptions=True)
        cloud[0] = await box.crash()
        await cloud[0].settled(uuid, scenario.done)
        assert await cloud[0].audit() == []
        if not reached.is_set():
            return
    raise AssertionError("the story never ended")


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_a_zombie_does_no_harm(cloud, story):
    """The owner is paused before its call, another takes over and ends the story; then the owner goes on."""

    async def revive(box, at, uuid):
        old = box[0]
        other = SmallCloud.beside(old)
        await other.bus.start()
        await other.conductor.start()
        await old.settled(uuid, SCENARIOS[story].done)
        at.release.set()
        for executor in old.conductor.executors:
            await executor.idle()
        await other.conductor.stop()
        await other.bus.stop()
        for owner in old.conductor.owners:  # alone again, as it believes it always was
            await owner._adopt_all()

    await each_call(cloud, story, hold_before, after=revive, states=(SCENARIOS[story].done,))


async def reset_now(box, at, uuid):
    """An admin's word ends what was under way; what it left behind goes with the server."""
    cloud = box[0]
    answer = await cloud.reset(uuid, "error")
    if answer.gone:  # not in a cell yet
        at.release.set()
        return
    if not answer.already:
        server = await cloud.server(uuid)
        assert (server.vm_state, server.task_state) == ("error", None)
    at.release.set()
    await cloud.settled(uuid, "error", "active", "deleted")
    assert not await cloud.under_way(uuid)


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_reset_in_the_middle_of_each_call_and_a_delete_then(cloud, story):
    async def after(box, at, uuid):
        await reset_now(box, at, uuid)
        if await box[0].server(uuid) is not None:
            await box[0].delete(uuid)

    await each_call(cloud, story, hold_before, after=after, states=("active", "error", "deleted"))


async def delete_now(box, at, uuid):
    cloud = box[0]
    answer = await cloud.delete(uuid)
    assert answer.refused is None
    at.release.set()
    await cloud.settled(uuid, "deleted")


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_delete_in_the_middle_of_each_call(cloud, story):
    await each_call(cloud, story, hold_before, after=delete_now, states=("deleted",))


@pytest.mark.parametrize("story", STORY_NAMES)
async def test_delete_after_the_effect_of_each_call(cloud, story):
    await each_call(cloud, story, hold_after, after=delete_now, states=("deleted",))

