"""All routes of the identity API."""

from __future__ import annotations

from kilonova.http.routing import Route
from kilonova.identity.resources import (
    application_credentials,
    auth,
    credentials,
    domains,
    endpoints,
    grants,
    groups,
    limits,
    projects,
    roles,
    users,
)

_FILES = (
    auth, domains, projects, users, groups, roles, grants, application_credentials, credentials, endpoints, limits,
)  # fmt: skip


def all_routes() -> list[Route]:
    """Every route, for the face."""
    return [each for file in _FILES for each in file.routes()]
