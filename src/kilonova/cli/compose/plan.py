"""From settings to a plan: which driver, which packages, which guest image, which address.

Everything slow that happens once per machine happens here, with progress on the terminal, before the cloud
starts; on later starts it is a handful of file look-ups.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.cli.compose.whole_plan import Plan
from kilonova.cli.errors import CliError
from kilonova.cli.progress import Phase
from kilonova.config.settings import Settings

if TYPE_CHECKING:
    from kilonova.guestimage import GuestImage


def prepare(folder: Path, settings: Settings, *, tls: bool) -> Plan:
    """See that the machine has what the driver needs, and decide. Raises CliError, MissingPackagesError."""
    own = settings.kilonova
    scheme = "https" if tls or own.tls_cert else "http"
    shown = _reachable(own.host)
    url = f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{own.port}"
    cert, key, authority = own.tls_cert, own.tls_key, None
    if tls and not cert:
        from kilonova.cli.compose.tls import ensure_certificate

        cert, key, authority = ensure_certificate(folder, shown)
    base = Plan(
        folder=folder, host=own.host, port=own.port, url=url, driver="sim", sim_hosts=own.sim_hosts,
        host_name=settings.default.host or socket.gethostname(), tls_cert=cert, tls_key=key, cacert=authority,
    )  # fmt: skip
    if own.driver == "sim":
        from msgspec.structs import replace

        return replace(base, verdict="sim", guest_image=_sim_image(folder), guest_image_format="raw")
    return _with_guests(base, settings)


def _reachable(host: str) -> str:
    """An address that clients on this machine can use."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _with_guests(base: Plan, settings: Settings) -> Plan:
    from msgspec.structs import replace

    from kilonova.cli import libvirt_binding, os_packages

    os_packages.ensure(os_packages.guests())
    libvirt_binding.ensure()
    image = _guest_image(base.folder)
    wanted = settings.libvirt.virt_type if settings.source("libvirt", "virt_type") != "default" else None
    virt_type, verdict = str(wanted), f"{wanted} (configured)"
    if wanted not in ("kvm", "qemu"):
        virt_type, why = _probe(base.folder, image)
        verdict = f"{'KVM' if virt_type == 'kvm' else 'software emulation'}: {why}"
    return replace(
        base, driver="libvirt", driver_options={"virt_type": virt_type}, verdict=verdict,
        guest_image=Path(image.path), guest_min_ram=image.min_ram,
    )  # fmt: skip


def _guest_image(folder: Path) -> GuestImage:
    from kilonova.guestimage import BuildError, build, current

    cache = folder / "guest-image"
    image = current(cache)
    if image is not None:
        return image
    try:
        with Phase("Building the guest image") as phase:
            return build(
                cache / "guest.qcow2", cache=cache,
                progress=lambda what, share: phase.step(int(share * 100), 100, what),
            )  # fmt: skip
    except BuildError as error:
        raise CliError(f"the guest image cannot be built: {error}") from None


def _probe(folder: Path, image: GuestImage) -> tuple[str, str]:
    """KVM only if a kernel is seen to run under it."""
    import asyncio

    from kilonova.compute.virt.libvirt import probe

    kept = probe.read(folder)
    if kept is not None and kept.tried:
        return kept.virt_type, kept.why
    with Phase("Looking whether KVM runs a kernel here"):
        verdict = asyncio.run(probe.decide(folder, disk=Path(image.path)))
    return verdict.virt_type, verdict.why


def _sim_image(folder: Path) -> Path:
    """The sim world boots anything: a small raw file stands for a disk."""
    path = folder / "guest-image" / "sim.raw"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            os.truncate(file.fileno(), 1 << 20)
        part.rename(path)
    return path
