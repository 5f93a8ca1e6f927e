"""Android, as Termux sees it: a Linux where much of /proc is closed and tools of its own tell the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from retirecluster.platforms.linux import Linux

BATTERY_WITHIN_S = 10.0
"""The tool takes up to 7 seconds, and never answers when its companion app is not installed."""
CHILD_PROCESSES = 32
"""Android 12 and later kill what goes beyond this many child processes of all apps together."""


class Android(Linux):
    """A phone or a tablet."""

    name = "android"
    default_role = "mobile"
    task_variables = ("PREFIX", "LD_PRELOAD", "LD_LIBRARY_PATH", "ANDROID_DATA", "ANDROID_ROOT", "TERMUX_VERSION")

    _battery_gives_up = False

    def default_slots(self, cpus: int) -> int:
        """Half of the processors: a phone gets hot, and its system counts processes."""
        return max(1, min(cpus // 2, CHILD_PROCESSES // 4))

    def capabilities(self) -> list[str]:
        return ["mobile_specific"]

    def battery(self) -> dict[str, Any] | None:
        """From the Termux:API tool. Called in a thread; a tool that hangs once is not asked again."""
        program = shutil.which("termux-battery-status")
        if program is None or self._battery_gives_up:
            return super().battery()
        try:
            said = subprocess.run([program], capture_output=True, text=True, timeout=BATTERY_WITHIN_S, check=True)
        except subprocess.TimeoutExpired:
            self._battery_gives_up = True
            raise OSError("termux-battery-status does not answer; is the Termux:API app installed?") from None
        except subprocess.CalledProcessError as error:
            raise OSError(str(error)) from None
        return battery_status(said.stdout)

    def has_default_route(self) -> bool | None:
        """The routing table is closed; the system's own property tells, where it can be read."""
        try:
            return super().has_default_route()
        except OSError:
            return None

    def load_average(self) -> list[float] | None:
        if not hasattr(os, "getloadavg"):
            return None
        return super().load_average()


def battery_status(text: str) -> dict[str, Any]:
    """The level, whether it charges, and its temperature, in the tool's JSON."""
    said = json.loads(text)
    found: dict[str, Any] = {"level": said["percentage"], "charging": said.get("plugged") != "UNPLUGGED"}
    if isinstance(said.get("temperature"), (int, float)):
        found["temperature_c"] = round(float(said["temperature"]), 1)
    return found
