"""What every database does the same way."""

from __future__ import annotations

import asyncio

import pytest

from kilonova.db.database import Database, Tx
from kilonova.db.errors import BadParameter, Closed, DatabaseError, UniqueViolation
from kilonova.db.statement import Statement

INSERT = Statement("INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES (:p, '', :r, :used)")
ADD = Statement(
    "UPDATE quota_usages SET used = used + :n WHERE project_id = :p AND resource = :r AND used + :n <= :limit"
)
USED = Statement("SELECT used, resource FROM quota_usages WHERE project_id = :p AND resource = :r")
ALL = Statement("SELECT resource, used FROM quota_usages WHERE project_id = :p ORDER BY resource")
TOTAL = Statement("SELECT CAST(SUM(used) AS BIGINT) FROM quota_usages WHERE project_id = :p")
LIKE = Statement("SELECT resource FROM quota_usages WHERE resource LIKE :like ESCAPE '!' ORDER BY resource")
COUNTER = {"p": "p", "r": "cores"}


async def seed(tx: Tx, resources: list[str]) -> None:
    await tx.execute_many(INSERT, [{"p": "p", "r": r, "used": i} for i, r in enumerate(resources)])


async def add(tx: Tx, limit: int) -> bool:
    return await tx.execute(ADD, {**COUNTER, "n": 1, "limit": limit}) == 1


async def test_write_returns_what_was_committed(db: Database) -> None:
    async def f(tx: Tx, n: int) -> tuple[int, object]:
        count = await tx.execute(INSERT, {**COUNTER, "used": n})
        return count, await tx.fetch_one(USED, COUNTER)

    assert await db.write(f, 7) == (1, (7, "cores"))
    assert await db.fetch_one(USED, COUNTER) == (7, "cores")
    assert await db.fetch(ALL, {"p": "p"}) == [("cores", 7)]
    assert await db.fetch(ALL, {"p": "other"}) == []
    assert await db.fetch_one(USED, {"p": "x", "r": "y"}) is None


async def test_matched_rows_are_counted(db: Database) -> None:
    await db.write(seed, ["a", "b", "c"])

    async def f(tx: Tx, _: None) -> list[int]:
        up = Statement("UPDATE quota_usages SET used = :n WHERE project_id = :p")
        none = Statement("DELETE FROM quota_usages WHERE project_id = :p AND used = :n")
        return [await tx.execute(up, {"p": "p", "n": 5}), await tx.execute(up, {"p": "p", "n": 5}),
                await tx.execute(none, {"p": "p", "n": 6}), await tx.execute(none, {"p": "p", "n": 5})]  # fmt: skip

    assert await db.write(f, None) == [3, 3, 0, 3]


async def test_conditional_updates_never_pass_a_limit(db: Database) -> None:
    await db.write(seed, ["cores"])
    won = await asyncio.gather(*(db.write(add, 10) for _ in range(50)))
    assert sum(won) == 10
    assert await db.fetch_one(USED, COUNTER) == (10, "cores")


async def test_an_error_of_the_function_rolls_back(db: Database) -> None:
    async def f(tx: Tx, _: None) -> None:
        await tx.execute(INSERT, {**COUNTER, "used": 1})
        raise LookupError("not today")

    with pytest.raises(LookupError, match="not today"):
        await db.write(f, None)
    assert await db.fetch_one(USED, COUNTER) is None


async def test_neighbours_in_one_commit_do_not_share_a_failure(db: Database) -> None:
    async def f(tx: Tx, i: int) -> int:
        await tx.execute(INSERT, {"p": "p", "r": f"r{i:02}", "used": i})
        if i % 3 == 0:
            raise LookupError(i)
        return i

    results = await asyncio.gather(*(db.write(f, i) for i in range(12)), return_exceptions=True)
    kept = [r for r in results if isinstance(r, int)]
    assert kept == [i for i in range(12) if i % 3]
    assert [row[1] for row in await db.fetch(ALL, {"p": "p"})] == kept


async def test_a_taken_key(db: Database) -> None:
    await db.write(seed, ["cores"])

    async def plain(tx: Tx, _: None) -> None:
        await tx.execute(INSERT, {**COUNTER, "used": 1})

    async def if_absent(tx: Tx, _: None) -> list[bool]:
        absent = await tx.insert_if_absent(INSERT, {"p": "p", "r": "ram", "used": 1})
        again = await tx.insert_if_absent(INSERT, {"p": "p", "r": "ram", "used": 2})
        return [absent, again, await tx.execute(ADD, {"p": "p", "r": "ram", "n": 1, "limit": 9}) == 1]

    with pytest.raises(UniqueViolation):
        await db.write(plain, None)
    assert await db.write(if_absent, None) == [True, False, True]
    assert await db.fetch(ALL, {"p": "p"}) == [("cores", 0), ("ram", 2)]


async def test_one_of_many_gets_the_key(db: Database) -> None:
    async def f(tx: Tx, i: int) -> bool:
        return await tx.insert_if_absent(INSERT, {**COUNTER, "used": i})

    won = await asyncio.gather(*(db.write(f, i) for i in range(12)))
    assert sum(won) == 1
    assert await db.fetch_one(USED, COUNTER) == (won.index(True), "cores")


