"""Tables of the journal and of the order of changes (contracts 1 and 5)."""

from __future__ import annotations

from sqlalchemy import Index, Table

from kilonova.db.schema.metadata import journal_tables
from kilonova.db.schema.types import bigint, json, serial, text, time, uuid

operations = Table(
    "operations", journal_tables,
    uuid("id", primary_key=True),
    text("story", 64),
    bigint("version"),
    text("state", 12),  # ready running undoing done undone superseded
    uuid("target", nullable=True),  # the server (or other subject) it belongs to: its lane
    bigint("number"),  # order within the lane; the fence's first part
    uuid("owner", nullable=True),  # incarnation of a conductor
    bigint("epoch"),
    json("inputs"),
    json("before_image", nullable=True),  # before-image of the server's state
    json("result", nullable=True),
    text("error", None, nullable=True),
    bigint("superseded"),  # 1 once a delete or reset took the lane
    bigint("forward_only"),  # 1 after the point of no return
    bigint("spent_us"),
    bigint("wake_at", nullable=True),  # a waiting operation's next timer
    text("request_id", 64),
    uuid("user_id"),
    uuid("project_id"),
    time("created_at"),
    time("updated_at"),
    time("ended_at", nullable=True),
    Index("operations_open", "ended_at", "owner"),
    Index("operations_lane", "target", "number"),
)  # fmt: skip

steps = Table(
    "steps", journal_tables,
    uuid("operation_id", primary_key=True),
    text("name", 64, primary_key=True),
    text("item", 191, primary_key=True),  # the key of a loop's item, or ""
    bigint("seq"),  # order of intents, for undo newest first
    text("kind", 8),  # write call ask wait child
    text("state", 10),  # intent done refused undoing undone debt
    text("digest", 64),  # of the arguments
    json("args"),
    json("output", nullable=True),
    json("undo_call", nullable=True),  # the call that undoes it: port, method, args
    text("error", None, nullable=True),
    bigint("attempts"),
    bigint("spent_us"),
    text("port"),  # host:<name>, db:<name>, network, ...
    time("started_at"),
    time("finished_at", nullable=True),
)  # fmt: skip

debts = Table(
    "debts", journal_tables,
    uuid("id", primary_key=True),
    uuid("operation_id"),
    text("step", 191),
    text("holder", 191),  # host:<name> or neighbour:<name>
    text("kind", 64),  # what must be absent: guest, port, allocation, ...
    text("resource", 255),
    json("payload"),  # the call that pays it, and what the debt still uses
    text("state", 12),  # open paid written-off
    bigint("attempts"),
    text("error", None, nullable=True),
    time("created_at"),
    time("updated_at"),
    Index("debts_open", "state", "holder"),
    Index("debts_operation", "operation_id"),
)  # fmt: skip

signals = Table(
    "signals", journal_tables,
    uuid("id", primary_key=True),
    uuid("subject"),
    text("name", 64),
    text("tag", 191),
    json("payload"),
    time("created_at"),
    Index("signals_subject", "subject", "name", "tag"),
)  # fmt: skip

owners = Table(
    "owners", journal_tables,
    uuid("incarnation", primary_key=True),
    text("name", 255),
    bigint("beat"),
    bigint("ended"),
    time("started_at"),
)  # fmt: skip

# What changed, waiting for its position. On SQLite, where commits are serial, rows go to `changes` at once.
outbox = Table(
    "outbox", journal_tables,
    serial("id"),
    text("kind", 64),
    text("subject", 64),
    text("project_id", 36),
    bigint("generation"),
    json("payload"),
    time("created_at"),
)  # fmt: skip

changes = Table(
    "changes", journal_tables,
    serial("position"),
    text("kind", 64),
    text("subject", 64),
    text("project_id", 36),
    bigint("generation"),
    json("payload"),
    time("created_at"),
    sqlite_autoincrement=True,
)  # fmt: skip

relays = Table(
    "relays", journal_tables,
    text("name", 64, primary_key=True),
    bigint("position"),
    uuid("owner", nullable=True),
    bigint("epoch"),
    bigint("beat"),
)  # fmt: skip

# What an operation of another database has already done in this one (contracts: 2).
receipts = Table(
    "receipts", journal_tables,
    uuid("operation_id", primary_key=True),
    text("step", 191, primary_key=True),
    json("output"),
    time("created_at"),
    Index("receipts_age", "created_at"),
)  # fmt: skip
