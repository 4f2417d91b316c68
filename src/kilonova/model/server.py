"""A server as the databases hold it: one struct, its fields in the order of the table's columns.

The same struct is the request behind an unplaced server (in the server index) and the row in its cell.
JSON members are kept as text: lists pass them through without decoding.
"""

from __future__ import annotations

from msgspec import Struct


class Flavor(Struct, frozen=True, kw_only=True):
    """The copy of a flavor that a server carries (2.47 shows it; changes to the flavor don't touch it)."""

    flavor_id: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    extra_specs: dict[str, str] = {}


class Address(Struct, frozen=True, kw_only=True):
    """One port of a server, as `addresses` shows it."""

    port_id: str
    network_id: str
    label: str
    """The network's name."""
    mac: str
    ips: tuple[tuple[str, int], ...] = ()
    """(address, version) pairs; fixed ones."""
    floating: tuple[tuple[str, int], ...] = ()
    mtu: int = 1500
    tag: str | None = None
    preexisting: bool = False
    """The user's own port: unplugged but not deleted with the server."""
    kind: str = "user"


class Fault(Struct, frozen=True, kw_only=True):
    """Why a server is in ERROR: what failed, at which step, on which host (admins), and whether to try again."""

    code: int
    message: str
    created: int
    """Microseconds UTC."""
    details: str = ""
    admin_details: str = ""


class Server(Struct, kw_only=True):
    """Fields = columns of `servers` and `servers_archive`, in their order."""

    uuid: str
    number: int = 0
    project_id: str
    user_id: str
    name: str
    hostname: str
    description: str | None = None
    vm_state: str = "building"
    task_state: str | None = "scheduling"
    power_state: int = 0
    progress: int = 0
    host: str | None = None
    node: str | None = None
    availability_zone: str | None = None
    pinned_zone: str | None = None
    image_id: str = ""
    image: str = "{}"
    """JSON of `model.guest.ImageRef`."""
    flavor: str
    """JSON of `Flavor`."""
    flavor_id: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    key_name: str | None = None
    key_data: str | None = None
    user_data: str | None = None
    """Base64, as given."""
    config_drive: int = 0
    metadata: str = "{}"
    tags: str = "[]"
    addresses: str = "[]"
    """JSON list of `Address`."""
    security_groups: str = "[]"
    """JSON list of names."""
    volumes: str = "[]"
    hints: str = "{}"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    disk_config: str = "MANUAL"
    reservation_id: str = ""
    launch_index: int = 0
    root_device_name: str | None = None
    locked_by: str | None = None
    locked_reason: str | None = None
    fault: str | None = None
    """JSON of `Fault`."""
    extra: str = "{}"
    operation_id: str | None = None
    next_number: int = 1
    host_number: int = -1
    generation: int = 1
    created_at: int
    updated_at: int
    launched_at: int | None = None
    terminated_at: int | None = None
    deleted_at: int | None = None

    def __repr__(self) -> str:
        return f"<Server {self.uuid} {self.vm_state}/{self.task_state}>"

    @property
    def instance_name(self) -> str:
        """The hypervisor's name of the guest."""
        return f"instance-{self.number:08x}"
