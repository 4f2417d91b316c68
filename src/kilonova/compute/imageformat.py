"""What an image file is, by its content, and whether it may be used.

An image is whatever a tenant uploaded. Always holds: a file accepted here names no other file (no backing
file, external data file or foreign extent), so nothing of the host can be read through it; its headers say
nothing our tools don't know; its virtual size is sane. Reads headers only; runs no program; pure but for
reading the open file.

Sources: QEMU's docs/interop/qcow2.txt; VMware's Virtual Disk Format 5.0.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

from msgspec import Struct

from kilonova.compute.virt.driver import Refused

SECTOR = 512
MAX_VIRTUAL = 64 << 40
"""64 TiB; no flavor has a larger disk."""

_QCOW2_MAGIC = b"QFI\xfb"
_KNOWN_INCOMPATIBLE = 0x1B  # dirty, corrupt, compression type, extended L2; not external data (bit 2)
_EXTERNAL_DATA = 0x4
_MAGICS = (
    (0, b"KDMV", "vmdk"),
    (0, b"# Disk DescriptorFile", "vmdk"),
    (0, b"conectix", "vpc"),
    (0, b"vhdxfile", "vhdx"),
    (0, b"QED\0", "qed"),
    (0, b"LUKS\xba\xbe", "luks"),
    (0x40, b"\x7f\x10\xda\xbe", "vdi"),
    (0x8001, b"CD001", "iso"),
)
_EXTENT = re.compile(rb"^\s*(RW|RDONLY|NOACCESS)\s+(\d+)\s+(\w+)(?:\s+\"([^\"]*)\")?", re.M)


class ImageFacts(Struct, frozen=True, kw_only=True):
    format: str
    """`qcow2`, `raw` or `vmdk`."""
    virtual_size: int
    """Bytes."""


def inspect(file: BinaryIO, size: int) -> ImageFacts:
    """The facts of a usable image. Refused `image_invalid` for any other; `size` = bytes of the file."""
    head = _read(file, 0, 64 * 1024)
    kind = _kind(head)
    match kind:
        case "qcow2":
            virtual = _qcow2(file, head, size)
        case "vmdk":
            virtual = _vmdk(file, head, size)
        case "raw" | "iso":
            kind, virtual = "raw", size
        case _:
            raise _bad(f"images of format {kind} can't be used here: convert it to qcow2 or raw")
    if not 0 < virtual <= MAX_VIRTUAL:
        raise _bad(f"a virtual size of {virtual} bytes")
    return ImageFacts(format=kind, virtual_size=virtual)


def _kind(head: bytes) -> str:
    if head.startswith(_QCOW2_MAGIC):
        return "qcow2"
    for offset, magic, kind in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return kind
    return "raw"


def _qcow2(file: BinaryIO, head: bytes, size: int) -> int:
    if len(head) < 104:
        raise _bad("a qcow2 without a whole header")
    version, backing, backing_len, cluster_bits, virtual = struct.unpack_from(">IQIIQ", head, 4)
    if version not in (2, 3):
        raise _bad(f"qcow2 version {version}")
    if backing or backing_len:
        raise _bad("a qcow2 with a backing file")
    if not 9 <= cluster_bits <= 21:
        raise _bad(f"qcow2 clusters of 2^{cluster_bits} bytes")
    crypt = struct.unpack_from(">I", head, 32)[0]
    if crypt:
        raise _bad("an encrypted qcow2")
    length = 72
    if version == 3:
        incompatible, _, _, _, length = struct.unpack_from(">QQQII", head, 72)
        if incompatible & _EXTERNAL_DATA:
            raise _bad("a qcow2 with an external data file")
        if incompatible & ~_KNOWN_INCOMPATIBLE:
            raise _bad(f"a qcow2 with unknown features {incompatible:#x}")
        if incompatible & 0x2:
            raise _bad("a qcow2 marked as corrupt")
        if length < 104 or length > (1 << cluster_bits):
            raise _bad(f"a qcow2 header of {length} bytes")
    _qcow2_extensions(_read(file, length, min(1 << cluster_bits, 1 << 16)))
    l1_entries, l1_offset = struct.unpack_from(">IQ", head, 36)
    if l1_entries * 8 > 32 << 20 or l1_offset > size:
        raise _bad("a qcow2 whose tables lie outside of it")
    return int(virtual)


def _qcow2_extensions(area: bytes) -> None:
    """Extensions can name files too, whatever the feature bits say."""
    offset = 0
    while offset + 8 <= len(area):
        kind, length = struct.unpack_from(">II", area, offset)
        if kind == 0:
            return
        if kind == 0xE2792ACA:
            raise _bad("a qcow2 that names a backing format")
        if kind == 0x44415441:
            raise _bad("a qcow2 that names an external data file")
        offset += 8 + (length + 7) // 8 * 8


def _vmdk(file: BinaryIO, head: bytes, size: int) -> int:
    if not head.startswith(b"KDMV"):
        raise _bad("a vmdk that is a description of other files")
    if len(head) < SECTOR:
        raise _bad("a vmdk without a whole header")
    version, _, capacity, _, at, length = struct.unpack_from("<IIQQQQ", head, 4)
    if version not in (1, 2, 3) or not 0 < at * SECTOR < size or not 0 < length <= 64:
        raise _bad("a vmdk without a usable description")
    text = _read(file, at * SECTOR, length * SECTOR).split(b"\0", 1)[0]
    create_type = re.search(rb'^\s*createType\s*=\s*"(\w+)"', text, re.M | re.I)
    if not create_type or create_type[1] not in (b"monolithicSparse", b"streamOptimized"):
        raise _bad("a vmdk that is not one sparse file")
    parent = re.search(rb"^\s*parentCID\s*=\s*(\w+)", text, re.M | re.I)
    if (parent and parent[1].lower() != b"ffffffff") or re.search(rb"parentFileNameHint", text, re.I):
        raise _bad("a vmdk with a parent")
    extents = _EXTENT.findall(text)
    if len(extents) != 1 or extents[0][2] != b"SPARSE" or b"/" in extents[0][3] or b".." in extents[0][3]:
        raise _bad("a vmdk whose data is elsewhere")
    return int(capacity) * SECTOR


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _bad(what: str) -> Refused:
    return Refused("image_invalid", f"the image is {what}" if what.startswith(("a ", "an ")) else what)
