"""Sections of the control plane: databases, API, scheduler, quota, policy, notifications.

Names, meanings and defaults are Nova's (nova/conf, release 34) unless a comment says otherwise.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from kilonova.config.types import Count, Interval, Limit, Names, Positive, Seconds
from kilonova.config.urls import DatabaseUrl, TransportUrl


class Database(Struct, frozen=True, kw_only=True):
    """[database] (the cell's), [api_database] (the global one) and [cell0_database] (servers without a host).

    No connection: SQLite in the directory; cell0 is then where the global one is.
    """

    connection: DatabaseUrl | None = None
    max_pool_size: Positive = 5
    max_overflow: Count = 50
    max_retries: Limit = 10
    connection_recycle_time: Seconds = 3600


class Api(Struct, frozen=True, kw_only=True):
    """[api]."""

    max_limit: Positive = 1000
    compute_link_prefix: str | None = None
    glance_link_prefix: str | None = None
    enable_instance_password: bool = True
    dhcp_domain: str = "novalocal"
    config_drive_skip_versions: str = "1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01"
    metadata_cache_expiration: Seconds = 15
    vendordata_providers: Names = ("StaticJSON",)
    vendordata_jsonfile_path: str | None = None
    vendordata_dynamic_targets: Names = ()
    vendordata_dynamic_connect_timeout: Positive = 5
    vendordata_dynamic_read_timeout: Positive = 5
    vendordata_dynamic_failure_fatal: bool = False
    list_records_by_skipping_down_cells: bool = True


class Conductor(Struct, frozen=True, kw_only=True):
    """[conductor]."""

    workers: Positive | None = None


class Scheduler(Struct, frozen=True, kw_only=True):
    """[scheduler]."""

    max_attempts: Positive = 3
    workers: Count | None = None
    max_placement_results: Positive = 1000
    discover_hosts_in_cells_interval: Interval = -1
    limit_tenants_to_placement_aggregate: bool = False
    placement_aggregate_required_for_tenants: bool = False
    query_placement_for_image_type_support: bool = False
    query_placement_for_routed_network_aggregates: bool = False
    enable_isolated_aggregate_filtering: bool = False
    image_metadata_prefilter: bool = False


class FilterScheduler(Struct, frozen=True, kw_only=True):
    """[filter_scheduler]."""

    enabled_filters: Names = (
        "ComputeFilter",
        "ComputeCapabilitiesFilter",
        "ImagePropertiesFilter",
        "ServerGroupAntiAffinityFilter",
        "ServerGroupAffinityFilter",
    )
    weight_classes: Names = ("nova.scheduler.weights.all_weighers",)
    host_subset_size: Positive = 1
    max_io_ops_per_host: Count = 8
    max_instances_per_host: Positive = 50
    track_instance_changes: bool = True
    shuffle_best_same_weighed_hosts: bool = False
    ram_weight_multiplier: float = 1.0
    cpu_weight_multiplier: float = 1.0
    disk_weight_multiplier: float = 1.0
    io_ops_weight_multiplier: float = -1.0
    num_instances_weight_multiplier: float = 0.0
    pci_weight_multiplier: float = 1.0
    soft_affinity_weight_multiplier: float = 1.0
    soft_anti_affinity_weight_multiplier: float = 1.0
    build_failure_weight_multiplier: float = 1_000_000.0
    cross_cell_move_weight_multiplier: float = 1_000_000.0
    hypervisor_version_weight_multiplier: float = 1.0
    image_props_weight_multiplier: float = 0.0
    image_props_weight_setting: Names = ()
    image_properties_default_architecture: str | None = None
    isolated_images: Names = ()
    isolated_hosts: Names = ()
    restrict_isolated_hosts_to_isolated_images: bool = True


class Quota(Struct, frozen=True, kw_only=True):
    """[quota]: limits of a project that has none of its own; -1 is unlimited. ``ram`` is MiB."""

    instances: Limit = 10
    cores: Limit = 20
    ram: Limit = 51200
    metadata_items: Limit = 128
    injected_files: Limit = 5
    injected_file_content_bytes: Limit = 10240
    injected_file_path_length: Limit = 255
    key_pairs: Limit = 100
    server_groups: Limit = 10
    server_group_members: Limit = 10
    driver: Literal["nova.quota.DbQuotaDriver", "nova.quota.UnifiedLimitsDriver", "nova.quota.NoopQuotaDriver"] = (
        "nova.quota.DbQuotaDriver"
    )
    unified_limits_resource_strategy: Literal["require", "ignore"] = "require"
    unified_limits_resource_list: Names = ("servers",)


class OsloPolicy(Struct, frozen=True, kw_only=True):
    """[oslo_policy]. Scope and the new defaults are always enforced, as in Nova 34."""

    policy_file: str = "policy.yaml"
    policy_dirs: Names = ("policy.d",)
    policy_default_rule: str = "default"


class Notifications(Struct, frozen=True, kw_only=True):
    """[notifications]."""

    notification_format: Literal["unversioned", "versioned", "both"] = "unversioned"
    notify_on_state_change: Literal["vm_state", "vm_and_task_state"] | None = None
    versioned_notifications_topics: Names = ("versioned_notifications",)
    default_level: Literal["DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"] = "INFO"
    bdms_in_notifications: bool = False


class OsloMiddleware(Struct, frozen=True, kw_only=True):
    """[oslo_middleware]: whether X-Forwarded-* of a front proxy are believed."""

    enable_proxy_headers_parsing: bool = False


class OsloMessagingRabbit(Struct, frozen=True, kw_only=True):
    """[oslo_messaging_rabbit]: TLS and heartbeats of the RabbitMQ connection (seconds)."""

    ssl: bool = False
    ssl_ca_file: str | None = None
    ssl_cert_file: str | None = None
    ssl_key_file: str | None = None
    heartbeat_timeout_threshold: Seconds = 60


class OsloMessagingNotifications(Struct, frozen=True, kw_only=True):
    """[oslo_messaging_notifications]: where notifications go; no driver or ``noop``: nowhere."""

    driver: Names = ()
    topics: Names = ("notifications",)
    transport_url: TransportUrl | None = None
