"""Config drives for the tests: ISO 9660 with Rock Ridge and Joliet, as Nova makes them."""

from __future__ import annotations

import io
from pathlib import Path

import pycdlib


def write_iso(path: Path, files: dict[str, bytes]) -> None:
    """Write a config drive with these files in openstack/latest."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="config-2")
    for iso_path, name, joliet in (
        ("/OPENSTACK", "openstack", "/openstack"),
        ("/OPENSTACK/LATEST", "latest", "/openstack/latest"),
    ):
        iso.add_directory(iso_path, rr_name=name, joliet_path=joliet)
    for name, data in files.items():
        iso_name = name.upper().replace(".", "_")
        iso.add_fp(
            io.BytesIO(data),
            len(data),
            f"/OPENSTACK/LATEST/{iso_name}.;1",
            rr_name=name,
            joliet_path=f"/openstack/latest/{name}",
        )
    iso.write(str(path))
    iso.close()
