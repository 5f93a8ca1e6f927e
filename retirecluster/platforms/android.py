"""Android, as Termux sees it: a Linux where much of /proc is closed and tools of its own tell the rest."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any

from retirecluster.platforms import interfaces
from retirecluster.platforms.base import Ways, preferring
from retirecluster.platforms.linux import Linux
from retirecluster.platforms.programs import answer_of

BATTERY_WITHIN_S = 10.0
"""The tool takes up to 7 seconds, and never answers when its companion app is not installed."""
CHILD_PROCESSES = 32
"""Android 12 and later kill what goes beyond this many child processes of all apps together."""
PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*)\]$", re.MULTILINE)
BACKLIGHTS = (
    "sys/class/backlight/panel0-backlight/brightness",
    "sys/class/leds/lcd-backlight/brightness",
)


class Android(Linux):
    """A phone or a tablet."""

    name = "android"
    default_role = "mobile"
    slow = {"battery": 60.0, "metered": 60.0}
    task_variables = ("PREFIX", "LD_PRELOAD", "LD_LIBRARY_PATH", "ANDROID_DATA", "ANDROID_ROOT", "TERMUX_VERSION")

    _properties: dict[str, str] | None = None
    _screen_on_at: float | None = None

    def ways(self) -> Ways:
        return preferring(
            super().ways(),
            os_name=[("getprop", lambda: f"Android {self.property('ro.build.version.release')}")],
            model=[("getprop", self.phone_model)],
            cpu_model=[("getprop", lambda: self.property("ro.soc.model"))],
        )

    def property(self, name: str) -> str:
        """A property of the system. Raises OSError or KeyError where it is not told. A program that does not answer is
        asked once: each fact that it could tell would wait for it anew."""
        if self._properties is None:
            self._properties = {}
            self._properties = dict(PROPERTY.findall(answer_of("getprop")))
        return self._properties[name]

    def phone_model(self) -> str | None:
        """Maker and model, as `Google Pixel 4`."""
        maker, model = self.property("ro.product.manufacturer"), self.property("ro.product.model")
        return model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()

    def default_slots(self, cpus: int) -> int:
        """Half of the processors: a phone gets hot, and its system counts processes."""
        return max(1, min(cpus // 2, CHILD_PROCESSES // 4))

    def capabilities(self) -> list[str]:
        return ["mobile_specific"] + (["termux_api"] if shutil.which("termux-battery-status") else [])

    def battery(self) -> dict[str, Any] | None:
        """From the Termux:API tool. Called in the background; one that hangs is asked ever more rarely."""
        if shutil.which("termux-battery-status") is None:
            return super().battery()
        try:
            return battery_status(answer_of("termux-battery-status", within_s=BATTERY_WITHIN_S))
        except TimeoutError:
            raise TimeoutError("termux-battery-status does not answer; is the Termux:API app installed?") from None

    def network_interfaces(self) -> list[dict[str, Any]] | None:
        """The kernel's lists are closed to apps on newer systems: then psutil may know."""
        try:
            return super().network_interfaces()
        except OSError:
            return None

    def has_default_route(self) -> bool | None:
        """The routing table is closed; where it cannot be read nothing tells."""
        try:
            return super().has_default_route()
        except OSError:
            return None

    def metered(self) -> bool | None:
        """A way out over the mobile network costs; what a wireless one costs is not told to apps."""
        name = self.way_out()
        return True if name is not None and interfaces.kind_of(name) == interfaces.MOBILE else None

    def owner_away_s(self, now: float) -> float | None:
        """By the backlight, where it may be read: how long ago the screen was last seen lit. None: it never was, so
        nobody knows since when it has been dark."""
        for path in BACKLIGHTS:
            try:
                lit = int(self.read(path)) > 0
            except (OSError, ValueError):
                continue
            if lit or (self._screen_on_at is not None and self._screen_on_at > now):
                self._screen_on_at = now
            return None if self._screen_on_at is None else now - self._screen_on_at
        return None

    def load_average(self) -> list[float] | None:
        if not hasattr(os, "getloadavg"):
            return None
        return super().load_average()


def battery_status(text: str) -> dict[str, Any]:
    """The level, whether it charges, its health and its temperature, in the tool's JSON."""
    said = json.loads(text)
    found: dict[str, Any] = {"level": said["percentage"]}
    plugged = said.get("plugged")
    if isinstance(plugged, str) and plugged:
        found["charging"] = plugged != "UNPLUGGED"
    health = said.get("health")
    if isinstance(health, str) and health not in ("", "UNKNOWN"):
        found["health"] = health.lower()[:64]
    if isinstance(said.get("temperature"), (int, float)):
        found["temperature_c"] = round(float(said["temperature"]), 1)
    return found
