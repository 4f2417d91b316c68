"""The version document, for anyone."""

from __future__ import annotations

from kilonova.http.message import Request, Response
from kilonova.placement.handlers.context import Context
from kilonova.placement.wire import LATEST, OLDEST, answer


async def document(request: Request, context: Context) -> Response:
    version = {
        "id": "v1.0",
        "max_version": f"1.{LATEST}",
        "min_version": f"1.{OLDEST}",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }
    return answer(request, {"versions": [version]})
