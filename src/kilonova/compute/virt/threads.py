"""Small pools for calls that block and can't be cancelled.

Always holds: when `run` returns or raises, cancellation included, its call is over. So nothing lands on a
guest after the caller has gone on to something else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    def __init__(self, name: str, size: int) -> None:
        self._pool = ThreadPoolExecutor(size, name)

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        future = asyncio.wrap_future(self._pool.submit(call, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await asyncio.shield(future)
            if not future.cancelled():
                future.exception()
            raise

    def close(self) -> None:
        """Takes no more calls; does not wait for those that run."""
        self._pool.shutdown(wait=False)
