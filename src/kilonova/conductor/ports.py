"""The ports that steps go through: by name, one idempotent call each.

``host:<name>`` hosts, ``db:<name>`` other databases, ``network``, ``placement``, ``scheduler``. A port
raises Refused, Transient or UnknownEffect and nothing else on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kilonova.conductor.story import Context
from kilonova.model.command import Fence


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who calls, under which key and fence."""

    key: str
    """``operation id/step/item[/undo]``: the same at every try."""
    server: str | None
    fence: Fence
    context: Context
    undo: bool = False
    accepted: Callable[[], None] = _nothing
    """A port calls it when the other side has said that it works on it: such a try may take longer."""


class Port(Protocol):
    async def perform(self, target: str, method: str, args: bytes, call: CallContext) -> bytes:
        """`target`: what follows the colon of the port's name; args and answer are JSON."""


class Ports:
    """All ports of a process, by the part of their name before the colon."""

    def __init__(self) -> None:
        self._ports: dict[str, Port] = {}

    def add(self, name: str, port: Port) -> None:
        self._ports[name] = port

    async def perform(self, port: str, method: str, args: bytes, call: CallContext) -> bytes:
        kind, _, target = port.partition(":")
        return await self._ports[kind].perform(target, method, args, call)
