"""A ledger whose disk fails at the worst moment goes on when the disk does."""

from __future__ import annotations

import asyncio
import errno
import os

from kilonova.compute.ledger import Ledger
from kilonova.model.command import Fence


async def test_a_rewrite_that_cannot_begin_holds_up_nobody(tmp_path, monkeypatch):
    """The file has grown, and a fresh one cannot be made: fences are still written to the old one."""
    ledger = Ledger(tmp_path / "ledger.log")
    ledger.open()
    try:
        real = os.open

        def full(path, *args, **kw):
            if str(path).endswith(".new"):
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *args, **kw)

        with monkeypatch.context() as patch:
            patch.setattr(os, "open", full)
            ledger._limit = 0
            ledger.lift("h", "one", Fence(1, 1))
            await asyncio.wait_for(ledger.begin("h", "one", "k1"), 5)
            ledger._limit = 0
            ledger.lift("h", "two", Fence(1, 1))
            await asyncio.wait_for(ledger.begin("h", "two", "k2"), 5)
        ledger.lift("h", "three", Fence(1, 1))
        await asyncio.wait_for(ledger.begin("h", "three", "k3"), 5)
    finally:
        await ledger.close()
    again = Ledger(tmp_path / "ledger.log")
    again.open()
    assert {server for _, server in again.entries} == {"one", "two", "three"}
    await again.close()
