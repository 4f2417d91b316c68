"""Thread pools: bounds, context, cancellation, and that nothing keeps the process alive."""

import asyncio
import threading

import pytest

from kilonova import log
from kilonova.pools import Overloaded, Pool, Pools


@pytest.fixture
def pools():
    made = Pools()
    yield made
    made.close(5)


async def test_values_errors_and_context(pools):
    assert await pools.run("files", divmod, 7, 2) == (3, 1)
    assert await pools.run("files", int, "ff", base=16) == 255
    with pytest.raises(ZeroDivisionError):
        await pools.run("files", lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pools.run("files", next, iter(()))
    with log.bound(request_id="req-1"):
        assert await pools.run("password", log.request_id.get) == "req-1"
    with pytest.raises(KeyError):
        await pools.run("nosuch", print)


async def test_no_more_threads_than_allowed_and_none_before_use():
    pool = Pool("small", 2)
    gate, names, lock = threading.Event(), set(), threading.Lock()

    def work():
        with lock:
            names.add(threading.current_thread().name)
        gate.wait(10)

    assert not pool._started
    async with asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(pool.run(work))
        await asyncio.sleep(0)
        gate.set()
    assert names <= {"small-0", "small-1"}
    assert pool.taken == 0
    assert pool.close(5)


async def test_a_full_queue_refuses_at_once():
    pool, gate = Pool("full", 1, waiting=1), threading.Event()
    tasks = [asyncio.create_task(pool.run(gate.wait, 10)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="full"):
        await pool.run(print)
    gate.set()
    assert await asyncio.gather(*tasks) == [True, True]
    await pool.run(str)
    assert pool.close(5)


async def test_a_cancelled_caller_goes_and_the_place_stays_taken():
    pool, gate, began, ran = Pool("cancel", 1), threading.Event(), threading.Event(), []

    def hold():
        began.set()
        gate.wait(10)

    held = asyncio.create_task(pool.run(hold))
    while not began.is_set():  # noqa: ASYNC110 - the thread's own event
        await asyncio.sleep(0.001)
    waiting = asyncio.create_task(pool.run(ran.append, 1))
    await asyncio.sleep(0)
    for task in (held, waiting):
        task.cancel()
    await asyncio.gather(held, waiting, return_exceptions=True)
    assert held.cancelled() and waiting.cancelled()
    assert pool.taken == 2
    gate.set()
    await pool.run(str)
    assert pool.taken == 0
    assert not ran, "cancelled before it began"
    assert pool.close(5)


async def test_a_hung_call_does_not_keep_close_waiting():
    pool, gate = Pool("hung", 1), threading.Event()
    task = asyncio.create_task(pool.run(gate.wait, 10))
    await asyncio.sleep(0)
    assert not pool.close(0.05)
    assert all(thread.daemon for thread in pool._started)
    with pytest.raises(RuntimeError, match="closed"):
        await pool.run(str)
    gate.set()
    await task


def test_a_loop_that_ended_meanwhile_harms_nothing():
    pool, gate = Pool("late", 1), threading.Event()

    async def leave():
        task = asyncio.create_task(pool.run(gate.wait, 10))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert pool.close(5)
    assert pool.taken == 0
