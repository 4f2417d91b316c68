"""Which filling each port gets: the embedded companion over this cloud's databases, or the configured real service.

A real service that is away stops nothing from starting: what needs it answers 503 until it is there. `watch` says
so in the log, once when it goes and once when it comes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.cli.compose.who import Sessions, Who, account, open_who
from kilonova.config.sections_neighbours import Session
from kilonova.config.settings import Settings
from kilonova.http.elsewhere import ElsewhereFace
from kilonova.http.neighbour import Endpoint, Neighbour
from kilonova.image.port import ImagePort
from kilonova.network.port import NetworkPort

if TYPE_CHECKING:
    from kilonova.db.open import Databases
    from kilonova.identity.service import Identity
    from kilonova.image.service import EmbeddedImages
    from kilonova.network.service import EmbeddedNetwork
    from kilonova.pools import Pools

_VERSION = re.compile(r"/v\d+(\.\d+)?/?\Z")
_PROBES = {"Glance": "/v2/images?limit=1", "Neutron": "/v2.0/networks?limit=1&fields=id"}
TYPES = {"/identity": "identity", "/image": "image", "/network": "network"}


@dataclass(kw_only=True)
class Neighbours:
    """The fillings of a process that serves the APIs."""

    who: Who
    images: ImagePort
    networks: NetworkPort
    own_images: EmbeddedImages | None
    own_networks: EmbeddedNetwork | None
    cinder: str | None = None
    """A real Cinder's URL, "" where only the catalog has it; None: the embedded service."""
    real: tuple[Neighbour, ...] = field(default=())

    @property
    def elsewhere(self) -> bool:
        """Whether any real service is configured."""
        return bool(self.real) or self.who.real is not None or self.cinder is not None

    def faces(self) -> dict[str, Any]:
        """The companions' faces by mount."""
        from kilonova.identity.face import IdentityFace
        from kilonova.image.face import ImageFace
        from kilonova.network.face import NetworkFace
        from kilonova.volume.face import VolumeFace

        validator, auth_uri = self.who.validator, self.who.auth_uri
        urls = {each.name: each.endpoint if isinstance(each.endpoint, str) else "" for each in self.real}
        made: dict[str, Any] = {
            "/identity": ElsewhereFace("Keystone", auth_uri),
            "/image": ElsewhereFace("Glance", urls.get("Glance", "")),
            "/network": ElsewhereFace("Neutron", urls.get("Neutron", "")),
            "/volume": ElsewhereFace("Cinder", self.cinder or ""),
        }
        if self.who.embedded is not None:
            made["/identity"] = IdentityFace(self.who.embedded)
        if self.own_images is not None:
            made["/image"] = ImageFace(self.own_images, validator, auth_uri)
        if self.own_networks is not None:
            made["/network"] = NetworkFace(self.own_networks, validator, auth_uri=auth_uri)
        if self.cinder is None:
            made["/volume"] = VolumeFace(validator, auth_uri)
        return made

    async def close(self) -> None:
        for each in self.real:
            await each.close()
        await self.who.close()


async def open_neighbours(
    settings: Settings, databases: Databases, pools: Pools, *, folder: Path, keys: Path | None = None,
    base_url: str | None = None, rotate_s: float = 0,
) -> Neighbours:  # fmt: skip
    """Open what is embedded, prepare what is real; asks no neighbour anything.

    Raises CliError, KeyringError, DatabaseError.
    """
    who = await open_who(
        settings, databases, pools, keys=keys, base_url=base_url, rotate_s=rotate_s, overrides=addresses(settings)
    )
    glance = real_glance(settings, who.sessions, who.embedded)
    neutron = real_neutron(settings, who.sessions, who.embedded)
    own_images, images = None, None
    if glance is not None:
        from kilonova.image.client import GlanceClient

        images = GlanceClient(glance)
    else:
        from kilonova.image.service import EmbeddedImages

        own_images = EmbeddedImages(databases.global_, folder / "image-store", pools["files"])
        await own_images.start()
    networks, own_networks = network_port(databases, neutron)
    cinder = None
    if settings.cinder.external:
        cinder = settings.cinder.endpoint_override or ""
    return Neighbours(
        who=who, images=images or _there(own_images), networks=networks, own_images=own_images,
        own_networks=own_networks, cinder=cinder, real=tuple(each for each in (glance, neutron) if each is not None),
    )  # fmt: skip


def _there(images: EmbeddedImages | None) -> EmbeddedImages:
    assert images is not None
    return images


def network_port(databases: Databases, neutron: Neighbour | None) -> tuple[NetworkPort, EmbeddedNetwork | None]:
    """The network port, and the embedded service if that is what fills it."""
    if neutron is not None:
        from kilonova.network.client import NeutronClient

        return NeutronClient(neutron), None
    from kilonova.network.service import EmbeddedNetwork

    own = EmbeddedNetwork(databases.global_)
    return own, own


def addresses(settings: Settings) -> Mapping[str, str]:
    """Service type -> URL of the real neighbours whose URL is configured, for the embedded identity's catalog."""
    cinder = settings.cinder.endpoint_override if settings.cinder.external else None
    found = {"image": glance_url(settings), "network": settings.neutron.endpoint_override, "volumev3": cinder}
    return {kind: url for kind, url in found.items() if url}


def glance_url(settings: Settings) -> str | None:
    """The configured URL of Glance without its version; None: ask the catalog."""
    glance = settings.glance
    url = glance.api_servers[0] if glance.api_servers else glance.endpoint_override
    return _VERSION.sub("", url) if url else None


def real_glance(settings: Settings, sessions: Sessions, identity: Identity | None) -> Neighbour | None:
    """The way to the configured Glance; None: the embedded service. Raises CliError."""
    if not settings.glance.external:
        return None
    return _neighbour("Glance", "glance", settings.glance, glance_url(settings), "image", sessions, identity)


def glance_of_hosts(settings: Settings, sessions: Sessions) -> Neighbour | None:
    """A host's way to the image API, a real Glance's or another kilonova's; None: no account is configured."""
    if account(settings, settings.glance) is None:
        return None
    return _neighbour("Glance", "glance", settings.glance, glance_url(settings), "image", sessions, None)


def real_neutron(settings: Settings, sessions: Sessions, identity: Identity | None) -> Neighbour | None:
    """The way to the configured Neutron; None: the embedded service. Raises CliError."""
    url = settings.neutron.endpoint_override
    if not settings.neutron.external:
        return None
    return _neighbour(
        "Neutron", "neutron", settings.neutron, _VERSION.sub("", url) if url else None, "network", sessions, identity
    )


def _neighbour(
    name: str, section: str, options: Session, url: str | None, kind: str, sessions: Sessions, identity: Identity | None
) -> Neighbour:
    from kilonova.identity.session import KeystoneSession, tls

    tokens, own = sessions.tokens(section, options, identity)
    endpoint: Endpoint = url or ""
    if not url:
        assert isinstance(tokens, KeystoneSession), "an auth_url or a URL makes a service external"
        session: KeystoneSession = tokens
        wanted = options.service_type or kind

        async def find() -> str:
            return _VERSION.sub("", await session.endpoint(wanted, options))

        endpoint = find
    trust = options if options.cafile or options.insecure else own
    return Neighbour(name, endpoint, tokens, timeout=options.timeout or 30.0, tls=tls(trust, url or "https:"))


def probe(neighbour: Neighbour) -> str:
    """A path that a working service answers with 200 to our account."""
    return _PROBES[neighbour.name]
