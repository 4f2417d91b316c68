"""Where a server's row is: in its cell, or (until it has one) in the index."""

from __future__ import annotations

from msgspec import Struct

from kilonova.api.operation import Call
from kilonova.api.services import ApiServices
from kilonova.db.database import Database
from kilonova.db.queries.server_index import FIND, indexed
from kilonova.db.queries.server_pages import ARCHIVED, one
from kilonova.db.queries.server_state import SELECT
from kilonova.http.errors import NotFound
from kilonova.model.server import Server


class Found(Struct):
    """A server and the database of its row; None: it has no cell, `server` is what was asked for."""

    server: Server
    database: Database | None
    generation: int = 0
    """Of the index row, where there is no cell."""

    @property
    def target(self) -> dict[str, str]:
        """What policy rules compare with."""
        return {"project_id": self.server.project_id, "user_id": self.server.user_id}


def missing(uuid: str) -> NotFound:
    """The 404 for a server."""
    return NotFound(f"Instance {uuid[:100]} could not be found.")


async def locate(services: ApiServices, uuid: str) -> Found | None:
    """Find a server wherever it is; None when there is none."""
    databases = services.databases
    whole = databases.global_
    cells = databases.cells
    for _ in range(2):  # a server that is placed between two reads is found by the second round
        if all(cell is whole for cell in cells.values()):
            row = await whole.fetch_one(SELECT, {"uuid": uuid})
            if row is not None:
                return Found(one(row), whole)
        where = indexed(await whole.fetch_one(FIND, {"uuid": uuid}))
        if where is None:
            return None
        if where.unplaced is not None:
            return Found(where.unplaced, None, where.generation)
        cell = cells.get(where.cell or "")
        row = await cell.fetch_one(SELECT, {"uuid": uuid}) if cell is not None else None
        if row is not None:
            return Found(one(row), cell)
    return None


async def find(call: Call, rule: str, uuid: str | None = None) -> Found:
    """The server of the call's path, if the caller may know of it and meets `rule`. Raises NotFound, Forbidden."""
    wanted = (uuid or call.params["server_id"]).lower()
    found = await locate(call.services, wanted) if len(wanted) == 36 else None
    return _checked(call, rule, wanted, found)


async def find_even_deleted(call: Call, rule: str) -> Found:
    """As `find`, but also among what is archived."""
    wanted = call.params["server_id"].lower()
    found = await locate(call.services, wanted) if len(wanted) == 36 else None
    if found is None and len(wanted) == 36:
        for cell in dict.fromkeys(call.services.databases.cells.values()):
            row = await cell.fetch_one(ARCHIVED, {"uuid": wanted})
            if row is not None:
                found = Found(one(row), cell)
                break
    return _checked(call, rule, wanted, found)


def _checked(call: Call, rule: str, wanted: str, found: Found | None) -> Found:
    if found is None:
        raise missing(wanted)
    if found.server.project_id != call.creds.project_id and not call.policy.is_admin(call.creds):
        raise missing(wanted)
    call.authorize(rule, found.target)
    return found
