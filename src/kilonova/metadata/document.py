"""What a guest is told about itself: the files of the OpenStack metadata tree.

One source for the config drive and for the metadata service. Pure: a server in, files out. Follows the
OpenStack format up to version 2020-10-14 (shared facts: metadata).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec

from kilonova.model.server import Address, Server

_addresses = msgspec.json.Decoder(list[Address])
_encode = msgspec.json.Encoder(order="deterministic").encode

VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
    "2020-10-14", "latest",
)  # fmt: skip


def meta_data(server: Server, *, dhcp_domain: str = "novalocal", admin_password: str | None = None) -> dict[str, Any]:
    """`meta_data.json`; `admin_password` only for a config drive."""
    hostname = f"{server.hostname}.{dhcp_domain}" if dhcp_domain and "." not in server.hostname else server.hostname
    document: dict[str, Any] = {
        "uuid": server.uuid,
        "hostname": hostname,
        "name": server.name,
        "launch_index": server.launch_index,
        "availability_zone": server.availability_zone,
        "project_id": server.project_id,
        "random_seed": random_seed(server.uuid),
        "devices": [],
        "dedicated_cpus": [],
    }
    meta = msgspec.json.decode(server.metadata)
    if meta:
        document["meta"] = meta
    if server.key_name and server.key_data:
        document["public_keys"] = {server.key_name: server.key_data}
        document["keys"] = [{"name": server.key_name, "type": "ssh", "data": server.key_data}]
    if admin_password:
        document["admin_pass"] = admin_password
    return document


def random_seed(server: str) -> str:
    """512 bytes, base64; the same each time the drive is built again, so that a repeat gives the same drive."""
    out = b"".join(hashlib.sha512(f"{server}/{n}".encode()).digest() for n in range(8))
    return base64.b64encode(out).decode()


def network_data(server: Server) -> dict[str, Any]:
    """`network_data.json`: links, networks (by DHCP), services."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for n, address in enumerate(_addresses.decode(server.addresses)):
        links.append({
            "id": f"interface{n}", "vif_id": address.port_id, "type": "phy", "mtu": address.mtu,
            "ethernet_mac_address": address.mac,
        })  # fmt: skip
        for version in dict.fromkeys(v for _, v in address.ips):
            networks.append({
                "id": f"network{len(networks)}", "type": f"ipv{version}_dhcp", "link": f"interface{n}",
                "network_id": address.network_id,
            })  # fmt: skip
    return {"links": links, "networks": networks, "services": []}


def user_data(server: Server) -> bytes | None:
    """The user's bytes, or None."""
    return base64.b64decode(server.user_data) if server.user_data else None


def ec2_meta_data(server: Server) -> dict[str, Any]:
    """`ec2/latest/meta-data.json` of a config drive."""
    local = next((ip for a in _addresses.decode(server.addresses) for ip, version in a.ips if version == 4), "")
    document: dict[str, Any] = {
        "ami-id": "None", "ami-launch-index": server.launch_index, "ami-manifest-path": "",
        "hostname": server.hostname, "local-hostname": server.hostname, "instance-id": f"i-{server.number:08x}",
        "instance-type": msgspec.json.decode(server.flavor)["name"], "local-ipv4": local, "public-hostname": "",
        "public-ipv4": "", "reservation-id": server.reservation_id, "instance-action": "none",
        "placement": {"availability-zone": server.availability_zone},
    }  # fmt: skip
    if server.key_name and server.key_data:
        document["public-keys"] = {"0": {"_name": f"0={server.key_name}", "openssh-key": server.key_data}}
    return document


def config_drive(server: Server, *, admin_password: str | None = None) -> dict[str, bytes]:
    """Path inside the drive -> content."""
    files: dict[str, bytes] = {}
    meta = _encode(meta_data(server, admin_password=admin_password))
    net = _encode(network_data(server))
    data = user_data(server)
    for version in ("2018-08-27", "2020-10-14", "latest"):
        folder = f"openstack/{version}"
        files[f"{folder}/meta_data.json"] = meta
        files[f"{folder}/network_data.json"] = net
        files[f"{folder}/vendor_data.json"] = b"{}"
        files[f"{folder}/vendor_data2.json"] = b'{"static":{}}'
        if data is not None:
            files[f"{folder}/user_data"] = data
    files["ec2/latest/meta-data.json"] = _encode(ec2_meta_data(server))
    if data is not None:
        files["ec2/latest/user-data"] = data
    return files

