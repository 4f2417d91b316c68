"""Sections that shape a hypervisor host: [DEFAULT], [libvirt], [compute], [image_cache] and the consoles.

Names, meanings and defaults are Nova's (nova/conf, release 34) unless a comment says otherwise.
"""

from __future__ import annotations

import socket
from typing import Literal

from msgspec import Struct, field

from kilonova.config.types import Count, Interval, Limit, Names, Port, Positive, Ratio, Seconds
from kilonova.config.urls import TransportUrl


class Default(Struct, frozen=True, kw_only=True):
    """[DEFAULT]. Intervals and windows are seconds; sizes MB; an allocation ratio of None means "initial"."""

    host: str = field(default_factory=socket.gethostname)
    my_ip: str | None = None  # None: the address of the default route
    transport_url: TransportUrl = TransportUrl(kind="memory")
    state_path: str | None = None  # None: the cloud's directory
    instances_path: str | None = None  # None: below state_path
    compute_driver: str | None = None
    debug: bool = False
    log_file: str | None = None
    log_dir: str | None = None
    use_json: bool = False

    default_availability_zone: str = "nova"
    default_schedule_zone: str | None = None
    internal_service_availability_zone: str = "internal"

    cpu_allocation_ratio: Ratio | None = None
    ram_allocation_ratio: Ratio | None = None
    disk_allocation_ratio: Ratio | None = None
    initial_cpu_allocation_ratio: Ratio = 4.0
    initial_ram_allocation_ratio: Ratio = 1.0
    initial_disk_allocation_ratio: Ratio = 1.0
    reserved_host_cpus: Count = 0
    reserved_host_memory_mb: Count = 512
    reserved_host_disk_mb: Count = 0

    instance_name_template: str = "instance-%08x"
    osapi_compute_unique_server_name_scope: Literal["", "project", "global"] = ""
    password_length: Positive = 12
    allow_resize_to_same_host: bool = False
    force_config_drive: bool = False
    use_cow_images: bool = True
    force_raw_images: bool = True
    default_ephemeral_format: str | None = None
    max_local_block_devices: Limit = 3
    enable_new_services: bool = True
    resume_guests_state_on_host_boot: bool = False
    pointer_model: Literal["ps2mouse", "usbtablet"] = "usbtablet"

    max_concurrent_builds: Count = 10
    max_concurrent_snapshots: Count = 5
    max_concurrent_live_migrations: Count = 1
    vif_plugging_is_fatal: bool = True
    vif_plugging_timeout: Seconds = 300
    long_rpc_timeout: Positive = 1800
    rpc_response_timeout: Positive = 60
    report_interval: Positive = 10
    service_down_time: Positive = 60

    reclaim_instance_interval: Seconds = 0
    instance_build_timeout: Seconds = 0
    reboot_timeout: Seconds = 0
    rescue_timeout: Seconds = 0
    resize_confirm_window: Seconds = 0
    shutdown_timeout: Seconds = 60
    shelved_offload_time: Interval = 0
    shelved_poll_interval: Interval = 3600
    sync_power_state_interval: Interval = 600
    running_deleted_instance_action: Literal["noop", "log", "shutdown", "reap"] = "reap"
    running_deleted_instance_poll_interval: Interval = 1800
    running_deleted_instance_timeout: Seconds = 0
    instance_usage_audit: bool = False


class Libvirt(Struct, frozen=True, kw_only=True):
    """[libvirt]. ``virt_type`` defaults to ``auto`` here: KVM where a kernel was seen to run, else QEMU."""

    virt_type: Literal["auto", "kvm", "qemu"] = "auto"
    connection_uri: str | None = None
    cpu_mode: Literal["host-model", "host-passthrough", "custom", "maximum", "none"] | None = None
    cpu_models: Names = ()
    cpu_model_extra_flags: Names = ()
    images_type: Literal["default", "raw", "flat", "qcow2"] = "default"
    hw_machine_type: Names = ()
    disk_cachemodes: Names = ()
    hw_disk_discard: Literal["ignore", "unmap"] | None = None
    inject_password: bool = False
    inject_key: bool = False
    rng_dev_path: str = "/dev/urandom"
    num_pcie_ports: Count = 0
    mem_stats_period_seconds: int = 10
    wait_soft_reboot_seconds: Seconds = 120
    snapshot_image_format: Literal["raw", "qcow2", "vmdk", "vdi"] | None = None
    snapshot_compression: bool = False
    snapshots_directory: str | None = None
    images_cpu_time_limit: Count = 30
    images_address_space_limit: Count = 2  # GiB
    live_migration_uri: str | None = None
    live_migration_scheme: str | None = None
    live_migration_inbound_addr: str | None = None
    live_migration_bandwidth: Count = 0  # MiB/s, 0 is unlimited
    live_migration_downtime: Positive = 500  # ms
    live_migration_completion_timeout: Seconds = 800
    live_migration_timeout_action: Literal["abort", "force_complete"] = "abort"
    live_migration_permit_post_copy: bool = False
    live_migration_permit_auto_converge: bool = False
    live_migration_with_native_tls: bool = False


class Compute(Struct, frozen=True, kw_only=True):
    """[compute]."""

    consecutive_build_service_disable_threshold: Count = 10
    cpu_shared_set: str | None = None
    cpu_dedicated_set: str | None = None
    max_disk_devices_to_attach: Limit = -1
    image_type_exclude_list: Names = ()
    vmdk_allowed_types: Names = ("streamOptimized", "monolithicSparse")
    live_migration_wait_for_vif_plug: bool = True
    shutdown_retry_interval: Positive = 10


class ImageCache(Struct, frozen=True, kw_only=True):
    """[image_cache]."""

    manager_interval: Interval = 2400
    subdirectory_name: str = "_base"
    remove_unused_base_images: bool = True
    remove_unused_original_minimum_age_seconds: Seconds = 86400


class Vnc(Struct, frozen=True, kw_only=True):
    """[vnc]."""

    enabled: bool = True
    server_listen: str = "127.0.0.1"
    server_proxyclient_address: str = "127.0.0.1"
    novncproxy_base_url: str | None = None  # None: this cloud's own URL
    novncproxy_host: str = "0.0.0.0"  # noqa: S104 - Nova's default; used only by a proxy process of its own
    novncproxy_port: Port = 6080
    auth_schemes: Names = ("none",)
    vencrypt_ca_certs: str | None = None
    vencrypt_client_cert: str | None = None
    vencrypt_client_key: str | None = None


class Spice(Struct, frozen=True, kw_only=True):
    """[spice]."""

    enabled: bool = False
    agent_enabled: bool = True
    server_listen: str = "127.0.0.1"
    server_proxyclient_address: str = "127.0.0.1"
    html5proxy_base_url: str | None = None
    html5proxy_port: Port = 6082


class SerialConsole(Struct, frozen=True, kw_only=True):
    """[serial_console]."""

    enabled: bool = False
    port_range: str = "10000:20000"
    base_url: str | None = None
    proxyclient_address: str = "127.0.0.1"
    serialproxy_port: Port = 6083


class Consoleauth(Struct, frozen=True, kw_only=True):
    """[consoleauth]."""

    token_ttl: Seconds = 600
    enforce_session_timeout: bool = False
