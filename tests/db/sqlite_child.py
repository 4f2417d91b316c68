"""A process that writes a SQLite database: ``sqlite_child.py PATH add COUNT | stream | fill BYTES``.

`add` raises the counter; `stream` inserts until it is killed and says each row when it was acknowledged;
`fill` writes under a limit of the file size until it is told that the disk is full.
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

from kilonova.db.database import Tx
from kilonova.db.errors import StorageFull
from kilonova.db.sqlite import SqliteDatabase
from kilonova.db.statement import Statement

INSERT = Statement("INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES (:p, '', :r, 0)")
ADD = Statement("UPDATE quota_usages SET used = used + 1 WHERE project_id = 'p' AND resource = 'cores'")
COUNT = Statement("SELECT COUNT(*) FROM quota_usages WHERE project_id = :p")


async def add(tx: Tx, _: None) -> None:
    await tx.execute(ADD, {})


async def insert(tx: Tx, name: str) -> None:
    await tx.execute(INSERT, {"p": "stream", "r": name})


async def add_many(db: SqliteDatabase, count: int) -> None:
    await asyncio.gather(*(db.write(add, None) for _ in range(count // 10)))
    for _ in range(count - count // 10):
        await db.write(add, None)


async def stream(db: SqliteDatabase) -> None:
    async def one(task: int) -> None:
        for i in range(1_000_000):
            await db.write(insert, f"{task}-{i}")
            os.write(1, f"{task}-{i}\n".encode())

    await asyncio.gather(*(one(task) for task in range(32)))


async def fill(db: SqliteDatabase, size: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    written = 0
    for i in range(1_000_000):
        try:
            await db.write(insert, f"{i:0150}")
            written += 1
        except StorageFull:
            break
    assert await db.fetch_one(COUNT, {"p": "stream"}) == (written,), "reads go on"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await db.write(insert, "and it recovers")
    print(written)


async def main(path: str, what: str, *args: str) -> None:
    db = SqliteDatabase(Path(path))
    await db.open()
    if what == "add":
        await add_many(db, int(args[0]))
    elif what == "stream":
        await stream(db)
    elif what == "fill":
        await fill(db, int(args[0]))
    await db.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
