"""The port to hosts: commands over the bus, results now or by report (contracts: Host, Bus).

A result that comes by report is handed to whoever waits here; if it is lost, or the waiter is another
process, the same call under the same key is made again and the host answers from its file of results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from kilonova.bus.api import Accepted, Bus, RemoteError, Result, Unknown, Unreachable
from kilonova.conductor.errors import Lost, Refused, StepError, Transient, UnknownEffect
from kilonova.conductor.ports import CallContext
from kilonova.model.command import Command, StepResult

_encode = msgspec.json.Encoder().encode
_result = msgspec.json.Decoder(StepResult)

RESULT_TOPIC = "result"
"""Fan-out of results that arrived where nobody waits for them."""
_CALL_TTL_S = 15.0
_ASK_AGAIN_S = 10.0

_FOR_OWNERS = {
    "image_invalid": "The image cannot be used",
    "image_gone": "The image is gone",
    "no_space": "The host has no room left",
    "hypervisor": "The hypervisor failed",
}


class HostPort:
    """Calls hosts. ``host:<name>``."""

    def __init__(self, bus: Bus, on_progress: Callable[[str, str, int], None] | None = None) -> None:
        self._bus = bus
        self._waiting: dict[str, asyncio.Future[StepResult]] = {}
        bus.on_fanout(RESULT_TOPIC, lambda payload: self.deliver(_result.decode(payload), spread=False))

    def deliver(self, result: StepResult, *, spread: bool = True) -> None:
        """A reported result: to its waiter here, otherwise to the other conductors."""
        future = self._waiting.get(result.key)
        if future is not None:
            if not future.done():
                future.set_result(result)
        elif spread:
            self._bus.fanout(RESULT_TOPIC, _encode(result))

    async def perform(self, target: str, method: str, args: bytes, call: CallContext) -> bytes:
        command = Command(
            server=call.server or "", fence=call.fence, key=call.key, method=method, args=msgspec.Raw(args)
        )
        payload = _encode(command)
        while True:
            future: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()
            self._waiting[call.key] = future
            try:
                answer = await self._call(target, method, payload)
                if not isinstance(answer, Accepted):
                    return _output(target, _result.decode(answer.payload))
                call.accepted()
                done, _ = await asyncio.wait([future], timeout=_ASK_AGAIN_S)
                if done:
                    return _output(target, future.result())
            finally:
                self._waiting.pop(call.key, None)

    async def _call(self, host: str, method: str, payload: bytes) -> Accepted | Result:
        try:
            return await self._bus.call(host, method, payload, ttl=_CALL_TTL_S)
        except Unreachable as error:
            raise Transient("The compute host cannot be reached.", "unreachable", f"host {host}: {error}") from None
        except Unknown as error:
            raise UnknownEffect("The compute host does not answer.", "unknown", f"host {host}: {error}") from None
        except RemoteError as error:
            if error.code == "fenced":
                raise Lost(f"host {host}: {error.message}") from None
            raise _failure(host, error.code, error.message, error.retry) from None


def _output(host: str, result: StepResult) -> bytes:
    if result.ok:
        return bytes(result.output)
    if result.code == "fenced":
        raise Lost(f"host {host}: {result.message}")
    raise _failure(host, result.code, result.message, result.retry)


def _failure(host: str, code: str, message: str, retry: bool) -> StepError:
    """The owner learns what failed, admins also where and in whose words."""
    words = _FOR_OWNERS.get(code, "The compute host refused")
    text = f"{words}: {message}" if code.startswith("image_") else f"{words}."
    return (Transient if retry else Refused)(text, code, f"host {host}: {message}")
