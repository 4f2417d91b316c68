"""Global tables of the embedded network service: networks, subnets, ports, security groups.

A port's address is a row of `port_addresses`, whose key makes it the only one of its network. A network's row
counts its ports and the changes of its subnets (`layout`): a port tx ends by raising the count under the layout it
read, so neither a subnet nor a network goes away under a port.
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from kilonova.db.schema.metadata import global_tables
from kilonova.db.schema.types import bigint, json, text, time, uuid

networks = Table(
    "networks", global_tables,
    uuid("id", primary_key=True),
    text("project_id", 191),
    text("name"),
    text("description"),
    bigint("admin_state_up"),
    bigint("shared"),
    bigint("external"),
    bigint("is_default"),
    bigint("mtu"),
    json("subnets"),  # ids, in order of creation
    json("tags"),
    bigint("layout"),
    bigint("ports"),
    bigint("revision"),
    time("created_at"),
    time("updated_at"),
    Index("networks_project", "project_id", "id"),
    Index("networks_shared", "shared", "id"),
)  # fmt: skip

subnets = Table(
    "subnets", global_tables,
    uuid("id", primary_key=True),
    uuid("network_id"),
    text("project_id", 191),
    text("name"),
    text("description"),
    bigint("ip_version"),
    text("cidr", 64),
    text("gateway_ip", 64, nullable=True),
    bigint("enable_dhcp"),
    text("ra_mode", 20, nullable=True),
    text("address_mode", 20, nullable=True),
    json("pools"),  # [{start, end}]
    json("dns"),  # [address]
    json("routes"),  # [{destination, nexthop}]
    json("service_types"),
    json("tags"),
    bigint("revision"),
    time("created_at"),
    time("updated_at"),
    Index("subnets_network", "network_id", "created_at", "id"),
    Index("subnets_project", "project_id", "id"),
)  # fmt: skip

ports = Table(
    "ports", global_tables,
    uuid("id", primary_key=True),
    uuid("network_id"),
    text("project_id", 191),
    text("name"),
    text("description"),
    bigint("admin_state_up"),
    text("status", 16),  # DOWN ACTIVE
    text("mac", 32),
    text("device_id", 191),
    text("device_owner"),
    text("host"),  # bound to; "" unbound
    text("vnic_type", 32),
    json("profile"),
    json("ips"),  # [{subnet_id, ip_address}]; copy of port_addresses
    json("group_ids"),  # security group ids; copy of port_groups
    json("tags"),
    bigint("made"),  # 1: by the compute service, which also deletes it
    bigint("revision"),
    time("created_at"),
    time("updated_at"),
    Index("ports_mac", "network_id", "mac", unique=True),
    Index("ports_device", "device_id"),
    Index("ports_project", "project_id", "id"),
)  # fmt: skip

port_addresses = Table(
    "port_addresses", global_tables,
    uuid("network_id", primary_key=True),
    text("address", 32, primary_key=True),  # hexadecimal, 8 or 32 digits: sorts as numbers do
    uuid("subnet_id"),
    uuid("port_id"),
    Index("port_addresses_port", "port_id"),
    Index("port_addresses_subnet", "subnet_id", "address"),
)  # fmt: skip

port_groups = Table(
    "port_groups", global_tables,
    uuid("group_id", primary_key=True),
    uuid("port_id", primary_key=True),
    Index("port_groups_port", "port_id"),
)  # fmt: skip

security_groups = Table(
    "security_groups", global_tables,
    uuid("id", primary_key=True),  # of a project's default group: made from the project's id
    text("project_id", 191),
    text("name"),
    text("description"),
    bigint("stateful"),
    json("tags"),
    bigint("revision"),
    time("created_at"),
    time("updated_at"),
    Index("security_groups_project", "project_id", "id"),
)  # fmt: skip

security_group_rules = Table(
    "security_group_rules", global_tables,
    uuid("id", primary_key=True),
    uuid("group_id"),
    text("project_id", 191),
    text("description"),
    text("direction", 8),
    text("ethertype", 8),
    text("protocol", 40, nullable=True),
    bigint("port_min", nullable=True),
    bigint("port_max", nullable=True),
    uuid("remote_group_id", nullable=True),
    text("remote_prefix", 64, nullable=True),
    text("digest", 64),  # of what the rule says
    bigint("revision"),
    time("created_at"),
    time("updated_at"),
    Index("security_group_rules_once", "group_id", "digest", unique=True),
    Index("security_group_rules_project", "project_id", "id"),
    Index("security_group_rules_remote", "remote_group_id"),
)  # fmt: skip

# SHA-256 of a tag: what lists filter by.
network_tags = Table(
    "network_tags", global_tables,
    text("fact", 64, primary_key=True),
    uuid("resource_id", primary_key=True),
    Index("network_tags_resource", "resource_id"),
)  # fmt: skip

network_usages = Table(
    "network_usages", global_tables,
    text("project_id", 191, primary_key=True),
    text("resource", 32, primary_key=True),
    bigint("used"),
)  # fmt: skip
