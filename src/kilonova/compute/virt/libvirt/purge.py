"""Undo all that a cloud made under libvirt, by the marks on the things themselves. Blocks."""

from __future__ import annotations

from pathlib import Path

from kilonova.compute.virt.driver import Transient
from kilonova.compute.virt.libvirt import daemon
from kilonova.compute.virt.libvirt.guests import mark_of, remove


def purge(directory: Path, cloud: str) -> list[str]:
    """Guests with the cloud's mark; one line a guest. Nothing if this DIR never used libvirt.

    Starts the daemon if it is dead: guests may be running under it, and nothing else could end them.
    Transient if that fails: then their files must stay.
    """
    used = directory / "libvirt" / "uri"
    if not used.exists():
        return []
    try:
        import libvirt
    except ImportError as error:
        raise Transient("hypervisor", "libvirt's Python binding is gone, but guests may still run") from error
    uri = used.read_text().strip()
    if uri == daemon.SYSTEM:
        daemon.ensure_daemon(directory)
    said = []
    try:
        conn = libvirt.open(uri)
        for domain in conn.listAllDomains():
            mark = mark_of(domain)
            if mark is not None and mark.cloud == cloud:
                name = domain.name()
                remove(domain)
                said.append(f"guest {name}")
        conn.close()
    except libvirt.libvirtError as error:
        raise Transient("hypervisor", f"libvirt: {error}") from error
    return said


def stop_daemons(directory: Path) -> list[str]:
    """End the daemons this DIR started and remove what they kept there."""
    home = directory / "libvirt"
    said = daemon.stop(directory)
    if any("kept" in line for line in said):
        return said
    made = ("uri", "virt-type.json", "no-kvm", "kvm", "qemu.conf", "libvirtd.conf", "virtlogd.conf", "libvirtd.log")
    for name in made:
        (home / name).unlink(missing_ok=True)
    for left in ("libvirtd.pid", "virtlogd.pid"):
        (home / left).unlink(missing_ok=True)
    if home.is_dir() and not any(home.iterdir()):
        home.rmdir()
    return said
