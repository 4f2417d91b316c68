"""The steps' way to the scheduler: a question without effect."""

from __future__ import annotations

import msgspec

from kilonova.conductor.errors import Refused
from kilonova.conductor.ports import CallContext
from kilonova.model.scheduling import Request
from kilonova.scheduler.port import SchedulerPort

_request = msgspec.json.Decoder(Request)
_encode = msgspec.json.Encoder().encode


class SchedulerSteps:
    """``scheduler``: `select`."""

    def __init__(self, scheduler: SchedulerPort) -> None:
        self._scheduler = scheduler

    async def perform(self, target: str, method: str, args: bytes, call: CallContext) -> bytes:
        if method != "select":
            raise Refused(f"the scheduler has no {method}", "internal")
        return _encode(await self._scheduler.choose(_request.decode(args)))
