"""Worlds for driver tests; each is purged and gone at the end of its test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from virt_worlds import LibvirtHost, SimHost, UmlHost, World, place

from kilonova.compute.virt import registry
from kilonova.compute.virt.libvirt import daemon


@pytest.fixture(scope="module")
def libvirt_daemon() -> Iterator[str]:
    """A daemon for all tests of a module, so that not each has to start its own."""
    with place() as directory:
        try:
            yield daemon.ensure_daemon(directory)
        finally:
            daemon.stop(directory)


@pytest.fixture(
    params=[
        "sim",
        pytest.param("libvirt", marks=pytest.mark.libvirt),
        pytest.param("uml", marks=pytest.mark.uml),
    ]
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    needs = {"sim": "true", "libvirt": "virsh", "uml": "linux.uml"}[request.param]
    if shutil.which(needs) is None:
        pytest.skip(f"{needs} is not installed")
    if request.param == "libvirt":
        request.getfixturevalue("libvirt_daemon")
    with place() as directory:
        made = {"sim": SimHost, "libvirt": LibvirtHost, "uml": UmlHost}[request.param](directory)
        try:
            yield made
        finally:
            try:
                made.uproot()
            finally:
                registry.purge(directory)
