"""AvailabilityZoneFilter: the host is in the zone asked for. Hosts in no zone are in the default one."""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note


class AvailabilityZoneFilter:
    name = "AvailabilityZoneFilter"
    when_forced = False

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        if request.zone is None:
            return
        number = columns.zones.numbers.get(request.zone)
        if number is None:
            passing[:] = False
        else:
            same = columns.scratch("mask", np.bool_)
            np.equal(columns.zone[: columns.count], number, out=same)
            np.logical_and(passing, same, out=passing)
        note(request.zone)
