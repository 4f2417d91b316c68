"""The checker finds every kind of leak, stuck state and double booking: each is planted here."""

from __future__ import annotations

import inspect
import re
from uuid import uuid4

import pytest

from conductor.small_cloud import small_cloud
from kilonova.conductor.audit import compare, gather
from kilonova.conductor.audit import compare as compare_module
from kilonova.db.statement import Statement
from kilonova.model.power import PowerState

PLANTED: dict[str, object] = {}


def plants(kind):
    def register(function):
        PLANTED[kind] = function
        return function

    return register


async def run(database, sql, **params):
    async def f(tx, _):
        await tx.execute(Statement(sql), params)

    await database.write(f, None)


@plants("operation-stuck")
async def _(cloud, server):
    await run(
        cloud.databases.cells["cell1"],
        """INSERT INTO operations SELECT :id, 'forgotten', version, 'running', NULL, 0, 'nobody', 1, inputs, NULL,
           NULL, NULL, 0, 0, 0, NULL, request_id, user_id, project_id, created_at, updated_at, NULL
           FROM operations LIMIT 1""",
        id=str(uuid4()),
    )


@plants("server-stuck")
async def _(cloud, server):
    await run(cloud.databases.cells["cell1"], "UPDATE servers SET task_state = 'rebooting'")


@plants("server-claimed-by-nothing")
async def _(cloud, server):
    await run(cloud.databases.cells["cell1"], "UPDATE servers SET operation_id = :id", id=str(uuid4()))


@plants("step-without-outcome")
async def _(cloud, server):
    await run(cloud.databases.cells["cell1"], "UPDATE steps SET state = 'intent' WHERE name = 'spawn'")


@plants("action-unfinished")
async def _(cloud, server):
    await run(cloud.databases.cells["cell1"], "UPDATE instance_actions SET finished_at = NULL")


@plants("server-in-two-cells")
async def _(cloud, server):
    if cloud.databases.cells["cell0"] is cloud.databases.cells["cell1"]:
        pytest.skip("one database cannot hold a row twice")
    rows = await cloud.databases.cells["cell1"].fetch(Statement("SELECT * FROM servers"), {})
    marks = ", ".join(f":p{i}" for i in range(len(rows[0])))
    await run(
        cloud.databases.cells["cell0"], f"INSERT INTO servers VALUES ({marks})",
        **{f"p{i}": v for i, v in enumerate(rows[0])},
    )  # fmt: skip


@plants("guest-on-two-hosts")
async def _(cloud, server):
    other = next(n for n in cloud.names if n != server.host)
    cloud.world.plant(other, server.uuid, cloud="sim", guest=True, disk=True)


@plants("guest-leaked")
async def _(cloud, server):
    cloud.world.plant(cloud.names[0], str(uuid4()), cloud="sim", guest=True, disk=True)


@plants("guest-on-wrong-host")
async def _(cloud, server):
    other = next(n for n in cloud.names if n != server.host)
    await run(cloud.databases.cells["cell1"], "UPDATE servers SET host = :h", h=other)


@plants("guest-missing")
async def _(cloud, server):
    await cloud.compute.stop()
    cloud.world.force_forget(server.host, server.uuid)


@plants("power-state-wrong")
async def _(cloud, server):
    await cloud.compute.stop()
    cloud.world.force_power(server.host, server.uuid, PowerState.PAUSED)


@plants("disk-leaked")
async def _(cloud, server):
    cloud.world.plant(cloud.names[0], str(uuid4()), cloud="sim", disk=True)


@plants("tap-leaked")
async def _(cloud, server):
    cloud.world.plant(cloud.names[0], str(uuid4()), cloud="sim", tap=True)


@plants("disk-missing")
async def _(cloud, server):
    cloud.world._db.execute("DELETE FROM disk")


@plants("port-leaked")
async def _(cloud, server):
    cloud.network.ports[str(uuid4())] = str(uuid4())


@plants("port-missing")
async def _(cloud, server):
    cloud.network.ports.clear()


@plants("allocation-leaked")
async def _(cloud, server):
    await run(
        cloud.databases.global_,
        "INSERT INTO allocations SELECT :c, provider, resource_class, amount FROM allocations", c=str(uuid4()),
    )  # fmt: skip


@plants("allocation-on-wrong-host")
async def _(cloud, server):
    await run(
        cloud.databases.global_,
        "UPDATE allocations SET provider = (SELECT uuid FROM hosts WHERE host <> :h LIMIT 1)", h=server.host,
    )  # fmt: skip


@plants("allocation-missing")
async def _(cloud, server):
    await run(cloud.databases.global_, "DELETE FROM allocations")


@plants("used-wrong")
async def _(cloud, server):
    await run(cloud.databases.global_, "UPDATE inventories SET used = used + 1")


@plants("overbooked")
async def _(cloud, server):
    await run(cloud.databases.global_, "UPDATE inventories SET capacity = 0")


@plants("index-leaked")
async def _(cloud, server):
    await run(
        cloud.databases.global_,
        "INSERT INTO server_index SELECT :u, project_id, user_id, name, 'cell1', request, 0, 0, operation_id, NULL, 1, "
        "created_at FROM server_index LIMIT 1",
        u=str(uuid4()),
    )


@plants("index-missing")
async def _(cloud, server):
    await run(cloud.databases.global_, "DELETE FROM server_index")


@plants("quota-wrong")
async def _(cloud, server):
    await run(cloud.databases.global_, "UPDATE quota_usages SET used = used + 1 WHERE resource = 'cores'")


def test_every_kind_that_the_checker_can_name_is_planted():
    source = inspect.getsource(inspect.getmodule(compare_module))
    kinds = set(re.findall(r'Finding\("([a-z-]+)"', source))
    assert kinds - set(PLANTED) == {"address-twice", "disk-twice"}


@pytest.mark.parametrize("kind", sorted(PLANTED))
async def test_a_planted_fault_is_named(databases, tmp_path, kind):
    async with small_cloud(databases, tmp_path) as cloud:
        (uuid,) = await cloud.create()
        server = await cloud.settled(uuid, "active")
        assert await cloud.audit() == []
        await cloud.conductor.stop()
        await PLANTED[kind](cloud, server)
        found = compare(await gather(databases), cloud.seen())
        assert kind in {f.kind for f in found}, found


async def test_addresses_and_disks_that_stand_twice_are_named(databases, tmp_path):
    from msgspec.structs import replace

    async with small_cloud(databases, tmp_path) as cloud:
        (uuid,) = await cloud.create()
        server = await cloud.settled(uuid, "active")
        seen = cloud.seen()
        (port, owner, _) = seen.ports[0]
        twice = replace(
            seen, ports=((port, owner, ("n/10.0.0.4",)), (str(uuid4()), owner, ("n/10.0.0.4",))),
            disks=(*seen.disks, (server.host, uuid)),
        )  # fmt: skip
        kinds = {f.kind for f in compare(await gather(databases), twice)}
        assert {"address-twice", "disk-twice"} <= kinds


