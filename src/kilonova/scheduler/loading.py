"""Columns made from scratch, a slice at a time so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Any

from kilonova.model.host_facts import AggregateFact, HostFact, ServiceFact
from kilonova.scheduler.arrays import np
from kilonova.scheduler.columns import HostColumns

_HOSTS, _ROWS = 500, 2000
"""Hosts, and rows of usage, between two breaths: about 2 ms each."""
Usage = tuple[Any, ...]
"""A row of `db.queries.host_columns.all_usage`."""


async def fill(
    columns: HostColumns,
    hosts: AsyncIterable[Sequence[HostFact]],
    services: Iterable[ServiceFact],
    aggregates: Iterable[AggregateFact],
    usage: AsyncIterable[Sequence[Usage]],
) -> None:
    """Put everything into empty columns, part by part."""
    for service in services:
        columns.put_service(service)
    columns.put_aggregates(aggregates)
    async for part in hosts:
        for number, fact in enumerate(part):
            columns.put_host(fact)
            if number % _HOSTS == _HOSTS - 1:
                await asyncio.sleep(0)
    async for rows in usage:
        for at in range(0, len(rows), _ROWS):
            _use(columns, rows[at : at + _ROWS])
            await asyncio.sleep(0)


def _use(columns: HostColumns, usage: Sequence[Usage]) -> None:
    """What `HostColumns.apply` does, for many rows of one resource class at a time."""
    classes: dict[str, list[tuple[int, int, int, int]]] = {}
    for uuid, generation, consumers, name, capacity, used, max_unit, min_unit, step_size in usage:
        row = columns.row.get(uuid)
        if row is None:
            continue
        if columns.generation[row] != generation:
            columns.generation[row], columns.instances[row] = generation, consumers
        if name is not None:
            classes.setdefault(name, []).append((row, capacity, capacity - used, max_unit))
            if min_unit != 1 or step_size != 1:
                columns.column(name).odd[row] = (min_unit, step_size)
    for name, found in classes.items():
        column = columns.column(name)
        rows, capacities, free, most = np.array(found, np.int64).T
        column.capacity[rows], column.free[rows], column.max_unit[rows] = capacities, free, most
        column.most[rows] = np.minimum(free, most)
