"""Cell tables: servers, their archive, their actions and events."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Index, Table

from kilonova.db.schema.metadata import cell_tables
from kilonova.db.schema.types import bigint, json, serial, text, time, uuid


def _server_columns() -> list[Column[Any]]:
    return [
        uuid("uuid", primary_key=True),
        bigint("number"),  # counts up in the cell; instance-0000002a is number 42 in hexadecimal
        uuid("project_id"),
        uuid("user_id"),
        text("name"),
        text("hostname"),
        text("description", nullable=True),
        text("vm_state", 24),
        text("task_state", 40, nullable=True),
        bigint("power_state"),
        bigint("progress"),
        text("host", 191, nullable=True),
        text("node", 191, nullable=True),
        text("availability_zone", nullable=True),
        text("pinned_zone", nullable=True),
        text("image_id", 36),  # "" when booted from a volume
        json("image"),  # properties at boot
        json("flavor"),  # embedded copy: original_name, vcpus, ram, disk, ephemeral, swap, extra_specs, id
        text("flavor_id"),
        bigint("vcpus"),
        bigint("memory_mb"),
        bigint("root_gb"),
        bigint("ephemeral_gb"),
        text("key_name", nullable=True),
        text("key_data", None, nullable=True),
        text("user_data", None, nullable=True),
        bigint("config_drive"),
        json("metadata"),
        json("tags"),
        json("addresses"),  # ports with their addresses as shown: [{port_id, network_id, label, mac, ips: [...]}]
        json("security_groups"),
        json("volumes"),
        json("hints"),
        text("access_ip_v4", 40),
        text("access_ip_v6", 40),
        text("disk_config", 8),  # AUTO MANUAL
        text("reservation_id", 36),
        bigint("launch_index"),
        text("root_device_name", nullable=True),
        text("locked_by", 8, nullable=True),
        text("locked_reason", nullable=True),
        json("fault", nullable=True),
        json("extra"),  # what few servers have: trusted certificates, kernel_id, ramdisk_id, scheduler explanation
        uuid("operation_id", nullable=True),  # the open operation that set task_state
        bigint("next_number"),  # of the lane
        bigint("host_number"),  # of the last operation that commanded the host: older sights of the guest are stale
        bigint("generation"),
        time("created_at"),
        time("updated_at"),
        time("launched_at", nullable=True),
        time("terminated_at", nullable=True),
        time("deleted_at", nullable=True),
    ]


servers = Table(
    "servers", cell_tables,
    *_server_columns(),
    Index("servers_project", "project_id", "created_at", "uuid"),
    Index("servers_created", "created_at", "uuid"),
    Index("servers_host", "host"),
    Index("servers_updated", "updated_at"),
)  # fmt: skip

servers_archive = Table(
    "servers_archive", cell_tables,
    *_server_columns(),
    Index("servers_archive_project", "project_id", "created_at", "uuid"),
    Index("servers_archive_updated", "updated_at"),
)  # fmt: skip

server_numbers = Table(
    "server_numbers", cell_tables,
    serial("id"),
    uuid("uuid", unique=True),
)  # fmt: skip

instance_actions = Table(
    "instance_actions", cell_tables,
    uuid("id", primary_key=True),  # the operation's id, or one of its own
    uuid("server"),
    text("request_id", 64),
    text("action", 40),
    uuid("user_id"),
    uuid("project_id"),
    text("message", nullable=True),
    time("started_at"),
    time("updated_at"),
    time("finished_at", nullable=True),
    Index("instance_actions_server", "server", "started_at"),
)  # fmt: skip

instance_action_events = Table(
    "instance_action_events", cell_tables,
    uuid("action_id", primary_key=True),
    text("event", 80, primary_key=True),
    bigint("seq"),
    text("host", nullable=True),
    text("result", 8, nullable=True),
    text("details", None, nullable=True),
    text("traceback", None, nullable=True),
    time("started_at"),
    time("finished_at", nullable=True),
)  # fmt: skip
