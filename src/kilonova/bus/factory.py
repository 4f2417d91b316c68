"""Opens the bus that a transport URL names; drivers are imported only when asked for.

URLs::

    memory://                             the queue of this process; needs the process's MemoryHub
    zmq://[NAME@]HOST:PORT,...[?bind=HOST:PORT]   all conductors; NAME as enrolled, else found by its enrolled address

A conductor listens on its own entry of the list unless `bind` says where.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from kilonova.bus.api import Bus
from kilonova.bus.envelope import Identity

if TYPE_CHECKING:
    from kilonova.bus.memory import MemoryHub


class TransportError(Exception):
    """The URL or the enrolment does not give a bus; the message says why."""


def open_bus(url: str, identity: Identity, keys_dir: Path | None = None, *, hub: MemoryHub | None = None) -> Bus:
    """Return a bus, not yet started. `keys_dir`: this process's key and the enrolled records. Raises TransportError."""
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        if hub is None:
            raise TransportError("memory:// works only inside one process")
        from kilonova.bus.memory import MemoryBus

        return MemoryBus(hub, identity)
    if scheme == "zmq":
        if keys_dir is None:
            raise TransportError("zmq:// needs a directory of keys")
        return _open_zeromq(rest, identity, keys_dir)
    raise TransportError(f"no such queue: {scheme}:// (known: memory, zmq)")


def _open_zeromq(rest: str, identity: Identity, keys_dir: Path) -> Bus:
    from kilonova.bus.enrolment import Directory, EnrolmentError, load_keys
    from kilonova.bus.zeromq import ZeroMQBus

    listed, _, query = rest.partition("?")
    try:
        keys = load_keys(keys_dir, identity.name)
    except EnrolmentError as error:
        raise TransportError(str(error)) from None
    directory = Directory(keys_dir)
    me = directory.get(identity.name)
    if me is None or me.role != identity.role:
        raise TransportError(f"{identity.name} is not enrolled as {identity.role} in {keys_dir}")
    conductors: list[tuple[str, str]] = []
    for entry in filter(None, (part.strip().rstrip("/") for part in listed.split(","))):
        name, at, address = entry.rpartition("@")
        if not at:
            found = directory.conductor_at(address)
            if found is None:
                raise TransportError(f"no enrolled conductor has the address {address}")
            name = found.name
        conductors.append((name, address))
    if not conductors:
        raise TransportError("zmq:// lists no conductor")
    bind: str | None = None
    if identity.role == "conductor":
        bind = parse_qs(query).get("bind", [""])[0] or dict(conductors).get(identity.name)
        if bind is None:
            raise TransportError(f"conductor {identity.name} is not in the list and has no bind=HOST:PORT")
    return ZeroMQBus(identity, keys, directory, conductors, bind=bind)
