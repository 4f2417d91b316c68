"""Hypervisors: hosts with their service, what of them is used, and the servers on them."""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.statement import Row, Statement

_COLUMNS = """h.uuid, h.number, h.host, h.node, h.hypervisor_type, h.hypervisor_version, h.host_ip, h.vcpus,
    h.memory_mb, h.local_gb, h.free_disk_gb, h.cpu_info, s.uuid, s.number, s.disabled, s.disabled_reason,
    s.forced_down"""
_FROM = "FROM hosts h JOIN services s ON s.host = h.host AND s.program = 'nova-compute'"
PAGE = Statement(f"SELECT {_COLUMNS} {_FROM} WHERE h.number > :marker ORDER BY h.number LIMIT :limit")
ALL = Statement(f"SELECT {_COLUMNS} {_FROM} ORDER BY h.number")
BY_UUID = Statement(f"SELECT {_COLUMNS} {_FROM} WHERE h.uuid = :uuid")
BY_NUMBER = Statement(f"SELECT {_COLUMNS} {_FROM} WHERE h.number = :number")
USED = Statement("SELECT provider, resource_class, used FROM inventories WHERE used > 0", scans="shown of all hosts")
USED_OF = Statement("SELECT provider, resource_class, used FROM inventories WHERE provider = :provider")
ON_HOSTS = Statement(
    """SELECT host, COUNT(*), CAST(SUM(CASE WHEN task_state IS NULL THEN 0 ELSE 1 END) AS BIGINT)
       FROM servers GROUP BY host""",
    scans="how many servers run on each of all hosts",
)
SERVERS_ON = Statement("SELECT uuid, name FROM servers WHERE host = :host ORDER BY created_at, uuid")


class Hypervisor(Struct, frozen=True):
    """One hypervisor; memory in MiB, disk in GiB."""

    uuid: str
    number: int
    host: str
    node: str
    hypervisor_type: str
    hypervisor_version: int
    host_ip: str
    vcpus: int
    memory_mb: int
    local_gb: int
    free_disk_gb: int
    cpu_info: str
    service_uuid: str
    service_number: int
    disabled: int
    disabled_reason: str | None
    forced_down: int


def hypervisor(row: Row) -> Hypervisor:
    """From a row of the statements here."""
    return Hypervisor(*row)
