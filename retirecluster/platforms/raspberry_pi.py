"""Raspberry Pi: Linux, plus what its firmware says about power and heat."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from retirecluster.platforms.linux import Linux

NOW_BITS = {0: "under_voltage", 1: "frequency_capped", 2: "throttled", 3: "too_hot"}
SINCE_BOOT_SHIFT = 16
FIRMWARE_WITHIN_S = 3.0


class RaspberryPi(Linux):
    """Announced as linux, since tasks ask for that; the capability word tells that it is a Pi."""

    def capabilities(self) -> list[str]:
        return ["raspberry_pi"]

    def cpu_model(self) -> str | None:
        return self.read("proc/device-tree/model")[:256] or super().cpu_model()

    def health(self) -> dict[str, Any]:
        """The throttling flags: what is the case now, and what was since the start."""
        program = shutil.which("vcgencmd")
        if program is None:
            return {}
        said = subprocess.run(
            [program, "get_throttled"], capture_output=True, text=True, timeout=FIRMWARE_WITHIN_S, check=True
        )
        return throttling(said.stdout)


def throttling(text: str) -> dict[str, Any]:
    """The flags in the firmware's `throttled=0x50005`."""
    bits = int(text.strip().partition("=")[2], 16)
    now = [name for bit, name in NOW_BITS.items() if bits >> bit & 1]
    since_boot = [name for bit, name in NOW_BITS.items() if bits >> (bit + SINCE_BOOT_SHIFT) & 1]
    return {"throttling": {"now": now, "since_boot": since_boot}}
