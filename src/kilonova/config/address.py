"""The address other hosts see this one by."""

from __future__ import annotations

import socket


def own_address() -> str:
    """Return the source address of the default route, or 127.0.0.1. Nothing is sent, nothing is resolved."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address (RFC 5737)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"
