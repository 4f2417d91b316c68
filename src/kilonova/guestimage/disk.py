"""The whole disk: an MBR with boot code, the boot partition and the root partition, as qcow2.

Sizes and offsets are in sectors of 512 bytes. The root partition is the last, so that a guest can grow it to
the disk it finds itself on. It must not know what is in the partitions.

Source: the classical MBR layout; partition types 0x0E (FAT16 by LBA) and 0x83 (Linux).
"""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.filesystems import SECTOR
from kilonova.guestimage.toolbox import run

ALIGNMENT = 2048
"""Partitions begin at whole MiB."""

_CODE_SIZE = 440
_CHS_UNUSED = b"\xfe\xff\xff"


def master_boot_record(code: bytes, signature: int, partitions: list[tuple[int, int, int]]) -> bytes:
    """Return the first sector: boot code, disk signature, and (type, start, sectors) entries, first one active."""
    if len(code) > _CODE_SIZE:
        raise BuildError(f"the boot code has {len(code)} bytes, more than {_CODE_SIZE}")
    table = b"".join(
        struct.pack("<B3sB3sII", 0x80 if index == 0 else 0, _CHS_UNUSED, kind, _CHS_UNUSED, start, sectors)
        for index, (kind, start, sectors) in enumerate(partitions)
    )
    return code.ljust(_CODE_SIZE, b"\0") + struct.pack("<IH", signature, 0) + table.ljust(64, b"\0") + b"\x55\xaa"


def assemble(raw: Path, *, code: bytes, signature: int, boot: Path, root: Path) -> None:
    """Write the raw disk (sparse) from the boot code and the two partitions' files."""
    boot_sectors = boot.stat().st_size // SECTOR
    root_start = -(-(ALIGNMENT + boot_sectors) // ALIGNMENT) * ALIGNMENT
    root_sectors = root.stat().st_size // SECTOR
    partitions = [(0x0E, ALIGNMENT, boot_sectors), (0x83, root_start, root_sectors)]
    with raw.open("wb") as disk:
        disk.write(master_boot_record(code, signature, partitions))
        for part, start in ((boot, ALIGNMENT), (root, root_start)):
            _copy_sparse(part, disk.fileno(), start * SECTOR)
        disk.truncate((root_start + root_sectors) * SECTOR)


def convert(raw: Path, qcow2: Path) -> None:
    """Write the disk as qcow2, without compression: decompressing would cost every boot more than it saves."""
    if shutil.which("qemu-img") is None:
        raise BuildError("qemu-img is missing: install the package qemu-utils")
    run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1", str(raw), str(qcow2)])


def _copy_sparse(source: Path, target: int, at: int) -> None:
    with source.open("rb") as stream:
        while piece := stream.read(2**16):
            if piece.strip(b"\0"):
                os.pwrite(target, piece, at)
            at += len(piece)
