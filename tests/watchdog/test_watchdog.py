"""The watchdog: quiet loops pass, held ones are named, and blame falls on the right one."""

import asyncio
import threading
import time

import pytest
import uvloop

from kilonova.metrics import Registry
from kilonova.watchdog import LoopStalled, Sample, Watchdog


def compute(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def block(seconds):
    time.sleep(seconds)


async def samples(dog, more):
    """Wait until ``more`` further samples are in."""
    goal = dog.lag_report().samples + more
    async with asyncio.timeout(10):
        while dog.lag_report().samples < goal:  # noqa: ASYNC110 - the loop must be awake to be sampled
            await asyncio.sleep(0.001)


async def watch(hold):
    registry = Registry()
    async with Watchdog(registry=registry) as dog:
        await samples(dog, 2)
        dog.forget()
        if hold is not None:
            hold()
        await samples(dog, 2)
    return dog, registry.render().decode()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    return asyncio.run if request.param == "asyncio" else uvloop.run


def test_a_quiet_loop_passes(run):
    dog, text = run(watch(None))
    dog.assert_quiet()
    report = dog.lag_report()
    assert report.samples >= 2
    assert 0 <= report.wall_p50 <= report.wall_p99 <= report.wall_p999 <= report.wall_max
    assert report.cpu_max < 0.02
    assert "kilonova_loop_lag_seconds_count" in text


def test_computing_is_named_and_blamed(run):
    dog, text = run(watch(lambda: compute(0.2)))
    with pytest.raises(LoopStalled, match=r"test_watchdog\.py:\d+ .*compute"):
        dog.assert_quiet()
    report = dog.lag_report()
    assert report.cpu_max > 0.1
    assert report.held_max > 0.1
    assert "kilonova_loop_stalls_total 0" not in text


def test_a_blocking_call_is_named_though_it_uses_no_processor(run):
    dog, _ = run(watch(lambda: block(0.4)))
    (stall,) = [s for s in dog.lag_report().stalls if s.held > 0.2]
    assert "block" in stall.where
    assert stall.cpu < 0.1
    with pytest.raises(LoopStalled):
        dog.assert_quiet()
    dog.assert_quiet(held=5)


def test_time_on_the_run_queue_is_not_the_loops_fault():
    assert Sample(wall=0.3, cpu=0.001, queued=0.29).held == pytest.approx(0.01)
    dog = Watchdog(registry=Registry())
    dog._keep(Sample(wall=0.3, cpu=0.001, queued=0.29))
    dog.assert_quiet()
    assert dog.lag_report().wall_max == 0.3
    assert not dog.lag_report().stalls


async def test_it_ends_with_its_thread():
    before = threading.active_count()
    dog = Watchdog(registry=Registry())
    dog.start()
    dog.stop()
    dog.stop()
    assert threading.active_count() == before


def test_a_loop_that_is_closed_under_it_ends_it():
    async def leave():
        dog = Watchdog(registry=Registry())
        dog.start()
        return dog

    dog = asyncio.run(leave())
    thread = dog._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    dog.stop()


def test_idle_costs_little(run):
    async def idle():
        async with Watchdog(registry=Registry()) as dog:
            await samples(dog, 3)
            before = time.process_time()
            await asyncio.sleep(1.0)  # the thing measured is this time itself
            return time.process_time() - before

    assert run(idle()) < 0.05
