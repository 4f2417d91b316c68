"""Which kernel modules a guest gets, their dependencies, and the index files that modprobe reads.

Works from the modules' own ``.modinfo``, so neither kmod nor a running kernel of that version is needed.
A wanted module that the kernel has built in, or was configured without, is left out without a word: the
distributions differ in both. It must not know which file system the result goes to.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kilonova.guestimage import elf
from kilonova.guestimage.toolbox import Toolbox
from kilonova.guestimage.tree import Tree

BOOT_MODULES = [
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "ata_piix",
    "ahci",
    "nvme",
    "ext4",
    "crc32c_generic",
    "crc32c_intel",
]
"""What it takes to reach the root file system on any disk bus of a virtual machine."""

GUEST_MODULES = [
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtio_input",
    "virtiofs",
    "e1000",
    "e1000e",
    "8139cp",
    "af_packet",
    "sr_mod",
    "ata_generic",
    "sg",
    "isofs",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "evdev",
    "button",
    "i6300esb",
    "qemu_fw_cfg",
    "loop",
    "overlay",
    "fuse",
    "8021q",
    "xhci_pci",
    "ehci_pci",
    "uhci_hcd",
    "usb_storage",
    "uas",
    "usbhid",
    "hid_generic",
]
"""What a running guest may meet besides: network, CD-ROM, config drives, buttons, hot-plugged buses."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module: normalised name, path below the version's folder (without compression suffix), content."""

    name: str
    path: str
    image: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


class ModuleStore:
    """The modules of one kernel version, read on demand."""

    def __init__(self, folder: Path, toolbox: Toolbox) -> None:
        self._folder = folder
        self._toolbox = toolbox
        self._paths = {_name(path): path for path in sorted(folder.rglob("*.ko*"))}
        self._read: dict[str, Module] = {}

    def closure(self, wanted: Iterable[str]) -> list[Module]:
        """Return the wanted modules that exist and all they depend on, by name."""
        todo, chosen = [_normal(name) for name in wanted], dict[str, Module]()
        while todo:
            name = todo.pop()
            if name in self._paths and name not in chosen:
                chosen[name] = module = self._module(name)
                todo.extend(module.depends)
        return [chosen[name] for name in sorted(chosen)]

    def _module(self, name: str) -> Module:
        if name not in self._read:
            path = self._paths[name]
            image = self._content(path)
            facts = elf.modinfo(image)
            inside = path.relative_to(self._folder).as_posix()
            self._read[name] = Module(
                name=name,
                path=inside[: inside.rindex(".ko") + 3],
                image=image,
                depends=tuple(_normal(one) for one in facts.get("depends", [""])[0].split(",") if one),
                aliases=tuple(facts.get("alias", [])),
            )
        return self._read[name]

    def _content(self, path: Path) -> bytes:
        match path.suffix:
            case ".xz":
                return lzma.decompress(path.read_bytes())
            case ".zst":
                return self._toolbox.run("zstd", "-d", "-c", str(path))
            case _:
                return path.read_bytes()


def install(tree: Tree, release: str, modules: Iterable[Module]) -> None:
    """Put modules and the indexes ``modules.dep`` and ``modules.alias`` under ``usr/lib/modules/<release>``."""
    base = f"usr/lib/modules/{release}"
    chosen = {module.name: module for module in modules}
    dep: list[str] = []
    alias: list[str] = []
    for module in chosen.values():
        tree.file(f"{base}/{module.path}", module.image)
        below = [chosen[name].path for name in _below(module, chosen)]
        dep.append(f"{module.path}: {' '.join(below)}".rstrip() + "\n")
        alias.extend(f"alias {pattern} {module.name}\n" for pattern in module.aliases)
    tree.file(f"{base}/modules.dep", "".join(dep).encode())
    tree.file(f"{base}/modules.alias", "".join(alias).encode())


def _below(module: Module, chosen: dict[str, Module]) -> list[str]:
    """Everything the module needs, nearest first, as modprobe wants it (it loads from the last to the first)."""
    order: list[str] = []
    for name in module.depends:
        if name in chosen:
            for one in (name, *_below(chosen[name], chosen)):
                if one in order:
                    order.remove(one)
                order.append(one)
    return order


def _normal(name: str) -> str:
    return name.replace("-", "_")


def _name(path: Path) -> str:
    return _normal(path.name[: path.name.index(".ko")])
