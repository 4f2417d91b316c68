"""Operations that are gone from the API (410, 400) and those that are not made yet (501), each in its versions.

``absent.json`` rows: method, path, action, since, until, status, policy rule. A row leaves it when its
operation is declared elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kilonova.api.operation import ANYONE, Call, Function, Operation
from kilonova.api.servers.finding import find
from kilonova.http.errors import BadRequest, Gone, NotImplementedHere

_Row = tuple[str, str, str | None, int, int, int, str]


def _function(status: int, what: str, rule: str) -> Function:
    async def answer(call: Call) -> Any:
        # Who may not, or asks about what is not there, learns that and no more.
        if status == 501 and rule:
            if "server_id" in call.params:
                await find(call, rule)
            else:
                call.authorize(rule)
        if status == 410:
            raise Gone("This resource is no longer available. No forwarding address is given.")
        if status == 400:
            raise BadRequest(f"{what} is no longer supported.")
        raise NotImplementedHere(f"{what} is not implemented here yet.")

    return answer


def operations() -> Iterator[Operation]:
    """Return one operation a row."""
    rows = msgspec.json.decode(Path(__file__).with_name("absent.json").read_bytes(), type=list[_Row])
    for method, path, action, since, until, status, rule in rows:
        what = f"{method} {path}" + (f" ({action})" if action else "")
        yield Operation(
            method=method, path=path, action=action, since=since, until=until, rule=ANYONE,
            function=_function(status, what, rule),
        )  # fmt: skip
