"""The HTTP application of a process: which API is mounted where, and how errors of lower rooms look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kilonova import metrics
from kilonova.api.services import ApiSettings
from kilonova.config.settings import Settings
from kilonova.db.errors import Busy, CommitUnknown, DatabaseError, StorageFull
from kilonova.db.errors import Unavailable as DatabaseAway
from kilonova.http.errors import HttpError, Unavailable
from kilonova.http.message import Request
from kilonova.image.port import ImageUnavailable
from kilonova.network.port import NetworkUnavailable
from kilonova.pools import Overloaded

_REQUESTS = metrics.counter("kilonova_http_requests_total", "HTTP requests answered.", ("method", "route", "status"))
_SECONDS = metrics.histogram("kilonova_http_request_seconds", "Time to answer a request.", ("method",))


def api_settings(settings: Settings, *, force_config_drive: bool = False, auth_uri: str = "") -> ApiSettings:
    """What operators set about the Compute API, from Nova's options; `force_config_drive` where they said nothing."""
    q = settings.quota
    if settings.source("default", "force_config_drive") != "default":
        force_config_drive = settings.default.force_config_drive
    return ApiSettings(
        quotas={
            "instances": q.instances, "cores": q.cores, "ram": q.ram, "metadata_items": q.metadata_items,
            "injected_files": q.injected_files, "injected_file_content_bytes": q.injected_file_content_bytes,
            "injected_file_path_bytes": q.injected_file_path_length, "key_pairs": q.key_pairs,
            "server_groups": q.server_groups, "server_group_members": q.server_group_members,
        },
        max_limit=settings.api.max_limit, default_zone=settings.default.default_availability_zone,
        schedule_zone=settings.default.default_schedule_zone, password_length=settings.default.password_length,
        force_config_drive=force_config_drive, auth_uri=auth_uri,
    )  # fmt: skip


def observe(request: Request, status: int, seconds: float) -> None:
    """Count an answered request."""
    _REQUESTS.labels(request.method, f"{request.mount}{request.route}", str(status)).inc()
    _SECONDS.labels(request.method).observe(seconds)


def translate(error: Exception) -> HttpError | None:
    """503 for what is full, busy or away; None for a bug."""
    if isinstance(error, StorageFull):
        return Unavailable("The cloud's disk is full: nothing can be changed until there is room.", 10)
    if isinstance(error, Busy):
        return Unavailable("The database is busy; try again.")
    if isinstance(error, (DatabaseAway, CommitUnknown)):
        return Unavailable("The database cannot be reached; try again.", 5)
    if isinstance(error, Overloaded):
        return Unavailable(f"{error}; try again.")
    if isinstance(error, (ImageUnavailable, NetworkUnavailable)):
        return Unavailable(f"A service that this needs is away: {error}", 5)
    if isinstance(error, DatabaseError):
        return None
    return None


def allowed_hosts(settings: Settings, host: str) -> frozenset[str] | None:
    """Names that the Host header may carry; None when listening beyond loopback without a list."""
    names = {"localhost", "127.0.0.1", "[::1]", *settings.kilonova.allowed_hosts}
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return frozenset(names) if settings.kilonova.allowed_hosts else None
    return frozenset({*names, f"[{host}]" if ":" in host else host})


Mounts = dict[str, Any]
Wake = Callable[[str, str], None]
