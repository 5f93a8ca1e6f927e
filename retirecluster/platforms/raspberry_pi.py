"""Raspberry Pi: Linux, plus what its firmware says about power and heat."""

from __future__ import annotations

from typing import Any

from retirecluster.platforms.linux import Linux
from retirecluster.platforms.programs import answer_of

NOW_BITS = {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "too_hot"}
SINCE_BOOT_SHIFT = 16


class RaspberryPi(Linux):
    """Announced as linux, since tasks ask for that; the capability word tells that it is a Pi."""

    slow = Linux.slow | {"throttling": 60.0, "firmware_temperature": 60.0}

    def capabilities(self) -> list[str]:
        return ["raspberry_pi"]

    def throttling(self) -> dict[str, Any] | None:
        """The throttling flags: what is the case now, and what was since the start."""
        return throttling(answer_of("vcgencmd", "get_throttled"))

    def firmware_temperature_c(self) -> float | None:
        """The kernel's sensor is the firmware's; this is for kernels that have none."""
        return round(float(answer_of("vcgencmd", "measure_temp").partition("=")[2].split("'")[0]), 1)


def throttling(text: str) -> dict[str, Any]:
    """The flags in the firmware's `throttled=0x50005`."""
    bits = int(text.strip().partition("=")[2], 16)
    now = [name for bit, name in NOW_BITS.items() if bits >> bit & 1]
    since_boot = [name for bit, name in NOW_BITS.items() if bits >> (bit + SINCE_BOOT_SHIFT) & 1]
    return {"now": now, "since_boot": since_boot}
