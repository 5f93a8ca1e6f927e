"""What a device is and how it does, as people write it: sizes, rates, durations, lists, yes and no.

Names of fields end in their units (`..._bytes`, `..._per_s`, `..._s`, `..._c`, `..._percent`): what is not written in a
way of its own here follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from retirecluster.render.columns import duration, percent, size, words

Shown = Callable[[Any], str]


def fact_words(name: str, value: Any) -> str:
    """One fact of a profile, or one item of a fact that is a list: a disk, a network interface."""
    return _FACTS.get(name, lambda other: plain(name, other))(value)


def metric_pair(name: str, value: Any) -> tuple[str, str]:
    """One system metric: what it is called, and its value."""
    title, shown = _METRICS.get(name, (titled(name), lambda other: plain(name, other)))
    return title, shown(value)


def titled(name: str) -> str:
    """The name of a field for people, without its unit."""
    for unit in _UNITS:
        name = name.removesuffix(unit)
    return name.replace("_", " ")


def plain(name: str, value: Any) -> str:
    """A value by the unit in the name of its field; empty for what is not known."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        parts = ((titled(each), plain(each, inner)) for each, inner in value.items())
        return ", ".join(f"{title} {text}" for title, text in parts if text)
    if isinstance(value, list):
        return ", ".join(plain(name, each) for each in value)
    if isinstance(value, int | float):
        return next((shown(value) for unit, shown in _UNITS.items() if name.endswith(unit)), _number(value))
    return str(value)


def _either(value: Any, yes: str, no: str) -> str:
    return yes if value is True else no if value is False else ""


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _rate(value: Any) -> str:
    return f"{size(value)}/s"


def _degrees(value: Any) -> str:
    return f"{value:.0f} °C" if isinstance(value, int | float) else str(value)


_UNITS: dict[str, Shown] = {
    "_bytes_per_s": _rate,
    "_bytes": size,
    "_per_s": lambda value: f"{value:.3g}/s",
    "_s": duration,
    "_c": _degrees,
    "_percent": percent,
}
"""The longest first: each ends a name that the next ones might end, too."""


def _disk(value: Any) -> str:
    """As `sda: 238 GiB ssd, Samsung 860, ext4`."""
    if not isinstance(value, Mapping):
        return str(value)
    total = value.get("total_bytes")
    kind = " ".join(each for each in ("" if total is None else size(total), value.get("type") or "") if each)
    more = [kind, value.get("model"), value.get("file_system"), "removable" if value.get("removable") else ""]
    return _named(value, more)


def _interface(value: Any) -> str:
    """As `wlan0: wifi, up, 192.168.1.7 fe80::1, 00:11:22:aa:bb:cc`."""
    if not isinstance(value, Mapping):
        return str(value)
    up = _either(value.get("up"), "up", "down")
    addresses = " ".join(map(str, value.get("addresses") or ()))
    return _named(value, [value.get("type"), up, addresses, value.get("mac")])


def _named(value: Mapping[str, Any], more: list[Any]) -> str:
    text = ", ".join(str(each) for each in more if each)
    return f"{value.get('name')}: {text}" if text else str(value.get("name"))


def _battery(value: Any) -> str:
    """As `31%, on battery, health good, 28 °C`."""
    if not isinstance(value, Mapping):
        return percent(value)
    level, heat, wear = value.get("level"), value.get("temperature_c"), value.get("wear_percent")
    power = _either(value.get("charging"), "charging", "on battery")
    parts = [
        "" if level is None else percent(level),
        power,
        f"health {value['health']}" if value.get("health") else "",
        "" if heat is None else _degrees(heat),
        "" if wear is None else f"wear {percent(wear)}",
    ]
    return ", ".join(each for each in parts if each)


def _traffic(first: tuple[str, str], second: tuple[str, str]) -> Shown:
    """Rates of two counters, as `reads 1.2 MiB/s, writes 0 B/s`; until these are known, what was counted so far."""

    def shown(value: Any) -> str:
        if not isinstance(value, Mapping):
            return str(value)
        rates = [
            f"{verb} {_rate(value[f'{name}_per_s'])}" for name, verb in (first, second) if f"{name}_per_s" in value
        ]
        counts = [f"{verb} {size(value[name])}" for name, verb in (first, second) if value.get(name) is not None]
        return ", ".join(rates) or (", ".join(counts) + " since it started" if counts else "")

    return shown


def _throttling(value: Any) -> str:
    """As `now under-voltage; since its start frequency capped`."""
    if not isinstance(value, Mapping):
        return str(value)
    parts = [("now", value.get("now")), ("since its start", value.get("since_boot"))]
    return "; ".join(f"{when} {words(what)}" for when, what in parts if what) or "none"


_FACTS: dict[str, Shown] = {"disks": _disk, "network_interfaces": _interface}
_METRICS: dict[str, tuple[str, Shown]] = {
    "disk_usage": ("disk", percent),
    "load_average": ("load average", lambda value: ", ".join(f"{each:.2f}" for each in value)),
    "temperature": ("temperature", _degrees),
    "battery": ("battery", _battery),
    "disk_io": ("disk io", _traffic(("read_bytes", "reads"), ("write_bytes", "writes"))),
    "network": ("network", _traffic(("received_bytes", "receives"), ("sent_bytes", "sends"))),
    "throttling": ("throttling", _throttling),
    "owner_away_s": ("owner away", duration),
    "problems": ("problems", lambda value: "; ".join(map(str, value))),
}
