"""Global tables of the Compute API: flavors, keypairs, quotas, the server index, services, hosts, aggregates."""

from __future__ import annotations

from sqlalchemy import Index, Table

from kilonova.db.schema.metadata import global_tables
from kilonova.db.schema.types import bigint, double, json, text, time, uuid

flavors = Table(
    "flavors", global_tables,
    text("flavor_id", 191, primary_key=True),
    text("name", 191, unique=True),
    bigint("vcpus"),
    bigint("memory_mb"),
    bigint("root_gb"),
    bigint("ephemeral_gb"),
    bigint("swap_mb"),
    double("rxtx_factor"),
    bigint("is_public"),
    bigint("disabled"),
    text("description", None, nullable=True),
    json("extra_specs"),
    bigint("generation"),
    time("created_at"),
    time("updated_at", nullable=True),
)  # fmt: skip

flavor_access = Table(
    "flavor_access", global_tables,
    text("flavor_id", 191, primary_key=True),
    uuid("project_id", primary_key=True),
)  # fmt: skip

keypairs = Table(
    "keypairs", global_tables,
    uuid("user_id", primary_key=True),
    text("name", 191, primary_key=True),
    text("type", 8),
    text("fingerprint", 191),
    text("public_key", None),
    time("created_at"),
)  # fmt: skip

quota_limits = Table(
    "quota_limits", global_tables,
    text("scope", 8, primary_key=True),  # project user class
    text("project_id", 36, primary_key=True),  # or the class name
    text("user_id", 36, primary_key=True),  # or ""
    text("resource", 64, primary_key=True),
    bigint("limit_value"),
)  # fmt: skip

quota_usages = Table(
    "quota_usages", global_tables,
    uuid("project_id", primary_key=True),
    text("user_id", 36, primary_key=True),  # "" for the project's own counter
    text("resource", 64, primary_key=True),
    bigint("used"),
)  # fmt: skip

server_index = Table(
    "server_index", global_tables,
    uuid("uuid", primary_key=True),
    uuid("project_id"),
    uuid("user_id"),
    text("name"),
    text("cell", 64, nullable=True),  # null until placed: shown from `request`
    json("request"),  # the row as `servers` will hold it
    bigint("vcpus"),
    bigint("memory_mb"),
    uuid("operation_id"),  # schedule
    text("cancelled", 64, nullable=True),  # the request that deleted it before it was placed
    bigint("generation"),
    time("created_at"),
    Index("server_index_unplaced", "cell", "project_id"),
    Index("server_index_project", "project_id", "user_id"),
)  # fmt: skip

idempotency = Table(
    "idempotency", global_tables,
    uuid("project_id", primary_key=True),
    uuid("user_id", primary_key=True),
    text("key_hash", 64, primary_key=True),
    text("body_hash", 64),
    bigint("status"),  # 0 while the first still runs
    json("body", nullable=True),
    json("headers", nullable=True),
    time("created_at"),
    Index("idempotency_age", "created_at"),
)  # fmt: skip

services = Table(
    "services", global_tables,
    uuid("uuid", primary_key=True),
    bigint("number"),  # the integer id shown below 2.53
    text("host", 191),
    text("program", 64),  # nova-compute, nova-conductor, nova-scheduler
    text("cell", 64, nullable=True),
    bigint("disabled"),
    text("disabled_reason", nullable=True),
    bigint("forced_down"),
    uuid("incarnation", nullable=True),
    bigint("beat"),
    bigint("report_seq"),
    bigint("version"),
    bigint("generation"),
    time("created_at"),
    time("updated_at"),
    Index("services_host", "host", "program", unique=True),
    Index("services_number", "number", unique=True),
)  # fmt: skip

hosts = Table(
    "hosts", global_tables,
    uuid("uuid", primary_key=True),  # also its resource provider
    bigint("number"),
    text("host", 191),
    text("node", 191, unique=True),
    text("cell", 64),
    text("hypervisor_type", 32),
    bigint("hypervisor_version"),
    text("host_ip", 45),
    text("arch", 32),
    bigint("vcpus"),
    bigint("memory_mb"),
    bigint("local_gb"),
    bigint("free_disk_gb"),
    json("cpu_info"),
    json("supported_instances"),
    json("traits"),
    bigint("debts"),  # open ones of all databases: a host that has any takes no new guests
    bigint("generation"),
    time("created_at"),
    time("updated_at"),
    Index("hosts_host", "host"),
    Index("hosts_number", "number"),
    Index("hosts_debts", "debts"),
)  # fmt: skip

aggregates = Table(
    "aggregates", global_tables,
    uuid("uuid", primary_key=True),
    bigint("number"),
    text("name", 191, unique=True),
    text("availability_zone", nullable=True),
    json("metadata"),
    bigint("generation"),
    time("created_at"),
    time("updated_at", nullable=True),
)  # fmt: skip

aggregate_hosts = Table(
    "aggregate_hosts", global_tables,
    uuid("aggregate", primary_key=True),
    text("host", 191, primary_key=True),
)  # fmt: skip
