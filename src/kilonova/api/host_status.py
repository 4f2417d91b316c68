"""How hosts are, in one word each, for views that show it. Read from the services table at most once a second."""

from __future__ import annotations

from collections.abc import Callable

from kilonova.api.services import ApiServices
from kilonova.db.queries.services import COMPUTE_FLAGS

_FRESH_US = 1_000_000


async def host_status(services: ApiServices) -> Callable[[str | None], str]:
    """host -> UP, DOWN (forced), MAINTENANCE (disabled), UNKNOWN (no beats); "" for none."""
    cached = services.host_flags
    now = services.clock()
    if cached is None or not now - _FRESH_US < cached[0] <= now:
        rows = await services.databases.global_.fetch(COMPUTE_FLAGS, {})
        cached = services.host_flags = (now, {row[0]: (row[1], row[2]) for row in rows})
    flags = cached[1]

    def word(host: str | None) -> str:
        if not host:
            return ""
        disabled, forced_down = flags.get(host, (0, 0))
        if forced_down:
            return "DOWN"
        if not services.host_up(host, "nova-compute"):
            return "UNKNOWN"
        return "MAINTENANCE" if disabled else "UP"

    return word
