"""What /sys/class/power_supply tells of power: one answer for a device with any number of batteries and sockets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

CHARGING, DISCHARGING = "Charging", "Discharging"
HELD = ("Full", "Not charging")
"""A battery at rest: beside another one that discharges, or beside a socket."""
SOCKETS = ("Mains", "USB", "Wireless")
CAPACITIES = ("energy_full", "charge_full")
GOOD = "good"


@frozen
class Supply:
    """One folder of /sys/class/power_supply."""

    place: Path

    def said(self, name: str) -> str:
        """The text of a file, empty where it cannot be read."""
        try:
            return (self.place / name).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    def figure(self, name: str) -> int | None:
        text = self.said(name)
        return int(text) if text.lstrip("-").isdigit() else None

    @property
    def wear(self) -> float | None:
        """How much of its first capacity is lost, in percent."""
        for name in CAPACITIES:
            full, design = self.figure(name), self.figure(f"{name}_design")
            if full is not None and design is not None and design > 0:
                return round(min(100.0, max(0.0, 100.0 * (1.0 - full / design))), 1)
        return None


def battery(folder: Path) -> dict[str, Any] | None:
    """`level` of all batteries of the device together and, where it is known, `charging`, `health`, `temperature_c` and
    `wear_percent` (of the worst one). None where there is no battery."""
    # Those of mice and keyboards have the scope Device.
    supplies = [each for each in map(Supply, sorted(folder.glob("*"))) if each.said("scope") != "Device"]
    found = [each for each in supplies if each.said("type") == "Battery" and each.said("present") != "0"]
    found = [each for each in found if each.figure("capacity") is not None]
    if not found:
        return None
    sockets = [each.figure("online") for each in supplies if each.said("type").startswith(SOCKETS)]
    answer: dict[str, Any] = {"level": _level(found)}
    charging = _charging([each.said("status") for each in found], [each for each in sockets if each is not None])
    return answer | ({} if charging is None else {"charging": charging}) | _condition(found)


def _level(batteries: Sequence[Supply]) -> float:
    """Percent, each battery by what it holds when full, where all tell that in the same unit."""
    levels = [min(100, max(0, each.figure("capacity") or 0)) for each in batteries]
    weights = [1] * len(levels)
    for name in CAPACITIES:
        full = [each.figure(name) or 0 for each in batteries]
        if min(full) > 0:
            weights = full
            break
    level = sum(level * weight for level, weight in zip(levels, weights, strict=True)) / sum(weights)
    return int(level) if level == int(level) else round(level, 1)


def _charging(statuses: Sequence[str], sockets: Sequence[int]) -> bool | None:
    """Whether it has power. A battery that is used up tells for certain; a socket more than one at rest."""
    if DISCHARGING in statuses:
        return False
    if CHARGING in statuses:
        return True
    if sockets:
        return any(online > 0 for online in sockets)
    return True if any(status in HELD for status in statuses) else None


def _condition(batteries: Sequence[Supply]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    healths = [each.said("health").lower()[:64] for each in batteries]
    known = [health for health in healths if health not in ("", "unknown")]
    if known:
        found["health"] = next((health for health in known if health != GOOD), GOOD)
    tenths = [figure for figure in (each.figure("temp") for each in batteries) if figure is not None]
    if tenths:
        found["temperature_c"] = max(tenths) / 10.0
    wears = [wear for wear in (each.wear for each in batteries) if wear is not None]
    return found | ({"wear_percent": max(wears)} if wears else {})
