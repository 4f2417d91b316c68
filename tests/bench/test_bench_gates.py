"""CPU per operation must stay near its target: the best of three, generous by half. Wall times are never judged.

The one exception is a disk made slow on purpose, where the waiting is what is counted.
"""

from __future__ import annotations

from kilonova.bench.lag import CPU_LAG, percentile, under_load
from kilonova.bench.reads import one, page
from kilonova.bench.scheduler import choose
from kilonova.bench.served import ServedCloud
from kilonova.bench.servers import Load
from kilonova.bench.slow_disk import create_on, inside
from kilonova.bench.start import first_list

REPEATS = 3
GENEROUS = 1.5


async def test_create_and_delete() -> None:
    async with ServedCloud(50) as cloud:
        load = Load(cloud)
        _, _, warm = await load.creates(40)
        await load.deletes(warm)
        creates, deletes = [], []
        for _ in range(REPEATS):
            _, cpu, made = await load.creates(120)
            creates.append(cpu / 120)
            _, cpu = await load.deletes(made)
            deletes.append(cpu / 120)
    assert min(creates) < 0.003 * GENEROUS, creates
    assert min(deletes) < min(creates) * GENEROUS, (deletes, creates)


async def test_reads() -> None:
    async with ServedCloud(50) as cloud:
        await cloud.populate(1000)
        uuid = (await cloud.servers(cloud.connect()))[0]["id"]
        await one(cloud, uuid, 0.3)
        gets = [(await one(cloud, uuid, 1.0))[1] for _ in range(REPEATS)]
        pages = [(await page(cloud, 8))[1] for _ in range(REPEATS)]
    assert min(gets) < 120e-6 * GENEROUS, gets
    assert min(pages) < 0.030 * GENEROUS, pages


def test_choose_among_ten_thousand() -> None:
    found = [choose(10_000, 100)["choose_cpu_ms"] for _ in range(REPEATS)]
    assert min(found) < 0.4 * GENEROUS, found


async def test_second_start() -> None:
    async with ServedCloud(50) as cloud:
        token, found = cloud.token, []
        for _ in range(REPEATS):
            await cloud.stop()
            found.append((await first_list(cloud, token))[1])
        memory = cloud.rss_mb()
    assert min(found) < 0.6 * GENEROUS, found
    assert memory < 100 * GENEROUS, memory


async def test_the_loop_computes_no_longer_than_it_may() -> None:
    async with ServedCloud(50, "[watchdog]\nthreshold_ms = 1\n") as cloud:
        before, _, after, _ = await under_load(cloud, 4.0)
    assert after[-1][1] - before[-1][1] > 100, f"hardly any samples of {CPU_LAG}"
    assert percentile(before, after, 0.99) < 0.005 * GENEROUS, (before, after)


async def test_a_create_on_a_slow_disk() -> None:
    """5 ms in every commit: few commits in a row, and therefore soon ACTIVE."""
    async with inside() as cloud:
        taken, commits = await create_on(cloud, 15, 0.005)
    assert sorted(commits)[len(commits) // 2] <= 5, commits
    assert min(taken) < 0.040, taken
