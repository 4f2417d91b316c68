"""Networks, subnets, ports and groups over HTTP."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from image.image_cloud import DEMO, OTHER
from network.network_cloud import Cloud, open_cloud


def kind(answer: Any) -> str:
    return str(answer.json()["NeutronError"]["type"])


async def test_versions_and_extensions(cloud: Cloud) -> None:
    root = await cloud.call("GET", "http://cloud.test/network/", who=None)
    assert root.json()["versions"][0]["links"][0]["href"] == "http://cloud.test/network/v2.0/"
    assert (await cloud.call("GET", "http://cloud.test/network/v2.0", who=None)).status_code == 200
    aliases = {each["alias"] for each in (await cloud.get("/extensions"))["extensions"]}
    assert "security-group" in aliases and "router" not in aliases
    assert (await cloud.call("GET", "/extensions/router")).status_code == 404
    assert (await cloud.call("GET", "/networks", who=None)).status_code == 401


async def test_the_first_network_is_everybodys(cloud: Cloud) -> None:
    for who in ("member", "other", "reader"):
        (network,) = (await cloud.get("/networks", who=who))["networks"]
        assert network["name"] == "private" and network["shared"] and len(network["subnets"]) == 1
    (subnet,) = (await cloud.get("/subnets"))["subnets"]
    assert subnet["cidr"] == "10.11.0.0/20" and subnet["gateway_ip"] == "10.11.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.11.0.2", "end": "10.11.15.254"}]
    assert (await cloud.call("DELETE", f"/networks/{cloud.private}")).status_code == 403


async def test_life_of_a_network(cloud: Cloud) -> None:
    network, subnet = await cloud.net()
    assert network["project_id"] == network["tenant_id"] == DEMO and network["status"] == "ACTIVE"
    port = await cloud.make("port", network_id=network["id"], name="p")
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.2"}]
    assert port["mac_address"].startswith("fa:16:3e:") and port["status"] == "DOWN"
    assert "binding:host_id" not in port
    in_use = await cloud.call("DELETE", f"/networks/{network['id']}")
    assert (in_use.status_code, kind(in_use)) == (409, "NetworkInUse")
    in_use = await cloud.call("DELETE", f"/subnets/{subnet['id']}")
    assert (in_use.status_code, kind(in_use)) == (409, "SubnetInUse")
    renamed = await cloud.call("PUT", f"/networks/{network['id']}", {"network": {"name": "n2"}})
    assert renamed.json()["network"]["name"] == "n2"
    assert renamed.json()["network"]["revision_number"] > network["revision_number"]
    assert (await cloud.call("DELETE", f"/ports/{port['id']}")).status_code == 204
    assert (await cloud.call("DELETE", f"/networks/{network['id']}")).status_code == 204
    gone = await cloud.call("GET", f"/subnets/{subnet['id']}")
    assert (gone.status_code, kind(gone)) == (404, "SubnetNotFound")
    assert (await cloud.get(f"/quotas/{DEMO}/details"))["quota"]["network"]["used"] == 0


async def test_others_see_nothing_of_mine(cloud: Cloud) -> None:
    network, subnet = await cloud.net()
    port = await cloud.make("port", network_id=network["id"])
    for path in (f"/networks/{network['id']}", f"/subnets/{subnet['id']}", f"/ports/{port['id']}"):
        for method in ("GET", "PUT", "DELETE"):
            member = path.strip("/").split("s/")[0]
            answer = await cloud.call(method, path, {member: {"name": "x"}} if method == "PUT" else None, who="other")
            assert answer.status_code == 404, (method, path)
        assert (await cloud.call("GET", path, who="admin")).status_code == 200
    refused = await cloud.call("POST", "/ports", {"port": {"network_id": network["id"]}}, who="other")
    assert refused.status_code == 404
    assert (await cloud.get("/ports", who="other"))["ports"] == []
    refused = await cloud.call("POST", "/networks", {"network": {"name": "x", "project_id": OTHER}})
    assert (refused.status_code, kind(refused)) == (403, "PolicyNotAuthorized")
    for admin_only in ({"shared": True}, {"router:external": True}):
        assert (await cloud.call("POST", "/networks", {"network": admin_only})).status_code == 403
    assert (await cloud.call("POST", "/networks", {"network": {}}, who="reader")).status_code == 403


async def test_as_many_ports_as_fit(cloud: Cloud) -> None:
    network, _ = await cloud.net("10.9.0.0/28")
    answers = await asyncio.gather(
        *(cloud.call("POST", "/ports", {"port": {"network_id": network["id"]}}) for _ in range(100))
    )
    made = [each.json()["port"] for each in answers if each.status_code == 201]
    refused = [each for each in answers if each.status_code != 201]
    assert len(made) == 13 and {(each.status_code, kind(each)) for each in refused} == {
        (409, "IpAddressGenerationFailure")
    }
    got = {port["fixed_ips"][0]["ip_address"] for port in made}
    assert got == {str(ip) for ip in ip_network("10.9.0.0/28").hosts()} - {"10.9.0.1"}
    victim = made[5]
    await cloud.call("DELETE", f"/ports/{victim['id']}")
    again = await cloud.make("port", network_id=network["id"])
    assert again["fixed_ips"] == victim["fixed_ips"]
    assert (await cloud.get(f"/quotas/{DEMO}/details"))["quota"]["port"]["used"] == 13


async def test_addresses_are_not_given_again_at_once(cloud: Cloud) -> None:
    network, _ = await cloud.net()
    first = await cloud.make("port", network_id=network["id"])
    await cloud.call("DELETE", f"/ports/{first['id']}")
    second = await cloud.make("port", network_id=network["id"])
    assert first["fixed_ips"] != second["fixed_ips"]


async def test_chosen_addresses(cloud: Cloud) -> None:
    network, subnet = await cloud.net()
    one = await cloud.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.77"}])
    assert one["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.77"}]
    for address, status, error in (
        ("10.0.0.77", 409, "IpAddressAlreadyAllocated"),
        ("10.0.0.1", 409, "IpAddressInUse"),
        ("10.0.0.0", 400, "InvalidIpForNetwork"),
        ("10.0.0.255", 400, "InvalidIpForNetwork"),
        ("10.1.0.3", 400, "InvalidIpForNetwork"),
        ("nonsense", 400, "InvalidInput"),
    ):
        body = {"port": {"network_id": network["id"], "fixed_ips": [{"ip_address": address}]}}
        answer = await cloud.call("POST", "/ports", body)
        assert (answer.status_code, kind(answer)) == (status, error), answer.text
    found = await cloud.get(f"/ports?network_id={network['id']}&fixed_ips=ip_address=10.0.0.77")
    assert [each["id"] for each in found["ports"]] == [one["id"]]
    moved = await cloud.call(
        "PUT", f"/ports/{one['id']}",
        {"port": {"fixed_ips": [{"subnet_id": subnet["id"]}, {"ip_address": "10.0.0.99"}]}},
    )  # fmt: skip
    assert [each["ip_address"] for each in moved.json()["port"]["fixed_ips"]] == ["10.0.0.77", "10.0.0.99"]
    freed = await cloud.call("PUT", f"/ports/{one['id']}", {"port": {"fixed_ips": [{"ip_address": "10.0.0.99"}]}})
    assert [each["ip_address"] for each in freed.json()["port"]["fixed_ips"]] == ["10.0.0.99"]
    await cloud.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.77"}])


async def test_a_failed_update_changes_nothing(cloud: Cloud) -> None:
    network, _ = await cloud.net()
    taken = await cloud.make("port", network_id=network["id"])
    port = await cloud.make("port", network_id=network["id"])
    answer = await cloud.call("PUT", f"/ports/{port['id']}", {"port": {"name": "x", "fixed_ips": taken["fixed_ips"]}})
    assert answer.status_code == 409
    assert (await cloud.get(f"/ports/{port['id']}"))["port"] == port


async def test_both_ip_versions(cloud: Cloud) -> None:
    network, four = await cloud.net()
    six = await cloud.make("subnet", network_id=network["id"], ip_version=6, cidr="fd00:1::/64")
    auto = await cloud.make(
        "subnet", network_id=network["id"], ip_version=6, cidr="fd00:2::/64", ipv6_ra_mode="slaac",
        ipv6_address_mode="slaac",
    )  # fmt: skip
    port = await cloud.make("port", network_id=network["id"], mac_address="fa:16:3e:01:02:03")
    got = {each["subnet_id"]: each["ip_address"] for each in port["fixed_ips"]}
    assert got == {four["id"]: "10.0.0.2", six["id"]: "fd00:1::2", auto["id"]: "fd00:2::f816:3eff:fe01:203"}
    same = {"network_id": network["id"], "mac_address": port["mac_address"]}
    twin = await cloud.call("POST", "/ports", {"port": same})
    assert twin.status_code == 409


@pytest.mark.parametrize(
    "subnet",
    [
        {"ip_version": 4, "cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.0"},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "gateway_ip": "fd00::1"},
        {"ip_version": 6, "cidr": "10.0.0.0/24"},
        {"ip_version": 4, "cidr": "10.0.0.0/33"},
        {"ip_version": 4, "cidr": "0.0.0.0/0"},
        {"ip_version": 4, "cidr": 7},
        {"ip_version": 5, "cidr": "10.0.0.0/24"},
        {"ip_version": 4, "cidr": "10.8.0.0/16"},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.2"}]},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.1.2"}]},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.9"}]},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "allocation_pools": "all"},
        {"ip_version": 6, "cidr": "fd00::/72", "ipv6_address_mode": "slaac"},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "ipv6_address_mode": "slaac"},
        {"cidr": "10.0.0.0/24"},
        {"ip_version": 4, "cidr": "10.0.0.0/24", "colour": "red"},
    ],
)
async def test_subnets_refused(cloud: Cloud, subnet: dict[str, Any]) -> None:
    network, _ = await cloud.net("10.8.0.0/24")
    answer = await cloud.call("POST", "/subnets", {"subnet": {"network_id": network["id"], **subnet}})
    assert answer.status_code in (400, 409), answer.text


async def test_pools_bound_what_is_given(cloud: Cloud) -> None:
    network, subnet = await cloud.net(
        "10.0.0.0/24", gateway_ip=None,
        allocation_pools=[{"start": "10.0.0.5", "end": "10.0.0.5"}, {"start": "10.0.0.9", "end": "10.0.0.10"}],
    )  # fmt: skip
    assert subnet["gateway_ip"] is None
    got = [(await cloud.make("port", network_id=network["id"]))["fixed_ips"][0]["ip_address"] for _ in range(3)]
    assert got == ["10.0.0.5", "10.0.0.9", "10.0.0.10"]
    assert (await cloud.call("POST", "/ports", {"port": {"network_id": network["id"]}})).status_code == 409
    wider = {"subnet": {"allocation_pools": [{"start": "10.0.0.5", "end": "10.0.0.12"}]}}
    assert (await cloud.call("PUT", f"/subnets/{subnet['id']}", wider)).status_code == 200
    await cloud.make("port", network_id=network["id"])


async def test_bulk_is_all_or_nothing(cloud: Cloud) -> None:
    network, _ = await cloud.net("10.0.0.0/29")
    body = {"ports": [{"network_id": network["id"], "name": str(n)} for n in range(6)]}
    assert (await cloud.call("POST", "/ports", body)).status_code == 409
    assert (await cloud.get(f"/ports?network_id={network['id']}"))["ports"] == []
    body["ports"].pop()
    made = (await cloud.call("POST", "/ports", body)).json()["ports"]
    assert len({ip_address(port["fixed_ips"][0]["ip_address"]) for port in made}) == 5


async def test_lists(cloud: Cloud) -> None:
    network, _ = await cloud.net()
    for n in range(5):
        await cloud.make("port", network_id=network["id"], name=f"p{n}", tags=["even" if n % 2 == 0 else "odd", "all"])
    mine = f"network_id={network['id']}"

    async def names(query: str) -> list[str]:
        return [each["name"] for each in (await cloud.get(f"/ports?{mine}&{query}"))["ports"]]

    assert await names("sort_key=name&sort_dir=desc") == ["p4", "p3", "p2", "p1", "p0"]
    assert sorted(await names("name=p1&name=p3")) == ["p1", "p3"]
    assert sorted(await names("tags=all,odd")) == ["p1", "p3"]
    assert sorted(await names("not-tags=odd")) == ["p0", "p2", "p4"]
    assert len(await names("tags-any=even,odd")) == 5 and await names("admin_state_up=False") == []
    page = await cloud.get(f"/ports?{mine}&limit=2&sort_key=name&fields=id&fields=name")
    seen = [each["name"] for each in page["ports"]]
    assert set(page["ports"][0]) == {"id", "name"}
    while following := [each["href"] for each in page["ports_links"] if each["rel"] == "next"]:
        page = await cloud.get(following[0])
        seen += [each["name"] for each in page["ports"]]
        if not page.get("ports_links"):
            break
    assert seen == ["p0", "p1", "p2", "p3", "p4"]
    assert (await cloud.call("GET", "/ports?colour=red")).status_code == 400
    assert (await cloud.call("GET", "/ports?limit=-1")).status_code == 400
    assert (await cloud.call("GET", "/ports?marker=nowhere&limit=2")).status_code == 400


async def test_pages_backwards(cloud: Cloud) -> None:
    network, _ = await cloud.net()
    for n in range(5):
        await cloud.make("port", network_id=network["id"], name=f"p{n}")
    base = f"/ports?network_id={network['id']}&limit=2&sort_key=name"
    ports = (await cloud.get(f"/ports?network_id={network['id']}&sort_key=name"))["ports"]
    back = await cloud.get(f"{base}&marker={ports[4]['id']}&page_reverse=True")
    assert [each["name"] for each in back["ports"]] == ["p2", "p3"]
    assert {each["rel"] for each in back["ports_links"]} == {"next", "previous"}


async def test_security_groups(cloud: Cloud) -> None:
    (default,) = (await cloud.get("/security-groups"))["security_groups"]
    assert default["name"] == "default" and len(default["security_group_rules"]) == 4
    group = await cloud.make("security_group", name="web")
    assert sorted(rule["ethertype"] for rule in group["security_group_rules"]) == ["IPv4", "IPv6"]
    rule = {
        "security_group_id": group["id"], "direction": "ingress", "protocol": "tcp", "port_range_min": 80,
        "port_range_max": 80, "remote_ip_prefix": "0.0.0.0/0",
    }  # fmt: skip
    made = await cloud.make("security_group_rule", **rule)
    twice = await cloud.call("POST", "/security-group-rules", {"security_group_rule": rule})
    assert (twice.status_code, kind(twice)) == (409, "SecurityGroupRuleExists")
    network, _ = await cloud.net()
    port = await cloud.make("port", network_id=network["id"], security_groups=[group["id"]])
    plain = await cloud.make("port", network_id=network["id"])
    assert plain["security_groups"] == [default["id"]]
    in_use = await cloud.call("DELETE", f"/security-groups/{group['id']}")
    assert (in_use.status_code, kind(in_use)) == (409, "SecurityGroupInUse")
    assert [each["id"] for each in (await cloud.get(f"/ports?security_groups={group['id']}"))["ports"]] == [port["id"]]
    await cloud.call("PUT", f"/ports/{port['id']}", {"port": {"security_groups": []}})
    assert (await cloud.call("DELETE", f"/security-groups/{group['id']}")).status_code == 204
    assert (await cloud.call("GET", f"/security-group-rules/{made['id']}")).status_code == 404
    refused = await cloud.call("DELETE", f"/security-groups/{default['id']}")
    assert refused.status_code == 409
    assert (await cloud.call("GET", f"/security-groups/{default['id']}", who="other")).status_code == 404
    foreign = {"port": {"network_id": cloud.private, "security_groups": [default["id"]]}}
    assert (await cloud.call("POST", "/ports", foreign, who="other")).status_code == 404


@pytest.mark.parametrize(
    "rule",
    [
        {"direction": "sideways"},
        {"protocol": "carrier-pigeon"},
        {"port_range_min": 1, "port_range_max": 2},
        {"protocol": "tcp", "port_range_min": 9, "port_range_max": 2},
        {"protocol": "tcp", "port_range_min": 9},
        {"protocol": "tcp", "port_range_min": 0, "port_range_max": 70000},
        {"protocol": "icmp", "port_range_max": 3},
        {"protocol": "icmp", "port_range_min": 256},
        {"remote_ip_prefix": "fd00::/64"},
        {"remote_ip_prefix": "10.0.0.0/40"},
        {"protocol": 256},
        {"protocol": []},
        {"ethertype": "ARP"},
    ],
)
async def test_rules_refused(cloud: Cloud, rule: dict[str, Any]) -> None:
    group = await cloud.make("security_group", name="web")
    body = {"security_group_rule": {"security_group_id": group["id"], "direction": "ingress", **rule}}
    answer = await cloud.call("POST", "/security-group-rules", body)
    assert answer.status_code == 400, answer.text


async def test_tags(cloud: Cloud) -> None:
    network, _ = await cloud.net()
    path = f"/networks/{network['id']}/tags"
    assert (await cloud.call("PUT", path, {"tags": ["b", "a"]})).json() == {"tags": ["a", "b"]}
    assert (await cloud.call("PUT", f"{path}/c")).status_code == 201
    assert (await cloud.call("GET", f"{path}/c")).status_code == 204
    assert (await cloud.call("DELETE", f"{path}/a")).status_code == 204
    assert (await cloud.call("DELETE", f"{path}/a")).status_code == 404
    assert (await cloud.get(path))["tags"] == ["b", "c"]
    assert [each["id"] for each in (await cloud.get("/networks?tags=b,c"))["networks"]] == [network["id"]]
    assert (await cloud.call("DELETE", path)).status_code == 204
    assert (await cloud.get("/networks?tags-any=b,c"))["networks"] == []


async def test_quota(databases: Any) -> None:
    cloud = await open_cloud(databases, network=10)
    try:
        body = {"network": {"name": "n"}}
        answers = await asyncio.gather(*(cloud.call("POST", "/networks", body) for _ in range(50)))
        assert sorted(each.status_code for each in answers) == [201] * 10 + [409] * 40
        assert {kind(each) for each in answers if each.status_code == 409} == {"OverQuota"}
        assert (await cloud.get(f"/quotas/{DEMO}"))["quota"]["network"] == 10
        assert (await cloud.call("GET", f"/quotas/{OTHER}")).status_code == 403
    finally:
        await cloud.close()


async def test_what_is_not_there(cloud: Cloud) -> None:
    assert (await cloud.get("/routers"))["routers"] == []
    refused = await cloud.call("POST", "/floatingips", {"floatingip": {}})
    assert refused.status_code == 501 and "Neutron" in refused.json()["NeutronError"]["message"]
    assert (await cloud.call("GET", "/nowhere")).status_code == 404
