"""IP addresses as numbers and as sortable keys, subnets' pools, MAC addresses. Pure.

A key is the address in hexadecimal, 8 digits for IPv4 and 32 for IPv6, so that text sorts as numbers do.
"""

from __future__ import annotations

import ipaddress
import secrets
from functools import lru_cache
from typing import Any

import msgspec

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
SLAAC = ("slaac", "dhcpv6-stateless")
"""Address modes in which a port's address follows from its MAC."""
MAC_BASE = "fa:16:3e"


def number(text: str) -> int:
    """The value of an address. Raises ValueError."""
    return int(ipaddress.ip_address(text))


def text(value: int, version: int) -> str:
    """An address of IP version 4 or 6 in its usual spelling."""
    if version == 4:
        return f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"
    return str(ipaddress.IPv6Address(value))


def key(value: int, version: int) -> str:
    return f"{value:08x}" if version == 4 else f"{value:032x}"


@lru_cache(maxsize=1024)
def ranges(pools: str) -> tuple[tuple[int, int], ...]:
    """(first, last) numbers of a subnet's `pools` (JSON text)."""
    found: list[dict[str, str]] = msgspec.json.decode(pools)
    return tuple((number(each["start"]), number(each["end"])) for each in found)


@lru_cache(maxsize=1024)
def network(cidr: str) -> Net:
    """Raises ValueError."""
    return ipaddress.ip_network(cidr)


def default_gateway(net: Net) -> str:
    """The first address after the network's own; in a /32 or /128 the only one."""
    first = int(net.network_address)
    return text(first if net.num_addresses == 1 else first + 1, net.version)


def usable(net: Net) -> tuple[int, int]:
    """First and last number that a port may have (IPv4: neither network nor broadcast; IPv6: not the first)."""
    first, last = int(net.network_address), int(net.broadcast_address)
    if net.version == 4 and net.prefixlen < 31:
        return first + 1, last - 1
    if net.version == 6 and net.prefixlen < 127:
        return first + 1, last
    return first, last


def default_pools(net: Net, gateway: str | None) -> list[dict[str, str]]:
    """All usable addresses but the gateway's."""
    first, last = usable(net)
    parts = [(first, last)]
    if gateway is not None and first <= number(gateway) <= last:
        at = number(gateway)
        parts = [(first, at - 1), (at + 1, last)]
    return [{"start": text(a, net.version), "end": text(b, net.version)} for a, b in parts if a <= b]


def eui64(net: Net, mac: str) -> str:
    """The address that a host with `mac` gives itself in an IPv6 /64 (RFC 4291, appendix A)."""
    octets = [int(part, 16) for part in mac.split(":")]
    octets[0] ^= 2
    suffix = int.from_bytes(bytes([*octets[:3], 0xFF, 0xFE, *octets[3:]]), "big")
    return text(int(net.network_address) | suffix, 6)


def new_mac() -> str:
    """A random address of OpenStack's usual prefix; whether it is free in a network, its table says."""
    value = secrets.randbits(24)
    return f"{MAC_BASE}:{value >> 16:02x}:{value >> 8 & 255:02x}:{value & 255:02x}"


def decoded(json: str) -> Any:
    """A JSON column's value."""
    return msgspec.json.decode(json)


def encoded(value: Any) -> str:
    """A value for a JSON column."""
    return msgspec.json.encode(value).decode()
