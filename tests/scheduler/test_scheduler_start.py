"""A start without a boot pays for no arrays; the benchmark runs."""

from __future__ import annotations

import subprocess
import sys

from kilonova.bench import scheduler as bench
from kilonova.db.database import Database


def test_importing_the_service_imports_no_numpy() -> None:
    code = "import sys, kilonova.scheduler.service, kilonova.scheduler.port, kilonova.placement.face; " \
           "sys.exit('numpy' in sys.modules or 'sqlalchemy' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_benchmark_runs(db: Database) -> None:
    figures = bench.choose(50, repeats=3)
    assert figures["choose_cpu_ms"] > 0
    providers = await bench.make_hosts(db, 20)
    assert (await bench.load(db))["hosts"] == 20
    claimed = await bench.claims(db, providers, tasks=4, seconds=0.05)
    assert claimed["claims_per_s"] > 0
    assert claimed["conflicts"] == 0
