"""Worlds for driver tests; each is purged and gone at the end of its test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from virt_worlds import LibvirtHost, SimHost, World, place

from kilonova.compute.virt import registry


@pytest.fixture(
    params=[
        "sim",
        pytest.param("libvirt", marks=pytest.mark.libvirt),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    needs = {"sim": "true", "libvirt": "virsh"}[request.param]
    if shutil.which(needs) is None:
        pytest.skip(f"{needs} is not installed")
    with place() as directory:
        made = {"sim": SimHost, "libvirt": LibvirtHost}[request.param](directory)
        try:
            yield made
        finally:
            registry.purge(directory)
