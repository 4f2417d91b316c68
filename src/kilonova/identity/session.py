"""Our own account at a real Keystone: a token that is renewed in time, and the catalog that came with it.

One log-in at a time, however many ask. The HTTP library is imported when the first request is made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from kilonova.config.sections_neighbours import Session as Account
from kilonova.identity.timestamps import parsed
from kilonova.log import get_logger

if TYPE_CHECKING:
    import aiohttp

log = get_logger(__name__)
_EARLY_US = 120 * 1_000_000
"""Renewed this long before its end: work that takes it along must not outlive it."""
_TIMEOUT_S = 10.0
_PAUSE_S = 2.0
_BODY = 4 << 20


class KeystoneUnavailable(Exception):
    """Keystone is away, overloaded or broken: try again."""


class KeystoneRefused(Exception):
    """Keystone does not accept our own account: a matter of configuration."""


class Answer(msgspec.Struct):
    """What Keystone said."""

    status: int
    headers: dict[str, str]
    body: Any
    """Decoded JSON, None when there is none."""


class KeystoneSession:
    """``KeystoneSession(settings.keystone_authtoken)``; close it at the end."""

    def __init__(self, account: Account, *, pause_s: float = _PAUSE_S) -> None:
        """`pause_s`: how long a failed log-in is not repeated. Raises ValueError without an `auth_url`."""
        url = account.auth_url or account.endpoint_override
        if not url:
            raise ValueError("a real Keystone needs auth_url")
        url = url.rstrip("/")
        self.url = url if url.endswith("/v3") else f"{url}/v3"
        self.account = account
        self._pause_s = pause_s
        self._http: aiohttp.ClientSession | None = None
        self._lock = asyncio.Lock()
        self._token = ""
        self._ends_us = 0
        self._catalog: list[dict[str, Any]] = []
        self._project = ""
        self._failed: tuple[float, Exception] | None = None

    def __repr__(self) -> str:
        return f"KeystoneSession({self.url!r}, {self.account.username or self.account.user_id!r})"

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def service_token(self) -> str:
        """A token of our own account, good for two minutes at least. Raises KeystoneUnavailable, KeystoneRefused."""
        if time.time_ns() // 1000 < self._ends_us - _EARLY_US:
            return self._token
        async with self._lock:
            if time.time_ns() // 1000 >= self._ends_us - _EARLY_US:
                await self._log_in()
            return self._token

    def forget(self, token: str) -> None:
        """`token` was refused somewhere: the next caller gets a new one."""
        if token == self._token:
            self._ends_us = 0

    async def project_id(self) -> str:
        """The project of our account, "" without one. Raises KeystoneUnavailable, KeystoneRefused."""
        await self.service_token()
        return self._project

    async def endpoint(self, service_type: str, options: Account | None = None) -> str:
        """The URL of a service in the catalog, by region and interfaces of `options` (default: the account's).

        Raises LookupError, KeystoneUnavailable, KeystoneRefused.
        """
        await self.service_token()
        options = options or self.account
        wanted = options.region_name
        for interface in options.valid_interfaces:
            for service in self._catalog:
                for each in service.get("endpoints", ()) if service.get("type") == service_type else ():
                    region = each.get("region_id") or each.get("region")
                    if each.get("interface") == interface.removesuffix("URL") and wanted in (None, region):
                        return str(each["url"]).rstrip("/")
        raise LookupError(f"no {service_type} endpoint in the catalog of {self.url}")

    async def ask(self, method: str, path: str, headers: Mapping[str, str], body: Any = None) -> Answer:
        """One request below ``/v3``. Raises KeystoneUnavailable; 5xx counts as away."""
        import aiohttp

        if self._http is None:
            self._http = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self.account.timeout or _TIMEOUT_S),
                connector=aiohttp.TCPConnector(limit=32, ssl=tls(self.account, self.url), force_close=False),
            )
        data = msgspec.json.encode(body) if body is not None else None
        sent = {"accept": "application/json", **({"content-type": "application/json"} if data else {}), **headers}
        try:
            request = self._http.request(method, self.url + path, data=data, headers=sent, allow_redirects=False)
            async with request as got:
                raw = b""
                async for piece in got.content.iter_any():
                    raw += piece
                    if len(raw) > _BODY:
                        raise KeystoneUnavailable(f"{self.url} answers without end")
                status, found = got.status, {key.lower(): value for key, value in got.headers.items()}
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise KeystoneUnavailable(f"{self.url}: {type(error).__name__}: {error}") from error
        if status >= 500 or status == 429:
            raise KeystoneUnavailable(f"{self.url} answers {status}")
        try:
            decoded = msgspec.json.decode(raw) if raw else None
        except msgspec.DecodeError:
            decoded = None
        return Answer(status, found, decoded)

    async def _log_in(self) -> None:
        if self._failed is not None and time.monotonic() - self._failed[0] < self._pause_s:
            raise type(self._failed[1])(*self._failed[1].args)
        try:
            answer = await self.ask("POST", "/auth/tokens", {}, {"auth": _auth(self.account)})
            token = answer.headers.get("x-subject-token", "")
            if answer.status in (400, 401, 403, 404) or not token:
                raise KeystoneRefused(f"{self.url} answers {answer.status} to {self.account.username or 'our account'}")
            found = answer.body["token"]
            ends = parsed(found["expires_at"])
            catalog = found.get("catalog") or []
            self._project = str((found.get("project") or {}).get("id", ""))
        except (TypeError, KeyError) as error:
            self._failed = (time.monotonic(), KeystoneUnavailable(f"{self.url} answers no token document"))
            raise self._failed[1] from error
        except (KeystoneRefused, KeystoneUnavailable) as error:
            self._failed = (time.monotonic(), error)
            log.warning("no token of our own: %s", error)
            raise
        self._failed = None
        self._token, self._ends_us, self._catalog = token, ends or 0, catalog


def tls(account: Account, url: str) -> Any:
    """What aiohttp shall check of a server: an SSLContext of the account's options, or True for the usual."""
    if not url.startswith("https:") or not (account.cafile or account.insecure or account.certfile):
        return True
    import ssl

    context = ssl.create_default_context(cafile=account.cafile)
    if account.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if account.certfile:
        context.load_cert_chain(account.certfile, account.keyfile)
    return context


def _auth(account: Account) -> dict[str, Any]:
    """The log-in request of an account as nova.conf spells it."""
    if account.auth_type == "v3applicationcredential":
        proof: dict[str, Any] = {
            "id": account.application_credential_id, "secret": account.application_credential_secret.reveal()
        }  # fmt: skip
        return {"identity": {"methods": ["application_credential"], "application_credential": proof}}
    user: dict[str, Any] = {"password": account.password.reveal()}
    if account.user_id:
        user["id"] = account.user_id
    else:
        user |= {"name": account.username, "domain": _domain(account.user_domain_id, account.user_domain_name)}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
    if account.system_scope:
        auth["scope"] = {"system": {"all": True}}
    elif account.project_id:
        auth["scope"] = {"project": {"id": account.project_id}}
    elif account.project_name:
        domain = _domain(account.project_domain_id, account.project_domain_name)
        auth["scope"] = {"project": {"name": account.project_name, "domain": domain}}
    return auth


def _domain(id_: str | None, name: str | None) -> dict[str, str]:
    return {"name": name} if name and not id_ else {"id": id_ or "default"}
