"""Sections of the services around Nova: keystoneauth's options, shared by all, and each one's own.

A neighbour with an ``endpoint_override`` (or, for images, ``api_servers``) or an ``auth_url`` is a real
one; with neither, the embedded companion takes its place.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from kilonova.config.secret import Secret
from kilonova.config.types import Count, Names


class Session(Struct, frozen=True, kw_only=True):
    """Options that keystoneauth gives every neighbour: account, TLS and how the endpoint is found."""

    auth_url: str | None = None
    auth_type: Literal["password", "v3password", "token", "v3token", "v3applicationcredential", "none"] = "password"
    username: str | None = None
    user_id: str | None = None
    password: Secret = Secret()
    user_domain_name: str | None = None
    user_domain_id: str | None = None
    project_name: str | None = None
    project_id: str | None = None
    project_domain_name: str | None = None
    project_domain_id: str | None = None
    system_scope: str | None = None
    application_credential_id: str | None = None
    application_credential_secret: Secret = Secret()
    region_name: str | None = None
    endpoint_override: str | None = None
    valid_interfaces: Names = ("internal", "public")
    service_type: str | None = None
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    insecure: bool = False
    timeout: float | None = None
    connect_retries: Count | None = None

    @property
    def external(self) -> bool:
        """True if a real service is configured here."""
        return bool(self.endpoint_override or self.auth_url)


class KeystoneAuthtoken(Session, frozen=True, kw_only=True):
    """[keystone_authtoken]: who checks callers' tokens."""

    www_authenticate_uri: str | None = None
    service_token_roles: Names = ("service",)
    service_token_roles_required: bool = False
    interface: str = "internal"


class ServiceUser(Session, frozen=True, kw_only=True):
    """[service_user]: the account for work after a request has ended."""

    send_service_user_token: bool = False


class Keystone(Session, frozen=True, kw_only=True):
    """[keystone]: the identity service as asked about projects and users."""


class Glance(Session, frozen=True, kw_only=True):
    """[glance]: images."""

    api_servers: Names = ()
    num_retries: Count = 3

    @property
    def external(self) -> bool:
        return bool(self.api_servers or self.endpoint_override or self.auth_url)


class Neutron(Session, frozen=True, kw_only=True):
    """[neutron]: networks."""

    http_retries: Count = 3
    service_metadata_proxy: bool = False
    metadata_proxy_shared_secret: Secret = Secret()
    default_floating_pool: str = "nova"
    ovs_bridge: str = "br-int"


class Cinder(Session, frozen=True, kw_only=True):
    """[cinder]: volumes."""

    catalog_info: str = "volumev3::publicURL"
    endpoint_template: str | None = None
    os_region_name: str | None = None
    http_retries: Count = 3
    cross_az_attach: bool = True

    @property
    def external(self) -> bool:
        return bool(self.endpoint_template or self.endpoint_override or self.auth_url)


class Placement(Session, frozen=True, kw_only=True):
    """[placement]: inventories and claims."""
