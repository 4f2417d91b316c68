"""The queue, against no targets: what `kilonova.bench.queue` measures."""

from __future__ import annotations

from kilonova.bench import queue
from kilonova.bench.figure import Figure

_WORDS = {"call_us": "call", "ask_us": "ask", "wake_self_us": "wake"}


async def run() -> list[Figure]:
    found = {"memory": await queue.memory(1000), "ZeroMQ": await queue.zeromq(300)}
    return [
        Figure(name=f"{where}: {word}, CPU", value=figures[key], unit="us")
        for where, figures in found.items()
        for key, word in _WORDS.items()
    ]
