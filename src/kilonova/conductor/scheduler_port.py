"""The steps' way to the scheduler: questions without effect, and word of a claim that was refused."""

from __future__ import annotations

import msgspec

from kilonova.conductor.errors import Refused
from kilonova.conductor.ports import CallContext
from kilonova.model.scheduling import GiveBack, Request
from kilonova.scheduler.port import SchedulerPort

_request = msgspec.json.Decoder(Request)
_give_back = msgspec.json.Decoder(GiveBack)
_encode = msgspec.json.Encoder().encode


class SchedulerSteps:
    """``scheduler``: `select`, `refused`."""

    def __init__(self, scheduler: SchedulerPort) -> None:
        self._scheduler = scheduler

    async def perform(self, target: str, method: str, args: bytes, call: CallContext) -> bytes:
        if method == "select":
            return _encode(await self._scheduler.choose(_request.decode(args)))
        if method == "refused":
            self._scheduler.refused(_give_back.decode(args).servers)
            return b"null"
        raise Refused(f"the scheduler has no {method}", "internal")
