"""Global tables of Placement: providers, what they have, who holds how much of it.

Every write against a provider raises its revision first, in its own row: that row is the lock under
which `inventories.used` moves. `used` always equals the sum of the provider's allocations of that class.
Standard traits and resource classes are data of the program; only custom ones stand here.
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from kilonova.db.schema.metadata import global_tables
from kilonova.db.schema.types import bigint, double, json, text, time, uuid

resource_providers = Table(
    "resource_providers", global_tables,
    uuid("uuid", primary_key=True),  # a host's uuid for hosts
    text("name", 191, unique=True),
    uuid("parent", nullable=True),
    uuid("root"),
    bigint("generation"),  # as the API shows and compares it
    bigint("revision"),  # counts every change, also those that leave the generation alone: the order for readers
    bigint("consumers"),  # how many consumers hold something here
    json("traits"),  # copy of provider_traits for those who read all providers
    time("created_at"),
    time("updated_at"),
    Index("resource_providers_parent", "parent"),
    Index("resource_providers_root", "root"),
)  # fmt: skip

inventories = Table(
    "inventories", global_tables,
    uuid("provider", primary_key=True),
    text("resource_class", 191, primary_key=True),
    bigint("total"),
    bigint("reserved"),
    bigint("min_unit"),
    bigint("max_unit"),
    bigint("step_size"),
    double("allocation_ratio"),
    bigint("capacity"),  # (total - reserved) * allocation_ratio, rounded down
    bigint("used"),
    Index("inventories_class", "resource_class", "provider"),
)  # fmt: skip

consumers = Table(
    "consumers", global_tables,
    uuid("uuid", primary_key=True),
    text("project_id", 191),
    text("user_id", 191),
    text("type", 191),  # INSTANCE, MIGRATION, ... or "" for unknown
    bigint("generation"),
    time("created_at"),
    time("updated_at"),
    Index("consumers_project", "project_id", "user_id"),
)  # fmt: skip

allocations = Table(
    "allocations", global_tables,
    uuid("consumer", primary_key=True),
    uuid("provider", primary_key=True),
    text("resource_class", 191, primary_key=True),
    bigint("amount"),
    Index("allocations_provider", "provider", "resource_class"),
)  # fmt: skip

provider_traits = Table(
    "provider_traits", global_tables,
    uuid("provider", primary_key=True),
    text("trait", 191, primary_key=True),
    Index("provider_traits_trait", "trait", "provider"),
)  # fmt: skip

provider_aggregates = Table(
    "provider_aggregates", global_tables,
    uuid("provider", primary_key=True),
    uuid("aggregate", primary_key=True),
    Index("provider_aggregates_aggregate", "aggregate", "provider"),
)  # fmt: skip

traits = Table(
    "traits", global_tables,
    text("name", 191, primary_key=True),
    time("created_at"),
)  # fmt: skip

resource_classes = Table(
    "resource_classes", global_tables,
    text("name", 191, primary_key=True),
    time("created_at"),
)  # fmt: skip
