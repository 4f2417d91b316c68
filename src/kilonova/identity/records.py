"""The nouns of identity as they are kept: one Struct a kind, stored as one JSON record each.

Ids are 32 lower-case hex digits, or `default` for the first domain. Times are microseconds UTC. Secrets
here are hashes or sealed. `epoch` counts what voids all tokens so far: a new password, disabling. A token
holds the sum of the epochs of all that it names, so it needs no clock to know that one has moved.
"""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import uuid4

import msgspec
from msgspec import Struct

SYSTEM = "system"
"""The target id of system-wide roles."""
DEFAULT_DOMAIN = "default"


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Anything kept. `key` is unique within its kind."""

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        """The record's id in the database."""
        return str(self.id)  # type: ignore[attr-defined]  # every kind without an id of its own overrides this

    def __repr__(self) -> str:
        return f"<{self.kind} {self.key}>"


class Domain(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "domain"
    id: str
    name: str
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    epoch: int = 0


class Project(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "project"
    id: str
    name: str
    domain_id: str
    parent_id: str
    """Another project, or the domain."""
    description: str = ""
    enabled: bool = True
    tags: tuple[str, ...] = ()
    extra: dict[str, Any] = {}
    epoch: int = 0


class User(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "user"
    id: str
    name: str
    domain_id: str
    password_hash: str = ""
    """"" = cannot log in by password."""
    enabled: bool = True
    default_project_id: str | None = None
    options: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    epoch: int = 0


class Group(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "group"
    id: str
    name: str
    domain_id: str
    description: str = ""
    extra: dict[str, Any] = {}


class Membership(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "membership"
    group_id: str
    user_id: str

    @property
    def key(self) -> str:
        return f"{self.group_id}:{self.user_id}"


class Role(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A role. Its name compares without case, as policy does."""

    kind = "role"
    id: str
    name: str
    domain_id: str | None = None
    description: str | None = None
    immutable: bool = False
    extra: dict[str, Any] = {}


class Implication(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Who has role `prior` has role `implied`."""

    kind = "implication"
    prior: str
    implied: str

    @property
    def key(self) -> str:
        return f"{self.prior}:{self.implied}"


class Grant(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A role of a user or group on a project, a domain or the system."""

    kind = "grant"
    actor: str
    group: bool = False
    """Whether the actor is a group."""
    target: str
    on: str
    """`project`, `domain` or `system`."""
    role: str

    @property
    def key(self) -> str:
        return f"{self.actor}:{self.target}:{self.role}"


class ApplicationCredential(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "appcred"
    id: str
    name: str
    user_id: str
    project_id: str
    roles: tuple[str, ...]
    secret_hash: str
    description: str | None = None
    expires_at: int | None = None
    unrestricted: bool = False
    created_at: int = 0


class Credential(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A secret kept for its user: EC2 keys and the like. `sealed` is the blob under our key, base64."""

    kind = "credential"
    id: str
    type: str
    user_id: str
    project_id: str | None = None
    sealed: str


class Revocation(Record, frozen=True, kw_only=True, omit_defaults=True):
    """A token that was ended before its time, by audit id."""

    kind = "revocation"
    id: str
    expires_at: int


class Region(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "region"
    id: str
    description: str = ""
    parent_region_id: str | None = None
    extra: dict[str, Any] = {}


class Service(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "service"
    id: str
    type: str
    name: str = ""
    description: str = ""
    enabled: bool = True
    extra: dict[str, Any] = {}


class Endpoint(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "endpoint"
    id: str
    service_id: str
    interface: str
    url: str
    """May hold `$(project_id)s` or `%(project_id)s`."""
    region_id: str | None = None
    enabled: bool = True
    extra: dict[str, Any] = {}


class RegisteredLimit(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "registered_limit"
    id: str
    service_id: str
    resource_name: str
    default_limit: int
    region_id: str | None = None
    description: str | None = None


class Limit(Record, frozen=True, kw_only=True, omit_defaults=True):
    kind = "limit"
    id: str
    service_id: str
    resource_name: str
    resource_limit: int
    project_id: str | None = None
    domain_id: str | None = None
    region_id: str | None = None
    description: str | None = None


KINDS: dict[str, type[Record]] = {
    each.kind: each
    for each in (
        Domain, Project, User, Group, Membership, Role, Implication, Grant, ApplicationCredential, Credential,
        Revocation, Region, Service, Endpoint, RegisteredLimit, Limit,
    )
}  # fmt: skip

_DECODERS = {kind: msgspec.json.Decoder(each) for kind, each in KINDS.items()}
_encode = msgspec.json.Encoder().encode


def encode(record: Record) -> str:
    """The record's body as stored."""
    return _encode(record).decode()


def decode(kind: str, body: str) -> Record | None:
    """The record of a stored body; None for a kind that a newer release has added."""
    decoder = _DECODERS.get(kind)
    return decoder.decode(body) if decoder is not None else None


def new_id() -> str:
    """An id as the identity service makes them."""
    return uuid4().hex
