"""The records of the ledger's file, read back and written whole.

A record is eight bytes (length, CRC-32; little-endian) and a msgpack array (what, host, server, key, detail):
`i` incarnation (key = number), `f` fence raised and key begun, `r` result, `o` result owed, `a` acknowledged or ended
without a result, `x` forgotten, `g` the server was destroyed. Reading stops at the first record that is cut off or
damaged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from kilonova.compute.ledger import Entry

Record = tuple[str, str, str, str, Any]

_head = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


def framed(record: Record) -> bytes:
    """Return a record as it stands in the file."""
    body = _encode(record)
    return _head.pack(len(body), crc32(body)) + body


def records(path: Path) -> Iterator[Record]:
    """Yield the whole records of a file, oldest first."""
    data = path.read_bytes()
    at = 0
    while at + _head.size <= len(data):
        size, check = _head.unpack_from(data, at)
        body = data[at + _head.size : at + _head.size + size]
        if len(body) < size or crc32(body) != check:
            return
        yield _decode(body)
        at += _head.size + size


def snapshot(incarnation: str, entries: Iterable[tuple[tuple[str, str], Entry]]) -> bytes:
    """Return a file that holds just what counts now."""
    out = [framed(("i", "", "", incarnation, None))]
    for (host, server), entry in entries:
        fence = (entry.fence.number, entry.fence.epoch, entry.fence.undo)
        out += [framed(("f", host, server, key, fence)) for key in tuple(entry.begun or ()) or ("",)]
        out += [framed(("r", host, server, key, payload)) for key, payload in tuple(entry.results.items())]
        out += [framed(("o", host, server, key, None)) for key in tuple(entry.owed or ())]
        if entry.gone_at is not None:
            out.append(framed(("g", host, server, "", None)))
    return b"".join(out)
