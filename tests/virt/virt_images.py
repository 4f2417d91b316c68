"""Images and specs for driver tests: as small as a guest can be."""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonova.model.guest import GuestSpec, ImageRef, Nic

HELLO = b"kilonova test guest\r\n"

CONFIG_DRIVE = {
    "openstack/latest/meta_data.json": b'{"uuid": "x", "hostname": "h1", "public_keys": {"k": "ssh-ed25519 AAAA"}}',
    "openstack/latest/user_data": b"#!/bin/sh\necho hello\n",
    "ec2/2009-04-04/meta-data.json": b"{}",
}


@dataclass(frozen=True)
class FileImage:
    path: Path
    format: str

    @property
    def virtual_size(self) -> int:
        return self.path.stat().st_size


def boot_sector() -> bytes:
    """A disk of 1 MiB whose boot sector writes HELLO to COM1 and halts with interrupts on."""
    code = bytes.fromhex(
        "31c08ed8"  # xor ax, ax; mov ds, ax
        "be227c"  # mov si, 7c22h: the text
        "ac"  # next: lodsb
        "84c0740f"  # test al, al; jz halt
        "88c3"  # mov bl, al
        "bafd03"  # mov dx, 3fdh
        "ec a820 74fb"  # wait: in al, dx; test al, 20h; jz wait
        "88d8 b2f8 ee"  # mov al, bl; mov dl, f8h; out dx, al
        "ebea"  # jmp next
        "fb f4 ebfd"  # halt: sti; hlt; jmp halt
    )
    code = code.ljust(0x22, b"\x90") + HELLO + b"\0"
    return code.ljust(510, b"\0") + b"\x55\xaa" + bytes((1 << 20) - 512)


def tiny_initrd() -> bytes:
    """A cpio whose /init writes HELLO and waits for ever: two system calls, no library."""
    code = bytes.fromhex(
        "b801000000 bf01000000 488d3510000000"  # write(1, text,
        f"ba{len(HELLO):02x}000000 0f05"  # length)
        "b822000000 0f05 ebf7"  # pause(), again
    )
    base, start = 0x400000, 0x400078
    body = code + HELLO
    size = 0x78 + len(body)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, start, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return _cpio("init", header + body) + _cpio("TRAILER!!!", b"")


def _cpio(name: str, content: bytes) -> bytes:
    fields = (1, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def make_spec(**changes: Any) -> GuestSpec:
    guest = str(uuid.uuid4())
    values: dict[str, Any] = {
        "uuid": guest,
        "name": 'a <server> & "its" name\n\x07é',
        "instance_name": f"kn-test-{guest[:8]}",
        "hostname": "h1",
        "project_id": "project",
        "user_id": "user",
        "vcpus": 1,
        "memory_mb": 64,
        "root_gb": 1,
        "image": ImageRef(id=str(uuid.uuid4()), size=1 << 20),
        "nics": (Nic(port_id=str(uuid.uuid4()), network_id="n", mac="fa:16:3e:12:34:56"),),
    }
    return GuestSpec(**{**values, **changes})
