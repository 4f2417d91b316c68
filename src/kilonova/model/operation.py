"""What the API asks the conductor to do: the typed inputs of every story.

An operation's inputs are at most 64 kB and hold no secret in clear.
"""

from __future__ import annotations

from msgspec import Struct

from kilonova.model.guest import GuestSpec


class RequestedNetwork(Struct, frozen=True, kw_only=True):
    """One interface as asked for, already checked against the network service."""

    network_id: str
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class ScheduleInputs(Struct, frozen=True, kw_only=True):
    """`schedule`: choose hosts, claim (all or none), put the servers into a cell with a `build` each."""

    servers: tuple[str, ...]
    networks: tuple[RequestedNetwork, ...] = ()
    zone: str | None = None
    host: str | None = None
    """Forced or requested host (admins)."""
    node: str | None = None
    force: bool = False
    """Forced (`zone:host`): the filters do not run; requested (2.74): they do."""
    extra_specs: dict[str, str] = {}
    image_properties: dict[str, str] = {}
    resources: dict[str, int] = {}
    """Resource class -> amount, per server: VCPU, MEMORY_MB, DISK_GB."""
    hints: dict[str, list[str]] = {}
    sealed_password: str | None = None


class BuryInputs(Struct, frozen=True, kw_only=True):
    """`bury`: servers that found no host, or could not be placed, stand in cell0 as ERROR."""

    servers: tuple[str, ...]
    message: str
    """For the owner."""
    details: str
    """For admins."""


class BuildInputs(Struct, frozen=True, kw_only=True):
    """`build`: ports, guest, ACTIVE."""

    server: str
    host: str
    node: str
    provider: str
    spec: GuestSpec
    """The guest, without its interfaces."""
    networks: tuple[RequestedNetwork, ...] = ()
    alternates: tuple[tuple[str, str, str], ...] = ()
    """(host, node, provider) of the next choices in the same cell."""
    resources: dict[str, int] = {}


class ServerInputs(Struct, frozen=True, kw_only=True):
    """Stories about one server that take nothing more: start, delete, ..."""

    server: str


class StopInputs(Struct, frozen=True, kw_only=True):
    server: str
    graceful_s: int = 60


class RebootInputs(Struct, frozen=True, kw_only=True):
    server: str
    kind: str
    """SOFT or HARD."""


class ResetInputs(Struct, frozen=True, kw_only=True):
    """`reset`: an admin's word on a server's state, shown already, made true of what was under way."""

    server: str
    vm_state: str


class NewOperation(Struct, frozen=True, kw_only=True):
    """A row of `operations` about to be inserted with the effect that asked for it."""

    id: str
    story: str
    version: int = 1
    target: str | None
    number: int
    inputs: bytes
    """JSON of the story's inputs struct."""
    before: str | None = None
    """JSON {vm_state, task_state, power_state}: what an undo goes back to."""
    request_id: str
    user_id: str
    project_id: str
    created_at: int
