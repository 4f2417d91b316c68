"""All identity data in memory, with the indexes that questions need.

Pure and synchronous: no database, no clock. Whoever holds a State may ask it anything between two awaits;
only `Directory` changes it. What hangs on something deleted is deleted with it (`dependents`), so no
record ever names another that is not there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar

from kilonova.identity.records import (
    SYSTEM,
    ApplicationCredential,
    Credential,
    Domain,
    Endpoint,
    Grant,
    Group,
    Implication,
    Limit,
    Membership,
    Project,
    Record,
    Region,
    RegisteredLimit,
    Revocation,
    Role,
    Service,
    User,
)

R = TypeVar("R", bound=Record)
_Grants = dict[str, dict[str, Grant]]


def _name_of(record: Record) -> tuple[str, str, str] | None:
    """(kind, realm, name): what is unique; None for records without a name."""
    match record:
        case Domain(name=name):
            return ("domain", "", name)
        case Project(name=name, domain_id=realm) | User(name=name, domain_id=realm) | Group(name=name, domain_id=realm):
            return (record.kind, realm, name)
        case Role(name=name, domain_id=domain):
            return ("role", domain or "", name.lower())
        case ApplicationCredential(name=name, user_id=realm):
            return ("appcred", realm, name)
    return None


class State:
    """Records by kind and key, and what follows from them."""

    def __init__(self) -> None:
        self.version = 0
        self._records: dict[str, dict[str, Record]] = defaultdict(dict)
        self._names: dict[tuple[str, str, str], str] = {}
        self._by_actor: _Grants = defaultdict(dict)
        self._by_target: _Grants = defaultdict(dict)
        self._groups_of: dict[str, set[str]] = defaultdict(set)
        self._members_of: dict[str, set[str]] = defaultdict(set)
        self._implied: dict[str, frozenset[str]] | None = None

    def __repr__(self) -> str:
        return f"State(version={self.version}, {sum(map(len, self._records.values()))} records)"

    # change

    def put(self, record: Record) -> None:
        """Add or replace a record."""
        self.drop(record.kind, record.key)
        self._records[record.kind][record.key] = record
        name = _name_of(record)
        if name is not None:
            self._names[name] = record.key
        match record:
            case Grant():
                self._by_actor[record.actor][record.key] = record
                self._by_target[record.target][record.key] = record
            case Membership():
                self._groups_of[record.user_id].add(record.group_id)
                self._members_of[record.group_id].add(record.user_id)
            case Implication() | Role():
                self._implied = None

    def drop(self, kind: str, key: str) -> None:
        """Take a record out; nothing happens when it is not there."""
        record = self._records[kind].pop(key, None)
        if record is None:
            return
        name = _name_of(record)
        if name is not None and self._names.get(name) == key:
            del self._names[name]
        match record:
            case Grant():
                del self._by_actor[record.actor][key]
                del self._by_target[record.target][key]
            case Membership():
                self._groups_of[record.user_id].discard(record.group_id)
                self._members_of[record.group_id].discard(record.user_id)
            case Implication() | Role():
                self._implied = None

    def forget_revocations(self, now: int) -> None:
        """Drop revocations that ended before `now`."""
        ended = [key for key, each in self.all(Revocation) if each.expires_at < now]
        for key in ended:
            self.drop("revocation", key)

    # look up

    def get(self, kind: type[R], key: str) -> R | None:
        """The record of that kind and key."""
        found = self._records[kind.kind].get(key)
        return found  # type: ignore[return-value]  # records are filed by their kind

    def all(self, kind: type[R]) -> Iterator[tuple[str, R]]:
        """(key, record) of a kind, in no order."""
        return iter(self._records[kind.kind].items())  # type: ignore[arg-type]  # filed by kind

    def values(self, kind: type[R]) -> list[R]:
        """The records of a kind, by key."""
        return [record for _, record in sorted(self.all(kind))]

    def named(self, kind: type[R], name: str, realm: str = "") -> R | None:
        """The record of that name; `realm` is a domain (a user, for application credentials)."""
        key = self._names.get((kind.kind, realm, name.lower() if kind is Role else name))
        return self.get(kind, key) if key is not None else None

    def candidates(self, kind: type[R], name: str | None) -> list[R]:
        """The records of a kind, by key; with a name only those of that name, found without looking at all."""
        if name is None:
            return self.values(kind)
        realms = ("", *self._records["domain"])
        return [found for realm in realms if (found := self.named(kind, name, realm)) is not None]

    def name_taken(self, record: Record) -> bool:
        """Whether another record has this one's name."""
        name = _name_of(record)
        return name is not None and self._names.get(name, record.key) != record.key

    def groups_of(self, user_id: str) -> frozenset[str]:
        return frozenset(self._groups_of.get(user_id, ()))

    def members_of(self, group_id: str) -> frozenset[str]:
        return frozenset(self._members_of.get(group_id, ()))

    def grants_of(self, actor: str) -> list[Grant]:
        """What a user or group was given itself."""
        return list(self._by_actor.get(actor, {}).values())

    def grants_on(self, target: str) -> list[Grant]:
        return list(self._by_target.get(target, {}).values())

    # roles

    def implied(self, role: str) -> frozenset[str]:
        """The role ids that `role` stands for: itself and all it implies."""
        if self._implied is None:
            self._implied = self._closures()
        return self._implied.get(role, frozenset())

    def _closures(self) -> dict[str, frozenset[str]]:
        direct: dict[str, set[str]] = defaultdict(set)
        for _, each in self.all(Implication):
            direct[each.prior].add(each.implied)
        closed = {}
        for role, _ in self.all(Role):
            seen, todo = {role}, [role]
            while todo:
                fresh = direct[todo.pop()] - seen
                seen |= fresh
                todo += fresh
            closed[role] = frozenset(seen)
        return closed

    def roles(self, user_id: str, target: str) -> frozenset[str]:
        """Ids of the roles a user has on a project, domain or `SYSTEM`: by groups and implication, too."""
        found: set[str] = set()
        for actor in (user_id, *self._groups_of.get(user_id, ())):
            for grant in self._by_actor.get(actor, {}).values():
                if grant.target == target:
                    found |= self.implied(grant.role)
        return frozenset(found)

    def targets(self, user_id: str, on: str) -> set[str]:
        """Ids of the projects or domains on which a user has any role."""
        actors = (user_id, *self._groups_of.get(user_id, ()))
        return {grant.target for actor in actors for grant in self.grants_of(actor) if grant.on == on}

    # deletion

    def children(self, project_id: str) -> list[Project]:
        return [each for each in self.values(Project) if each.parent_id == project_id]

    def dependents(self, record: Record) -> list[Record]:
        """What must go with a record: grants, memberships, credentials, ... (itself not included)."""
        match record:
            case Domain(id=id_):
                own = [each for kind in (Project, User, Group, Role) for each in self._where(kind, "domain_id", id_)]
                return [*self.grants_on(id_), *self._limits(id_), *own, *(d for o in own for d in self.dependents(o))]
            case Project(id=id_):
                return [
                    *self.grants_on(id_), *self._limits(id_),
                    *self._where(ApplicationCredential, "project_id", id_), *self._where(Credential, "project_id", id_),
                ]  # fmt: skip
            case User(id=id_):
                return [
                    *self.grants_of(id_), *self._where(Membership, "user_id", id_),
                    *self._where(ApplicationCredential, "user_id", id_), *self._where(Credential, "user_id", id_),
                ]  # fmt: skip
            case Group(id=id_):
                return [*self.grants_of(id_), *self._where(Membership, "group_id", id_)]
            case Role(id=id_):
                return [
                    *self._where(Grant, "role", id_), *self._where(Implication, "prior", id_),
                    *self._where(Implication, "implied", id_),
                    *(each for _, each in self.all(ApplicationCredential) if id_ in each.roles),
                ]  # fmt: skip
            case Service(id=id_):
                gone = [*self._where(Endpoint, "service_id", id_), *self._where(RegisteredLimit, "service_id", id_)]
                return [*gone, *self._where(Limit, "service_id", id_)]
        return []

    def _limits(self, owner: str) -> list[Limit]:
        return [each for _, each in self.all(Limit) if owner in (each.project_id, each.domain_id)]

    def _where(self, kind: type[Record], field: str, value: str) -> list[Record]:
        return [each for _, each in self.all(kind) if getattr(each, field) == value]

    def subregions(self, region_id: str) -> list[Region]:
        return [each for each in self.values(Region) if each.parent_region_id == region_id]


__all__ = ["SYSTEM", "State"]
