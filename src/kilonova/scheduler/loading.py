"""Columns made from scratch, a slice at a time so that the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from kilonova.model.host_facts import AggregateFact, HostFact, ServiceFact
from kilonova.model.placement import ProviderState
from kilonova.scheduler.columns import HostColumns

_SLICE = 250
"""Hosts between two breaths: about 2 ms."""


async def fill(
    columns: HostColumns,
    hosts: Iterable[HostFact],
    services: Iterable[ServiceFact],
    aggregates: Iterable[AggregateFact],
    states: Mapping[str, ProviderState],
) -> None:
    """Put everything into empty columns."""
    for service in services:
        columns.put_service(service)
    columns.put_aggregates(aggregates)
    for number, fact in enumerate(hosts):
        columns.put_host(fact)
        state = states.get(fact.uuid)
        if state is not None:
            columns.apply(state)
        if number % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
