"""What stands at the root of a cloud's port: a page for people, a list for programs, health and figures.

``GET /`` is a small page, or JSON for those who ask for it; ``/healthcheck`` answers 200 while every check passes,
else 503; ``/metrics`` is Prometheus' text format. It shows nothing that a caller without a token may not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from html import escape
from http import HTTPStatus

from msgspec import Struct

from kilonova import __version__, metrics
from kilonova.http.errors import HttpError, MethodNotAllowed, NotFound
from kilonova.http.message import Request, Response, json_response

Check = Callable[[], Awaitable[bool]]
"""Whether a part works; it must answer quickly and not raise."""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>kilonova</title>
<meta name="viewport" content="width=device-width">
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:3em auto;padding:0 1em;color:#222}}
h1{{font-weight:600}}td{{padding:.1em 1.5em .1em 0}}code{{background:#f2f2f2;padding:.1em .3em}}</style></head>
<body><h1>kilonova</h1><p>An OpenStack compute cloud, version {version}.</p>
<table>{rows}</table>
<p>Use it with any OpenStack client: <code>./kilonova openstack server list</code>.</p>
</body></html>
"""


class Service(Struct, frozen=True):
    """One API on this port."""

    type: str
    """OpenStack's service type: ``compute``, ``identity``, ..."""
    path: str
    """Where its version documents are, below the root: ``/compute``."""


class LandingFace:
    """``LandingFace([Service("compute", "/compute"), ...])``, mounted at ``""``."""

    name = "landing"

    def __init__(
        self, services: tuple[Service, ...], *, checks: Mapping[str, Check] | None = None, links: tuple[str, ...] = ()
    ) -> None:
        """`checks`: parts by name for /healthcheck; `links`: more paths to show, ``/dashboard``."""
        self._services, self._links = services, links
        self._checks = dict(checks or {})

    async def handle(self, request: Request, path: str) -> Response:
        where = path.rstrip("/") or "/"
        answer = {"/": self._root, "/healthcheck": self._health, "/metrics": self._metrics}.get(where)
        if answer is None:
            raise NotFound("The resource could not be found.")
        request.route = where
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{request.method} is not supported here.", headers={"allow": "GET, HEAD"})
        return await answer(request)

    def fault(self, request: Request, error: HttpError) -> Response:
        body = {"error": {"code": error.status, "title": HTTPStatus(error.status).phrase, "message": error.message}}
        return json_response(body, error.status, dict(error.headers))

    async def _root(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if "json" in accept and "html" not in accept:
            listed = [{"type": each.type, "href": f"{request.host_url}{each.path}"} for each in self._services]
            return json_response({"name": "kilonova", "version": __version__, "services": listed})
        shown = [(each.type, each.path) for each in self._services]
        shown += [(link.strip("/"), link) for link in (*self._links, "/healthcheck", "/metrics")]
        rows = "".join(
            f'<tr><td>{escape(name)}</td><td><a href="{escape(path)}">{escape(path)}</a></td></tr>'
            for name, path in shown
        )
        page = _PAGE.format(version=escape(__version__), rows=rows)
        headers = {
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "x-frame-options": "DENY",
            "x-content-type-options": "nosniff",
        }  # fmt: skip
        return Response(200, page.encode(), headers, media="text/html; charset=utf-8")

    async def _health(self, request: Request) -> Response:
        found = {name: await check() for name, check in self._checks.items()}
        well = all(found.values())
        headers = {} if well else {"retry-after": "2"}
        if "json" in request.headers.get("accept", ""):
            body = {"status": "OK" if well else "FAILING", "checks": found}
            return json_response(body, 200 if well else 503, headers)
        failing = ", ".join(sorted(name for name, ok in found.items() if not ok))
        text = "OK\n" if well else f"FAILING: {failing}\n"
        return Response(200 if well else 503, text.encode(), headers, media="text/plain; charset=utf-8")

    async def _metrics(self, request: Request) -> Response:
        return Response(200, metrics.render(), media=metrics.CONTENT_TYPE)
