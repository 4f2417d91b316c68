"""What a host is told about a guest, and what it says back.

A `GuestSpec` is complete: with it a host that lost every file of its own can make the guest again.
It carries no secret: what only the guest may know (admin password, user data, keys) the host asks
for when it builds the config drive.
"""

from __future__ import annotations

from msgspec import Struct

from kilonova.model.power import PowerState


class ImageRef(Struct, frozen=True, kw_only=True):
    """The image a root disk starts from."""

    id: str
    size: int
    """Bytes of the file as stored."""
    checksum: str | None = None
    """`os_hash_value` (hex) when the image service has one."""
    hash_algo: str | None = None
    disk_format: str = "qcow2"
    """What the owner said it is; the host decides by content."""
    properties: dict[str, str] = {}


class Nic(Struct, frozen=True, kw_only=True):
    """One network interface; its identity is the port."""

    port_id: str
    network_id: str
    mac: str
    addresses: tuple[str, ...] = ()
    mtu: int = 1500
    kind: str = "user"
    """How the host plugs it: ``user`` (QEMU user-mode), ``bridge``, ``tap``, ``none``."""
    tag: str | None = None


class GuestSpec(Struct, frozen=True, kw_only=True):
    """Everything that defines a guest on a host."""

    uuid: str
    name: str
    """The server's display name, for people reading the hypervisor's own tools."""
    instance_name: str
    """The hypervisor's name of the guest, ``instance-0000002a``; `OS-EXT-SRV-ATTR:instance_name`."""
    hostname: str
    project_id: str
    user_id: str
    vcpus: int
    memory_mb: int
    root_gb: int
    """Size of the root disk in GiB; 0 = as large as the image."""
    ephemeral_gb: int = 0
    swap_mb: int = 0
    image: ImageRef | None = None
    nics: tuple[Nic, ...] = ()
    config_drive: bool = True
    running: bool = True
    """Whether the guest runs once ensured."""
    flavor_extra_specs: dict[str, str] = {}


class GuestFact(Struct, frozen=True, kw_only=True):
    """What a host sees of one guest of ours."""

    uuid: str
    power_state: PowerState
    note: str = ""
    """Why it is in this state, as the hypervisor words it; empty when there is nothing to say."""


class HostFacts(Struct, frozen=True, kw_only=True):
    """What a host can give and what it is (totals, not what is free)."""

    hostname: str
    hypervisor_type: str
    """`QEMU`, `KVM`, `UML`, `sim`."""
    hypervisor_version: int
    """As libvirt counts: major * 1,000,000 + minor * 1,000 + release."""
    vcpus: int
    memory_mb: int
    local_gb: int
    arch: str
    """Nova's spelling: x86_64, aarch64."""
    cpu_info: str = "{}"
    """JSON object text: vendor, model, arch, features, topology."""
    supported_instances: tuple[tuple[str, str, str], ...] = ()
    """(architecture, hypervisor type, vm mode) triples, for the image properties filter."""
    traits: tuple[str, ...] = ()
    host_ip: str = "127.0.0.1"
    free_disk_gb: int = 0
