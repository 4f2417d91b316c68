"""What a libvirt host can give: totals from libvirt and from the file system DIR is on. Blocks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from kilonova.model.guest import HostFacts

_TRAITS = (
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_IMAGE_TYPE_ISO",
    "COMPUTE_NET_VIF_MODEL_VIRTIO",
    "COMPUTE_STORAGE_BUS_VIRTIO",
    "COMPUTE_STORAGE_BUS_SATA",
    "COMPUTE_GRAPHICS_MODEL_NONE",
)
_GIB = 1 << 30


def read(conn: Any, hostname: str, directory: Path, virt_type: str) -> HostFacts:
    arch, memory_mb, cpus, *_ = conn.getInfo()
    space = shutil.disk_usage(directory)
    kinds = ("kvm", "qemu") if virt_type == "kvm" else ("qemu",)
    return HostFacts(
        hostname=hostname,
        hypervisor_type="KVM" if virt_type == "kvm" else "QEMU",
        hypervisor_version=conn.getVersion(),
        vcpus=cpus,
        memory_mb=memory_mb,
        local_gb=space.total // _GIB,
        arch=arch,
        cpu_info=json.dumps(_cpu(conn.getCapabilities(), arch)),
        supported_instances=tuple((arch, kind, "hvm") for kind in kinds),
        traits=_TRAITS,
        free_disk_gb=space.free // _GIB,
    )


def _cpu(capabilities: str, arch: str) -> dict[str, Any]:
    cpu = ET.fromstring(capabilities).find("host/cpu")  # noqa: S314 - from libvirt itself
    if cpu is None:
        return {"arch": arch}
    topology = cpu.find("topology")
    counts = {k: int(v) for k, v in topology.attrib.items() if v.isdigit()} if topology is not None else {}
    return {
        "arch": arch,
        "vendor": cpu.findtext("vendor", ""),
        "model": cpu.findtext("model", ""),
        "topology": counts,
        "features": sorted(f.get("name", "") for f in cpu.findall("feature")),
    }
