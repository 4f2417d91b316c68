"""The service catalog: what this cloud serves under its base URL, real neighbours in place of embedded ones,
and whatever services and endpoints an admin has added.

The built-in entries follow the configuration, have the same ids in every process, and cannot be changed
through the API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from kilonova.identity.records import Endpoint, Region, Service
from kilonova.identity.state import State

INTERFACES = ("public", "internal", "admin")


class BuiltIn(NamedTuple):
    """A service that the configuration provides; `path` is below the base URL."""

    type: str
    name: str
    path: str
    description: str


BUILT_IN: tuple[BuiltIn, ...] = (
    BuiltIn("identity", "keystone", "/identity", "Identity"),
    BuiltIn("compute", "nova", "/compute/v2.1", "Compute"),
    BuiltIn("image", "glance", "/image", "Images"),
    BuiltIn("network", "neutron", "/network", "Networks"),
    BuiltIn("volumev3", "cinderv3", "/volume/v3/$(project_id)s", "Volumes"),
    BuiltIn("block-storage", "cinder", "/volume/v3", "Volumes"),
    BuiltIn("placement", "placement", "/placement", "Placement"),
)


def _stable(*names: str) -> str:
    return uuid5(NAMESPACE_URL, "kilonova:" + ":".join(names)).hex


class Catalog:
    """Built-in and added services of one region."""

    def __init__(
        self, region: str = "RegionOne", overrides: Mapping[str, str] | None = None, base_url: str | None = None
    ) -> None:
        """`overrides`: service type -> URL of a real neighbour, or "" for none at all.

        `base_url`: ``http://host:port``; None: as the client addressed us.
        """
        self.region, self.base_url = region, base_url.rstrip("/") if base_url else None
        self._overrides = dict(overrides or {})
        for one, other in (("volumev3", "block-storage"), ("block-storage", "volumev3")):
            if one in self._overrides:
                self._overrides.setdefault(other, self._overrides[one])
        self._served = [each for each in BUILT_IN if self._overrides.get(each.type) != ""]
        self.region_ids = frozenset([region])
        self.service_ids = frozenset(_stable("service", each.type) for each in self._served)
        self.endpoint_ids = frozenset(_stable("endpoint", s.type, i) for s in self._served for i in INTERFACES)

    def __repr__(self) -> str:
        return f"Catalog({self.region!r}, {self.base_url!r})"

    def regions(self, state: State) -> list[Region]:
        return [Region(id=self.region), *state.values(Region)]

    def services(self, state: State) -> list[Service]:
        own = [
            Service(id=_stable("service", each.type), type=each.type, name=each.name, description=each.description)
            for each in self._served
        ]
        return [*own, *state.values(Service)]

    def endpoints(self, state: State, base_url: str) -> list[Endpoint]:
        base = self.base_url or base_url
        own = [
            Endpoint(
                id=_stable("endpoint", each.type, interface), service_id=_stable("service", each.type),
                interface=interface, region_id=self.region, url=self._overrides.get(each.type) or base + each.path,
            )
            for each in self._served
            for interface in INTERFACES
        ]  # fmt: skip
        return [*own, *state.values(Endpoint)]

    def entries(self, state: State, base_url: str, project_id: str | None, user_id: str) -> list[dict[str, Any]]:
        """The catalog as a token carries it. Endpoints that need a project are left out without one."""
        by_service: dict[str, list[dict[str, Any]]] = {}
        for each in self.endpoints(state, base_url):
            url = _filled(each.url, project_id, user_id) if each.enabled else None
            if url is not None:
                shown = {"id": each.id, "interface": each.interface, "region_id": each.region_id, "url": url}
                by_service.setdefault(each.service_id, []).append({**shown, "region": each.region_id})
        return [
            {"id": each.id, "type": each.type, "name": each.name, "endpoints": by_service[each.id]}
            for each in self.services(state)
            if each.enabled and each.id in by_service
        ]


def _filled(url: str, project_id: str | None, user_id: str) -> str | None:
    if "(" not in url:
        return url
    for name, value in (("project_id", project_id), ("tenant_id", project_id), ("user_id", user_id)):
        for form in (f"$({name})s", f"%({name})s"):
            if form in url:
                if value is None:
                    return None
                url = url.replace(form, value)
    return url


def bad_template(url: str) -> bool:
    """Whether an endpoint's URL holds a substitution that is not known."""
    left = _filled(url, "", "") or ""
    return "$(" in left or "%(" in left
