"""The real services, one of each for the session; tests that stop one start it again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from real_services import Glance, Keystone


@pytest.fixture(scope="session")
def keystone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystone]:
    """A Keystone with users nova and glance (on service) and demo (on demo)."""
    found = Keystone(tmp_path_factory.mktemp("keystone"))
    try:
        found.prepare()
        found.start()
        for name in ("nova", "glance"):
            found.user(name, "service", "admin", "service")
        found.user("demo", "demo", "member")
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def glance(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Glance]:
    """A Glance in that Keystone's catalog."""
    found = Glance(tmp_path_factory.mktemp("glance"), keystone.url, "glance", keystone.password)
    try:
        found.prepare()
        found.start()
        keystone.endpoint("image", "glance", found.url)
        yield found
    finally:
        found.stop()
