"""All routes of the identity API."""

from __future__ import annotations

from kilonova.http.routing import Route
from kilonova.identity.resources import auth, domains, projects

_FILES = (auth, domains, projects)


def all_routes() -> list[Route]:
    """Every route, for the face."""
    return [each for file in _FILES for each in file.routes()]
