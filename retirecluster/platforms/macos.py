"""macOS: what the standard library and the system's own programs give; psutil, where it is installed, the rest."""

from __future__ import annotations

import platform as python_platform
import re

from retirecluster.platforms.base import Platform, Ways, preferring
from retirecluster.platforms.programs import answer_of


class MacOS(Platform):
    """A Mac."""

    name = "darwin"
    slow = {"owner": 30.0}

    def ways(self) -> Ways:
        return preferring(
            super().ways(),
            os_name=[("python", lambda: f"macOS {python_platform.mac_ver()[0]}".strip())],
            model=[("sysctl", lambda: answer_of("sysctl", "-n", "hw.model").strip())],
            cpu_model=[("sysctl", lambda: answer_of("sysctl", "-n", "machdep.cpu.brand_string").strip())],
        )

    def has_default_route(self) -> bool | None:
        """A socket that sends nothing: the system finds a route for it, or says there is none."""
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
            except OSError:
                return False
        return True

    def owner_away_s(self, now: float) -> float | None:
        """The idle time of keyboard and mouse."""
        found = re.search(r'"HIDIdleTime" = (\d+)', answer_of("ioreg", "-c", "IOHIDSystem", "-d", "4"))
        return None if found is None else int(found[1]) / 1e9
