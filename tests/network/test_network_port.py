"""`NetworkPort`: the embedded service and the client of a real one keep the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from image.image_cloud import DEMO, TOKENS
from image.live_server import serving
from image.test_image_port import OwnTokens
from kilonova.http.neighbour import Neighbour
from kilonova.model.operation import RequestedNetwork
from kilonova.network.client import NeutronClient
from kilonova.network.port import (
    NetworkAmbiguous,
    NetworkConflict,
    NetworkError,
    NetworkNotFound,
    NetworkPort,
    NetworkUnavailable,
    PortRequest,
)
from network.network_cloud import Cloud


@pytest_asyncio.fixture(params=["embedded", "real", "real without tags"])
async def port(
    request: pytest.FixtureRequest, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NetworkPort]:
    if request.param == "embedded":
        yield cloud.network
        return
    if request.param == "real without tags":
        from kilonova.network import extensions

        monkeypatch.delitem(extensions.EXTENSIONS, "tag-ports-during-bulk-creation")
    async with serving(cloud.app) as url:
        neutron = Neighbour("Neutron", f"{url}/network", OwnTokens("stale", "admin"))
        yield NeutronClient(neutron)
        await neutron.close()


def wanted(*networks: RequestedNetwork, **more: object) -> PortRequest:
    facts = {
        "server": str(uuid4()), "project_id": DEMO, "host": "h1", "networks": networks,
        "port_ids": tuple(str(uuid4()) for _ in networks), **more,
    }  # fmt: skip
    return PortRequest(**facts)  # type: ignore[arg-type]  # a test's own shorthand


def on(network_id: str, **more: str) -> RequestedNetwork:
    return RequestedNetwork(network_id=network_id, **more)


async def test_choosing(cloud: Cloud, port: NetworkPort) -> None:
    assert await port.resolve(TOKENS["member"], None) == (on(cloud.private),)
    assert await port.auto_allocate(TOKENS["member"]) == (on(cloud.private),)
    network, _ = await cloud.net()
    with pytest.raises(NetworkAmbiguous):
        await port.resolve(TOKENS["member"], None)
    with pytest.raises(NetworkAmbiguous):
        await port.auto_allocate(TOKENS["member"])
    assert await port.resolve(TOKENS["other"], None) == (on(cloud.private),)
    assert await port.resolve(TOKENS["member"], (on(network["id"]),)) == (on(network["id"]),)
    with pytest.raises(NetworkNotFound):
        await port.resolve(TOKENS["other"], (on(network["id"]),))
    with pytest.raises(NetworkNotFound):
        await port.resolve(TOKENS["member"], (on(str(uuid4())),))
    ids = (network["id"], cloud.private, str(uuid4()))
    assert await port.names(TOKENS["member"], ids) == {network["id"]: "mine", cloud.private: "private"}
    assert await port.names(TOKENS["other"], ids) == {cloud.private: "private"}


async def test_refused_choices(cloud: Cloud, port: NetworkPort) -> None:
    bare = await cloud.make("network", name="bare")
    with pytest.raises(NetworkError, match="subnet"):
        await port.resolve(TOKENS["member"], (on(bare["id"]),))
    outside = await cloud.make("network", who="admin", **{"router:external": True})
    await cloud.make("subnet", who="admin", network_id=outside["id"], ip_version=4, cidr="192.0.2.0/24")
    with pytest.raises(NetworkError, match="external"):
        await port.resolve(TOKENS["member"], (on(outside["id"]),))
    network, _ = await cloud.net()
    used = await cloud.make("port", network_id=network["id"], device_id="x")
    with pytest.raises(NetworkConflict):
        await port.resolve(TOKENS["member"], (on("", port_id=used["id"]),))
    address = used["fixed_ips"][0]["ip_address"]
    with pytest.raises(NetworkError, match="in use"):
        await port.resolve(TOKENS["member"], (on(network["id"], fixed_ip=address),))
    bare_port = await cloud.make("port", network_id=network["id"], fixed_ips=[])
    with pytest.raises(NetworkError, match="FixedIP"):
        await port.resolve(TOKENS["member"], (on("", port_id=bare_port["id"]),))
    with pytest.raises(NetworkNotFound):
        await port.resolve(TOKENS["other"], (on("", port_id=used["id"]),))


async def test_ports_come_and_go(cloud: Cloud, port: NetworkPort) -> None:
    network, _ = await cloud.net()
    request = wanted(on(cloud.private), on(network["id"], tag="data"))
    made = await port.ensure_ports(request)
    assert [(a.network_id, a.label, a.tag, a.preexisting) for a in made] == [
        (cloud.private, "private", None, False), (network["id"], "mine", "data", False),
    ]  # fmt: skip
    assert made[0].ips[0][0].startswith("10.11.") and made[0].ips[0][1] == 4 and made[0].mtu == 1500
    assert await port.ensure_ports(request) == made
    ports = (await cloud.get(f"/ports?device_id={request.server}", who="admin"))["ports"]
    assert {each["id"] for each in ports} == {a.port_id for a in made}
    for each in ports:
        assert (each["status"], each["binding:host_id"], each["project_id"]) == ("ACTIVE", "h1", DEMO)
        assert each["device_owner"] == "compute:nova" and len(each["security_groups"]) == 1
    await port.ensure_no_ports(request.server)
    await port.ensure_no_ports(request.server)
    assert (await cloud.get(f"/ports?device_id={request.server}", who="admin"))["ports"] == []


async def test_another_host(cloud: Cloud, port: NetworkPort) -> None:
    request = wanted(on(cloud.private))
    made = await port.ensure_ports(request)
    moved = PortRequest(
        server=request.server, project_id=DEMO, host="h2", networks=request.networks, port_ids=request.port_ids
    )
    assert await port.ensure_ports(moved) == made
    (found,) = (await cloud.get(f"/ports?device_id={request.server}", who="admin"))["ports"]
    assert found["binding:host_id"] == "h2"


async def test_a_users_own_port_stays(cloud: Cloud, port: NetworkPort) -> None:
    own = await cloud.make("port", network_id=cloud.private, name="mine")
    (resolved,) = await port.resolve(TOKENS["member"], (on("", port_id=own["id"]),))
    assert resolved.network_id == cloud.private
    request = wanted(resolved, on(cloud.private))
    made = await port.ensure_ports(request)
    assert [(a.preexisting, a.port_id == own["id"]) for a in made] == [(True, True), (False, False)]
    with pytest.raises(NetworkConflict):
        await port.ensure_ports(wanted(resolved))
    await port.ensure_no_ports(request.server, (own["id"],))
    shown = (await cloud.get(f"/ports/{own['id']}", who="admin"))["port"]
    assert (shown["device_id"], shown["status"], shown["binding:host_id"]) == ("", "DOWN", "")
    assert shown["fixed_ips"] == own["fixed_ips"]
    await port.ensure_ports(wanted(resolved))


async def test_an_address_of_choice(cloud: Cloud, port: NetworkPort) -> None:
    network, _ = await cloud.net()
    made = await port.ensure_ports(wanted(on(network["id"], fixed_ip="10.0.0.50")))
    assert made[0].ips == (("10.0.0.50", 4),)
    with pytest.raises(NetworkConflict):
        await port.ensure_ports(wanted(on(network["id"], fixed_ip="10.0.0.50")))
    with pytest.raises(NetworkError):
        await port.ensure_ports(wanted(on(network["id"], fixed_ip="10.9.9.9")))


async def test_security_groups_by_name(cloud: Cloud, port: NetworkPort) -> None:
    web = await cloud.make("security_group", name="web")
    request = wanted(on(cloud.private), security_groups=("web",))
    await port.ensure_ports(request)
    (found,) = (await cloud.get(f"/ports?device_id={request.server}", who="admin"))["ports"]
    assert found["security_groups"] == [web["id"]]
    with pytest.raises(NetworkNotFound):
        await port.ensure_ports(wanted(on(cloud.private), security_groups=("nothing",)))


async def test_a_full_network(cloud: Cloud, port: NetworkPort) -> None:
    network, _ = await cloud.net("10.0.0.0/29")
    requests = [wanted(on(network["id"])) for _ in range(12)]
    results = await asyncio.gather(*(port.ensure_ports(each) for each in requests), return_exceptions=True)
    assert sum(isinstance(each, tuple) for each in results) == 5
    assert all(isinstance(each, NetworkConflict) for each in results if not isinstance(each, tuple))
    # All or none: what failed at its second network left nothing on the first.
    pair = wanted(on(cloud.private), on(network["id"]))
    with pytest.raises(NetworkConflict):
        await port.ensure_ports(pair)
    await port.ensure_no_ports(pair.server)
    await asyncio.gather(*(port.ensure_no_ports(each.server) for each in requests))
    ports = (await cloud.get("/ports", who="admin"))["ports"]
    assert ports == []
    assert (await cloud.call("DELETE", f"/networks/{network['id']}")).status_code == 204


async def test_nothing_asked(port: NetworkPort) -> None:
    assert await port.ensure_ports(wanted()) == ()
    await port.ensure_no_ports(str(uuid4()))


async def test_away() -> None:
    neutron = Neighbour("Neutron", "http://127.0.0.1:1", OwnTokens("admin"))
    with pytest.raises(NetworkUnavailable):
        await NeutronClient(neutron).ensure_no_ports("x")
    await neutron.close()


async def test_a_thousand_servers(cloud: Cloud) -> None:
    requests = [wanted(on(cloud.private)) for _ in range(1200)]
    made = await asyncio.gather(*(cloud.network.ensure_ports(each) for each in requests))
    assert len({address.ips[0][0] for (address,) in made}) == len({a.mac for (a,) in made}) == 1200
    held = await cloud.network.held(limit=5000)
    assert {server for _, server in held} == {each.server for each in requests}


async def test_a_network_does_not_go_away_under_a_port(cloud: Cloud) -> None:
    for _ in range(5):
        network, _ = await cloud.net()
        requests = [wanted(on(network["id"])) for _ in range(4)]
        deleted, *results = await asyncio.gather(
            cloud.call("DELETE", f"/networks/{network['id']}"),
            *(cloud.network.ensure_ports(each) for each in requests),
            return_exceptions=True,
        )
        made = [each for each in results if isinstance(each, tuple)]
        if deleted.status_code == 204:  # type: ignore[union-attr]  # an answer: the call raises nothing
            assert made == [] and all(isinstance(each, NetworkNotFound) for each in results)
        else:
            assert len(made) == 4
            await asyncio.gather(*(cloud.network.ensure_no_ports(each.server) for each in requests))
            assert (await cloud.call("DELETE", f"/networks/{network['id']}")).status_code == 204


async def test_the_pages_of_held_end(cloud: Cloud) -> None:
    """Each page goes on behind the last port of the one before."""
    for _ in range(5):
        await cloud.network.ensure_ports(wanted(on(cloud.private)))
    seen: list[tuple[str, str]] = []
    while page := await cloud.network.held(seen[-1][0] if seen else "", limit=2):
        seen += page
        assert len(seen) <= 5, "the pages never end"
    assert seen == sorted(await cloud.network.held(limit=5000))
