"""What was done to a server, newest first, and the events of each action."""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.statement import Row, Statement

_COLUMNS = "id, server, request_id, action, user_id, project_id, message, started_at, updated_at"
_EVENT = "event, host, result, details, traceback, started_at, finished_at"
OF_SERVER = Statement(
    f"""SELECT {_COLUMNS} FROM instance_actions WHERE server = :server
        ORDER BY started_at DESC, id DESC LIMIT :limit"""
)
PAGE = Statement(
    f"""SELECT {_COLUMNS} FROM instance_actions
        WHERE server = :server AND updated_at >= :since AND updated_at <= :before
          AND (started_at < :marker_at OR (started_at = :marker_at AND id < :marker_id))
        ORDER BY started_at DESC, id DESC LIMIT :limit"""
)
BY_REQUEST = Statement(
    f"""SELECT {_COLUMNS} FROM instance_actions WHERE server = :server AND request_id = :request_id
        ORDER BY started_at LIMIT 1"""
)
EVENTS = Statement(f"SELECT {_EVENT} FROM instance_action_events WHERE action_id = :id ORDER BY seq DESC")


class Action(Struct, frozen=True):
    """One action; times in microseconds UTC."""

    id: str
    server: str
    request_id: str
    action: str
    user_id: str
    project_id: str
    message: str | None
    started_at: int
    updated_at: int


class ActionEvent(Struct, frozen=True):
    """One step of an action; `result` is Success or Error once it ended."""

    event: str
    host: str | None
    result: str | None
    details: str | None
    traceback: str | None
    started_at: int
    finished_at: int | None


def action(row: Row) -> Action:
    """From a row of actions."""
    return Action(*row)


def event(row: Row) -> ActionEvent:
    """From a row of `EVENTS`."""
    return ActionEvent(*row)
