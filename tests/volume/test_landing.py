"""The root of a cloud's port."""

from __future__ import annotations

import httpx2

from kilonova.http.app import HttpApp
from kilonova.http.landing import LandingFace, Service


async def test_landing() -> None:
    well = True

    async def check() -> bool:
        return well

    services = (Service("compute", "/compute"), Service("image", "/image"))
    app = HttpApp({"": LandingFace(services, checks={"database": check}, links=("/dashboard",))})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://cloud.test") as http:
        page = await http.get("/", headers={"accept": "text/html,application/json;q=0.9"})
        assert page.status_code == 200 and 'href="/compute"' in page.text and "/dashboard" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        listed = (await http.get("/", headers={"accept": "application/json"})).json()
        assert {"type": "image", "href": "http://cloud.test/image"} in listed["services"]
        assert (await http.get("/healthcheck")).text == "OK\n"
        well = False
        failing = await http.get("/healthcheck")
        assert failing.status_code == 503 and "database" in failing.text and "retry-after" in failing.headers
        figures = await http.get("/metrics")
        assert "process_cpu_seconds_total" in figures.text and figures.headers["content-type"].startswith("text/plain")
        assert (await http.get("/nowhere")).status_code == 404
        assert (await http.post("/")).status_code == 405
        assert (await http.head("/")).content == b""
