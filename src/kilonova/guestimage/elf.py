"""Just enough ELF to know what a binary or a kernel module needs.

Read-only and total: whatever is not a little-endian 64-bit ELF file raises ``BuildError``. It must not
know what the answers are used for.

Source: System V ABI (gABI) chapters 4 and 5; `include/linux/module.h` for the meaning of ``.modinfo``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from kilonova.guestimage.errors import BuildError

_SHT_DYNAMIC = 6
_DT_NULL, _DT_NEEDED = 0, 1


@dataclass(frozen=True, slots=True)
class _Section:
    name_at: int
    kind: int
    offset: int
    size: int
    link: int


def _sections(image: bytes) -> list[_Section]:
    if image[:6] != b"\x7fELF\x02\x01":
        raise BuildError("not a 64-bit little-endian ELF file")
    try:
        table, entry, count = struct.unpack_from("<Q10xHH", image, 0x28)
        found = []
        for index in range(count):
            name, kind, _flags, _addr, offset, size, link = struct.unpack_from("<IIQQQQI", image, table + index * entry)
            found.append(_Section(name, kind, offset, size, link))
    except struct.error as error:
        raise BuildError(f"truncated ELF file: {error}") from error
    return found


def _text(image: bytes, at: int) -> str:
    return image[at : image.index(b"\0", at)].decode()


def modinfo(image: bytes) -> dict[str, list[str]]:
    """Return a kernel module's ``key=value`` facts; a key such as ``alias`` may come many times."""
    try:
        return _modinfo(image)
    except (IndexError, ValueError, struct.error) as error:
        raise BuildError(f"damaged ELF file: {error}") from error


def _modinfo(image: bytes) -> dict[str, list[str]]:
    sections = _sections(image)
    names_at = sections[struct.unpack_from("<H", image, 0x3E)[0]].offset
    facts: dict[str, list[str]] = {}
    for section in sections:
        if _text(image, names_at + section.name_at) != ".modinfo":
            continue
        for item in image[section.offset : section.offset + section.size].split(b"\0"):
            key, found, value = item.decode(errors="replace").partition("=")
            if found:
                facts.setdefault(key, []).append(value)
    return facts


def needed(image: bytes) -> list[str]:
    """Return the shared objects (sonames) that a program or library asks the dynamic linker for."""
    try:
        return list(_needed(image))
    except (IndexError, ValueError, struct.error) as error:
        raise BuildError(f"damaged ELF file: {error}") from error


def _needed(image: bytes) -> Iterator[str]:
    sections = _sections(image)
    for section in sections:
        if section.kind != _SHT_DYNAMIC:
            continue
        strings = sections[section.link].offset
        for at in range(section.offset, section.offset + section.size, 16):
            tag, value = struct.unpack_from("<QQ", image, at)
            if tag == _DT_NULL:
                break
            if tag == _DT_NEEDED:
                yield _text(image, strings + value)
