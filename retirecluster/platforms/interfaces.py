"""Network interfaces: what kind each is, and how they are written in a profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

ETHERNET, WIFI, MOBILE, VIRTUAL = "ethernet", "wifi", "mobile", "virtual"
_BY_NAME = (
    (VIRTUAL, ("veth", "docker", "br-", "virbr", "vnet", "tun", "tap", "wg", "tailscale", "zt", "dummy", "ifb", "bond",
               "vmnet", "vboxnet", "vethernet", "utun", "awdl", "llw", "bridge", "gif", "stf", "p2p", "lxc", "cni",
               "flannel", "cali", "sit", "ip6tnl", "loopback")),
    (MOBILE, ("rmnet", "ccmni", "wwan", "ppp", "pdp_ip", "usb_rmnet", "rev_rmnet", "v4-rmnet", "v4-ccmni", "cellular")),
    (WIFI, ("wl", "wifi", "wi-fi", "ath", "ra0", "wireless", "swlan", "ap0")),
    (ETHERNET, ("eth", "enp", "eno", "ens", "enx", "end", "usb0", "lan")),
)  # fmt: skip
"""Beginnings of names, in lower case, as Linux, Android, macOS and Windows give them."""
NO_ADDRESS = ("00:00:00:00:00:00", "02:00:00:00:00:00", "ff:ff:ff:ff:ff:ff")
"""What systems say that do not tell the hardware address (Android says the second)."""


def kind_of(name: str, wireless: bool = False, physical: bool | None = None) -> str | None:
    """The type of an interface; None where nothing tells. `physical` is whether a device is behind it."""
    if wireless:
        return WIFI
    lowered = name.lower()
    for kind, beginnings in _BY_NAME:
        if lowered.startswith(beginnings):
            return VIRTUAL if physical is False and kind == ETHERNET else kind
    return VIRTUAL if physical is False else None


def is_loopback(name: str) -> bool:
    return name == "lo" or name.startswith(("lo0", "Loopback"))


def own_traffic(names: Iterable[str], stands_on_others: Callable[[str], bool] = lambda name: False) -> list[str]:
    """The interfaces whose traffic counts, so that nothing counts twice; all, where none is left (a container's)."""
    every = list(names)
    own = [name for name in every if kind_of(name) != VIRTUAL and not stands_on_others(name)]
    return own or every


def described(
    name: str,
    *,
    kind: str | None = None,
    mac: str | None = None,
    addresses: Iterable[str] = (),
    up: bool | None = None,
) -> dict[str, Any]:
    """An interface as a profile lists it; what is not known is left out."""
    found: dict[str, Any] = {"name": name}
    if kind is not None:
        found["type"] = kind
    mac = (mac or "").lower().replace("-", ":")
    if len(mac) == 17 and mac not in NO_ADDRESS:
        found["mac"] = mac
    # A link-local address names its interface after a %, which the name says already.
    plain = [each.partition("%")[0] for each in addresses]
    if plain:
        found["addresses"] = plain
    if up is not None:
        found["up"] = up
    return found
