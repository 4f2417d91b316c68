"""Reads for the scheduler's columns: everything once, then what changed, by id."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import cache, partial
from itertools import pairwise

import msgspec

from kilonova.db.database import Database
from kilonova.db.queries.placement import fold_states
from kilonova.db.statement import Row, Statement, Value, in_list, in_values
from kilonova.model.host_facts import AggregateFact, HostFact, ServiceFact
from kilonova.model.placement import ProviderState

_HOST_SQL = """SELECT h.uuid, h.host, h.node, h.cell, h.generation, h.hypervisor_version, h.supported_instances,
               p.traits, h.debts FROM hosts h JOIN resource_providers p ON p.uuid = h.uuid"""
HOSTS_PART = Statement(f"{_HOST_SQL} WHERE h.uuid >= :first AND h.uuid < :last")
_STATE_SQL = """SELECT p.uuid, p.revision, p.consumers, i.resource_class, i.capacity, i.used, i.max_unit,
                i.min_unit, i.step_size FROM resource_providers p LEFT JOIN inventories i ON i.provider = p.uuid"""
STATES_PART = Statement(f"{_STATE_SQL} WHERE p.uuid >= :first AND p.uuid < :last")
_BOUNDS = ("", *"123456789abcdef", "~")
"""By the first character: everything at once would be the most memory that a process ever needs."""
_SERVICE_SQL = """SELECT s.host, s.generation, s.disabled, s.forced_down, s.beat FROM services s
                  WHERE s.program = 'nova-compute'"""
ALL_SERVICES = Statement(_SERVICE_SQL, scans="columns hold every service: at start, and each minute")
AGGREGATES = Statement("SELECT uuid, availability_zone, metadata FROM aggregates")
AGGREGATE_HOSTS = Statement("SELECT aggregate, host FROM aggregate_hosts")
SLICE = Statement(
    """SELECT h.uuid, h.generation, p.revision FROM hosts h JOIN resource_providers p ON p.uuid = h.uuid
       WHERE h.uuid > :after ORDER BY h.uuid LIMIT :limit"""
)
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


@cache
def _by_id(sql: str, column: str, count: int) -> Statement:
    word = "AND" if " WHERE " in sql else "WHERE"
    return Statement(f"{sql} {word} {column} IN {in_list('uuid', count)[0]}")


def _listed(sql: str, column: str, uuids: Sequence[str]) -> tuple[Statement, dict[str, Value]]:
    values: list[Value] = list(uuids)
    return _by_id(sql, column, min(1000, 1 << (len(values) - 1).bit_length())), in_values("uuid", values)


async def all_hosts(db: Database) -> AsyncIterator[list[HostFact]]:
    """Every host, in some parts."""
    for first, last in pairwise(_BOUNDS):
        yield await db.scan(HOSTS_PART, {"first": first, "last": last}, _hosts)


async def all_usage(db: Database) -> AsyncIterator[list[Row]]:
    """(provider, revision, consumers, class, capacity, used, max_unit, min_unit, step_size), as rows, in some parts.

    A provider without inventories has one row with a null class.
    """
    for first, last in pairwise(_BOUNDS):
        yield await db.scan(STATES_PART, {"first": first, "last": last}, list)


async def all_services(db: Database) -> list[ServiceFact]:
    return await db.scan(ALL_SERVICES, {}, _services)


async def all_aggregates(db: Database) -> list[AggregateFact]:
    members: dict[str, list[str]] = await db.scan(AGGREGATE_HOSTS, {}, _members)
    return await db.scan(AGGREGATES, {}, partial(_aggregates, members))


async def hosts(db: Database, uuids: Sequence[str]) -> list[HostFact]:
    """Some hosts, at most 1,000; those that are gone are left out."""
    return await db.scan(*_listed(_HOST_SQL, "h.uuid", uuids), _hosts)


async def states(db: Database, uuids: Sequence[str]) -> dict[str, ProviderState]:
    """Some providers' states, at most 1,000."""
    return await db.scan(*_listed(_STATE_SQL, "p.uuid", uuids), fold_states)


async def services(db: Database, uuids: Sequence[str]) -> list[ServiceFact]:
    """Some compute services by uuid, at most 1,000; others are left out."""
    return await db.scan(*_listed(_SERVICE_SQL, "s.uuid", uuids), _services)


async def services_of(db: Database, hosts: Sequence[str]) -> list[ServiceFact]:
    """The compute services of some hosts by name, at most 1,000."""
    return await db.scan(*_listed(_SERVICE_SQL, "s.host", hosts), _services)


async def generations(db: Database, after: str, limit: int) -> list[tuple[str, int, int]]:
    """(uuid, generation of the host, revision of its provider) of the next hosts after a uuid."""
    return [(row[0], row[1], row[2]) for row in await db.fetch(SLICE, {"after": after, "limit": limit})]


def _hosts(rows: list[Row]) -> list[HostFact]:
    return [HostFact(*row) for row in rows]


def _services(rows: list[Row]) -> list[ServiceFact]:
    return [ServiceFact(row[0], row[1], bool(row[2]), bool(row[3]), row[4]) for row in rows]


def _members(rows: list[Row]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for aggregate, host in rows:
        found.setdefault(aggregate, []).append(host)
    return found


def _aggregates(members: dict[str, list[str]], rows: list[Row]) -> list[AggregateFact]:
    return [AggregateFact(r[0], r[1], _decode_metadata(r[2]), tuple(members.get(r[0], ()))) for r in rows]
