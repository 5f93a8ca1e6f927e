"""Waking devices that sleep: whom, at which hardware addresses, with which bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ASLEEP = "asleep"
"""The reason of a farewell by which a device says that it goes to sleep, and its status from then on."""
MAX_MACS = 4
FIRST_AGAIN_S, LONGEST_AGAIN_S = 60.0, 3600.0
PERSON_AGAIN_S = 10.0
"""How soon after another a person may send a packet to the same device."""
_ORDER = ("ethernet", None, "wifi")
"""Which interfaces may wake a device, the likeliest first: a virtual or a mobile one never does."""


def magic_packet(mac: str) -> bytes:
    """What network cards wake up for: six times 255, then sixteen times their address. Raises ValueError."""
    if not re.fullmatch("[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", mac):
        raise ValueError(f"{mac!a} is no hardware address; one is written as 00:11:22:aa:bb:cc")
    return b"\xff" * 6 + bytes.fromhex(mac.replace(":", "")) * 16


def macs_of(register: Mapping[str, Any]) -> list[str]:
    """The hardware addresses in a registration by which the device may be woken, the likeliest first."""
    listed = (register.get("hardware_specs") or {}).get("network_interfaces") or ()
    found = [each for each in listed if isinstance(each, Mapping) and each.get("mac") and each.get("type") in _ORDER]
    found.sort(key=lambda each: _ORDER.index(each.get("type")))
    return list(dict.fromkeys(each["mac"] for each in found))[:MAX_MACS]


def again_after_s(woken: int) -> float:
    """How long to wait after so many packets in vain: a minute, then twice as long each time, an hour at most."""
    return 0.0 if woken < 1 else min(LONGEST_AGAIN_S, FIRST_AGAIN_S * 2.0 ** min(woken - 1, 30))