async def test_a_failed_statement_spoils_its_transaction(db: Database) -> None:
    await db.write(seed, ["cores"])

    async def swallow(tx: Tx, _: None) -> str:
        await tx.execute(INSERT, {"p": "p", "r": "ram", "used": 1})
        try:
            await tx.execute(INSERT, {**COUNTER, "used": 1})
        except UniqueViolation:
            pass
        return "fine"

    async def go_on(tx: Tx, _: None) -> None:
        try:
            await tx.execute(INSERT, {**COUNTER, "used": 1})
        except UniqueViolation:
            await tx.execute(INSERT, {"p": "p", "r": "ram", "used": 1})

    with pytest.raises(UniqueViolation):
        await db.write(swallow, None)
    with pytest.raises(DatabaseError):
        await db.write(go_on, None)
    assert await db.fetch(ALL, {"p": "p"}) == [("cores", 0)]


async def test_a_transaction_awaits_nothing_else(db: Database) -> None:
    async def sleepy(tx: Tx, _: None) -> None:
        await tx.execute(INSERT, {**COUNTER, "used": 1})
        await asyncio.sleep(0.01)

    async def yielding(tx: Tx, _: None) -> None:
        await asyncio.sleep(0)

    for f in (sleepy, yielding):
        with pytest.raises((DatabaseError, RuntimeError), match=r"awaited something else|no running event loop"):
            await db.write(f, None)
    assert await db.fetch_one(USED, COUNTER) is None
    await db.write(seed, ["cores"])  # and it goes on


async def test_sums_are_integers_and_scans_fold(db: Database) -> None:
    await db.write(seed, [f"r{i:04}" for i in range(2500)])
    assert await db.fetch_one(TOTAL, {"p": "p"}) == (sum(range(2500)),)
    assert await db.scan(ALL, {"p": "p"}, lambda rows: (len(rows), rows[-1])) == (2500, ("r2499", 2499))
    assert await db.scan(ALL, {"p": "q"}, len) == 0
    with pytest.raises(ZeroDivisionError):
        await db.scan(ALL, {"p": "p"}, lambda rows: 1 // 0)


async def test_text_compares_by_code_point(db: Database) -> None:
    names = ["A", "B", "a", "a b", "ab", "b", "Ä", "ä", "ñ", "zz", "😀"]
    await db.write(seed, names[::-1])
    assert [row[0] for row in await db.fetch(ALL, {"p": "p"})] == sorted(names)
    assert await db.fetch(LIKE, {"like": "A%"}) == [("A",)]
    assert await db.fetch(LIKE, {"like": "!%%"}) == []


@pytest.mark.parametrize("used", [2**63, -(2**63) - 1, b"x" * 3, [1]])
async def test_a_value_that_no_column_takes(db: Database, used: object) -> None:
    async def f(tx: Tx, _: None) -> None:
        await tx.execute(INSERT, {**COUNTER, "used": used})  # type: ignore[dict-item]  # the mistake under test

    if used == b"xxx" and db.dialect == "sqlite":
        pytest.skip("SQLite stores any type in any column")
    with pytest.raises(BadParameter):
        await db.write(f, None)


async def test_a_read_with_a_value_that_no_column_takes(db: Database) -> None:
    by_number = Statement("SELECT resource FROM quota_usages WHERE used = :used")
    for call in (db.fetch(by_number, {"used": 2**70}), db.fetch_one(by_number, {"used": 2**70}),
                 db.scan(by_number, {"used": 2**70}, len)):  # fmt: skip
        with pytest.raises(BadParameter):
            await call


async def test_a_missing_parameter(db: Database) -> None:
    async def f(tx: Tx, _: None) -> None:
        await tx.execute(INSERT, {"p": "p"})

    with pytest.raises(BadParameter):
        await db.write(f, None)
    with pytest.raises(BadParameter):
        await db.fetch_one(USED, {"p": "p"})
    with pytest.raises(BadParameter):
        await db.fetch(USED, {"p": "p"})
    with pytest.raises(BadParameter):
        await db.scan(USED, {"p": "p"}, len)


async def test_a_mistake_in_sql_names_the_statement(db: Database) -> None:
    with pytest.raises(DatabaseError) as caught:
        await db.fetch(Statement("SELECT nothing FROM nowhere"), {})
    assert "nowhere" in "".join(caught.value.__notes__)


async def test_a_cancelled_caller_does_no_harm(db: Database) -> None:
    await db.write(seed, ["cores"])
    tasks = [asyncio.create_task(db.write(add, 1000)) for _ in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    acknowledged = sum(r is True for r in results)
    row = await db.fetch_one(USED, COUNTER)
    assert row is not None and acknowledged <= row[0] <= 40
    assert acknowledged >= 20


async def test_watchers_hear_of_changes_only(db: Database) -> None:
    heard = []
    unwatch = db.watch(lambda: heard.append(1))

    async def loud(tx: Tx, fail: bool) -> None:
        tx.changed = True
        if fail:
            raise LookupError

    await db.write(seed, ["cores"])
    assert not heard
    await db.write(loud, False)
    assert heard == [1]
    with pytest.raises(LookupError):
        await db.write(loud, True)
    await db.write(add, 5)
    unwatch()
    await db.write(loud, False)
    assert heard == [1]


async def test_closed(db: Database) -> None:
    last = asyncio.create_task(db.write(seed, ["cores"]))
    await last
    await db.close()
    await db.close()
    for call in (db.write(seed, ["ram"]), db.fetch(ALL, {"p": "p"}), db.fetch_one(USED, COUNTER),
                 db.scan(ALL, {"p": "p"}, len)):  # fmt: skip
        with pytest.raises(Closed):
            await call
