"""Which addresses tasks may reach: those of the public internet, whatever they are wrapped in."""

from __future__ import annotations

import ipaddress
import socket

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

NAT64 = ipaddress.ip_network("64:ff9b::/96")
UNICAST = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out for the internet. What is outside (IPv4 in `::/96`, site-local, ...) is not public."""
SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")))
"""Ranges for special purposes that not every version of Python leaves out: protocols, relays, Teredo, documents."""
ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The middle half of an IPv6 address whose last 32 bits are an IPv4 address."""


def is_public(text: str) -> bool:
    """True for an address of the public internet that wraps no other one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast and not _is_special(address)
    inner = _wrapped(address)
    if inner is not None:
        return is_public(str(inner))
    return address in UNICAST and address.is_global and not _is_special(address)


def _is_special(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in each for each in SPECIAL if each.version == address.version)


def _wrapped(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to this address end at."""
    number = int(address)
    if address.ipv4_mapped is not None or address.sixtofour is not None:
        return address.ipv4_mapped or address.sixtofour
    if address in NAT64 or (number >> 32) & 0xFFFFFFFF in ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None


def is_own_network(family: int, target: tuple[Any, ...]) -> bool:
    """Whether `target` is this device or its network's neighbour: with IPv6 these have public addresses, too.

    The kernel is asked which address it would send from; nothing is sent.
    """
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(target)
            own = probe.getsockname()[0]
        except OSError:  # no way there: the connection will fail by itself
            return False
    here = ipaddress.ip_address(own.partition("%")[0])
    there = ipaddress.ip_address(str(target[0]).partition("%")[0])
    if here.version == 6 and there.version == 6:
        return int(here) >> 64 == int(there) >> 64
    return here == there
