"""The XML of a guest, from its spec.

Always holds: everything a user chose (names, ids) is escaped by the XML library, never pasted; the domain's
uuid is the server's; our mark is in its metadata. Pure: reads no file and asks no hypervisor.

Shape: q35, ACPI, virtio disk, network, RNG and balloon, config drive as a last, read-only virtio disk, the serial
console as a pty that is also written to a file, no graphics. A `user` NIC is QEMU's own NAT and needs nothing of
the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from kilonova.compute.virt.driver import Refused
from kilonova.compute.virt.mark import NAMESPACE
from kilonova.model.guest import GuestSpec, Nic

ET.register_namespace("kilonova", NAMESPACE)


@dataclass(frozen=True)
class Files:
    """What the guest's devices are backed by; None = no such device."""

    disk: Path
    console: Path
    config_drive: Path | None = None
    ephemeral: Path | None = None
    swap: Path | None = None


@dataclass(frozen=True)
class Mark:
    """Whose a domain is: matches when cloud and host do."""

    cloud: str
    host: str


def build(spec: GuestSpec, files: Files, mark: Mark, virt_type: str, arch: str = "x86_64") -> str:
    """Domain XML. `virt_type`: kvm or qemu (software emulation)."""
    domain = ET.Element("domain", type=virt_type)
    _text(domain, "name", spec.instance_name)
    _text(domain, "uuid", spec.uuid)
    _text(domain, "title", _one_line(spec.name))
    _mark(ET.SubElement(domain, "metadata"), spec, mark)
    _text(domain, "memory", str(spec.memory_mb), unit="MiB")
    _text(domain, "vcpu", str(spec.vcpus))
    os = ET.SubElement(domain, "os")
    _text(os, "type", "hvm", arch=arch, machine="virt" if arch == "aarch64" else "q35")
    ET.SubElement(os, "boot", dev="hd")
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    if arch == "x86_64":
        ET.SubElement(features, "apic")
    ET.SubElement(domain, "cpu", mode="host-passthrough" if virt_type == "kvm" else "maximum")
    _clock(domain, virt_type)
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy")):
        _text(domain, event, action)
    _devices(ET.SubElement(domain, "devices"), spec, files)
    return ET.tostring(domain, encoding="unicode")


def read_mark(metadata: str) -> Mark | None:
    """The mark in a domain's metadata element, as libvirt returns it; None if it is not ours."""
    try:
        element = ET.fromstring(metadata)  # noqa: S314 - libvirt's own serialisation
    except ET.ParseError:
        return None
    cloud, host = element.get("cloud"), element.get("host")
    return Mark(cloud, host) if cloud and host else None


def _mark(metadata: ET.Element, spec: GuestSpec, mark: Mark) -> None:
    instance = ET.SubElement(metadata, f"{{{NAMESPACE}}}instance", cloud=mark.cloud, host=mark.host)
    for name, value in (("name", spec.name), ("project", spec.project_id), ("user", spec.user_id)):
        ET.SubElement(instance, f"{{{NAMESPACE}}}{name}").text = _one_line(value)


def _clock(domain: ET.Element, virt_type: str) -> None:
    clock = ET.SubElement(domain, "clock", offset="utc")
    if virt_type == "kvm":
        ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
        ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")


def _devices(devices: ET.Element, spec: GuestSpec, files: Files) -> None:
    letters = iter("abcdefgh")
    for path, kind in ((files.disk, "qcow2"), (files.ephemeral, "qcow2"), (files.swap, "raw")):
        if path is not None:
            disk = ET.SubElement(devices, "disk", type="file", device="disk")
            ET.SubElement(disk, "driver", name="qemu", type=kind, cache="writeback")
            ET.SubElement(disk, "source", file=str(path))
            ET.SubElement(disk, "target", dev=f"vd{next(letters)}", bus="virtio")
    if files.config_drive is not None:
        # Not a CD: cloud kernels come without AHCI, and whoever boots from virtio can read virtio.
        disk = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="raw")
        ET.SubElement(disk, "source", file=str(files.config_drive))
        ET.SubElement(disk, "target", dev=f"vd{next(letters)}", bus="virtio")
        ET.SubElement(disk, "readonly")
    for nic in spec.nics:
        _nic(devices, nic)
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=str(files.console), append="on")
    ET.SubElement(serial, "target", port="0")
    ET.SubElement(devices, "controller", type="usb", model="none")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="none")
    rng = ET.SubElement(devices, "rng", model="virtio")
    ET.SubElement(rng, "backend", model="random").text = "/dev/urandom"
    balloon = ET.SubElement(devices, "memballoon", model="virtio")
    ET.SubElement(balloon, "stats", period="10")


def _nic(devices: ET.Element, nic: Nic) -> None:
    if nic.kind == "none":
        return
    if nic.kind != "user":
        raise Refused("unsupported", f"this driver can't plug a {nic.kind} interface")
    interface = ET.SubElement(devices, "interface", type="user")
    ET.SubElement(interface, "mac", address=nic.mac)
    ET.SubElement(interface, "model", type="virtio")
    # No network boot: the option ROM only slows the firmware down.
    ET.SubElement(interface, "rom", enabled="no")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _one_line(text: str) -> str:
    """What XML 1.0 and libvirt's one-line fields can hold."""
    return "".join(c if c.isprintable() else " " for c in text)
