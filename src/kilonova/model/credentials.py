"""Who a request speaks for.

One frozen value made by authentication from a token and read by policy, quota and the services. It is
complete: whoever holds it asks nobody else about roles. Roles are already widened by Keystone's
implication chain, so a policy rule that names ``reader`` is met by an admin.

It must not know tokens' wire formats, HTTP headers or the identity database.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

# Keystone's default implied roles (prior role -> implied role), closed under itself.
IMPLIED_ROLES: dict[str, tuple[str, ...]] = {
    "admin": ("manager", "member", "reader"),
    "manager": ("member", "reader"),
    "member": ("reader",),
}


def with_implied(roles: Iterable[str]) -> frozenset[str]:
    """Return ``roles`` in lower case with the default implied roles added.

    Role names compare without case in Keystone and in policy files, so they are kept lower-case.
    """
    names = {role.lower() for role in roles}
    for role in tuple(names):
        names.update(IMPLIED_ROLES.get(role, ()))
    return frozenset(names)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """The identity and scope of one caller.

    At most one of ``project_id``, ``domain_id`` and ``system_scope`` is set; none is an unscoped token.
    ``expires_at`` is microseconds UTC, 0 meaning never (callers inside the process).
    ``roles`` are lower case and include the implied ones: build with :meth:`make` unless they already do.
    """

    user_id: str
    user_domain_id: str = "default"
    user_name: str | None = None
    project_id: str | None = None
    project_domain_id: str | None = None
    project_name: str | None = None
    domain_id: str | None = None
    system_scope: str | None = None
    roles: frozenset[str] = frozenset()
    service_roles: frozenset[str] = frozenset()
    service_user_id: str | None = None
    service_project_id: str | None = None
    token_id: str | None = None  # a digest naming the token; never the bearer token itself
    audit_id: str | None = None
    expires_at: int = 0
    method: str = "token"  # password, token, application_credential, internal, ...
    is_admin_project: bool = True

    @classmethod
    def make(
        cls, user_id: str, roles: Iterable[str], *, service_roles: Iterable[str] = (), **facts: object
    ) -> Credentials:
        """Build from role names as Keystone lists them, adding the implied ones.

        ``facts`` are the other fields by name; an unknown one is a TypeError.
        """
        return cls(
            user_id=user_id,
            roles=with_implied(roles),
            service_roles=with_implied(service_roles),
            **facts,  # type: ignore[arg-type]  # field types are checked where facts are literal
        )

    @property
    def is_admin(self) -> bool:
        """True for Nova's ``context_is_admin``: the admin role, whatever the scope."""
        return "admin" in self.roles

    @property
    def scope(self) -> str:
        """``project``, ``domain``, ``system`` or ``unscoped``."""
        if self.project_id is not None:
            return "project"
        if self.system_scope is not None:
            return "system"
        return "domain" if self.domain_id is not None else "unscoped"

    def expired(self, now: int) -> bool:
        """Tell whether the token had ended at ``now`` (microseconds UTC)."""
        return 0 < self.expires_at <= now

    def __repr__(self) -> str:
        roles = ",".join(sorted(self.roles))
        return f"Credentials(user={self.user_id} {self.scope}={self.project_id or '-'} roles={roles})"
