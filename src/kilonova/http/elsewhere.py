"""What stands where an API would be that another server answers: a line that says where it is.

Nothing is forwarded: clients find the service in the catalog, and whoever comes here followed an old address.
"""

from __future__ import annotations

from kilonova.http.errors import HttpError, NotImplementedHere
from kilonova.http.message import Request, Response, json_response


class ElsewhereFace:
    """``ElsewhereFace("Keystone", "http://host:5000")``: every path is a 501 with the address."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name.lower(), url

    async def handle(self, request: Request, path: str) -> Response:
        request.route = "/"
        raise NotImplementedHere(f"This cloud uses another server for it: {self.url or 'see the catalog'}")

    def fault(self, request: Request, error: HttpError) -> Response:
        body = {"error": {"code": error.status, "title": f"{self.name} is elsewhere", "message": error.message}}
        headers = dict(error.headers)
        if self.url:
            headers.setdefault("link", f'<{self.url}>; rel="alternate"')
        return json_response(body, error.status, headers)
