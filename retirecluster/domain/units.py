"""Durations and sizes as people write and read them. Inside, durations are seconds and sizes are bytes."""

from __future__ import annotations

import re
from datetime import datetime, timezone

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_DURATION_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration_s(text: str) -> float:
    """Seconds in `90`, `1.5h`, `2m30s` or `250ms`. Raises ValueError on anything else."""
    stripped = text.strip().lower()
    if re.fullmatch(r"\d+(\.\d+)?", stripped):
        return float(stripped)
    parts = _PART.findall(stripped)
    if not parts or _PART.sub("", stripped).strip():
        raise ValueError(f"{text!r} is not a duration; write for example 90, 250ms, 2m30s or 1.5h")
    return float(sum(float(number) * _DURATION_S[unit] for number, unit in parts))


_SIZE_BYTES = {"": 1, "B": 1, "K": KIB, "KIB": KIB, "M": MIB, "MIB": MIB, "G": GIB, "GIB": GIB, "T": 1024 * GIB}
_SIZE_BYTES |= {"TIB": 1024 * GIB, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_size_bytes(text: str) -> int:
    """Bytes in `4096`, `512MiB`, `1.5G` (binary) or `10GB` (decimal). Raises ValueError on anything else."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].upper() not in _SIZE_BYTES:
        raise ValueError(f"{text!r} is not a size; write for example 4096, 512MiB or 1.5GiB")
    return int(float(found[1]) * _SIZE_BYTES[found[2].upper()])


def format_duration(duration_s: float) -> str:
    """A duration in at most two units: `0.25s`, `42s`, `3m20s`, `5h10m`, `2d3h`."""
    if duration_s < 10:
        return f"{duration_s:.2f}".rstrip("0").rstrip(".") + "s"
    seconds = round(duration_s)
    for size, unit, lower_size, lower_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if seconds >= size:
            rest = seconds % size // lower_size
            return f"{seconds // size}{unit}" + (f"{rest}{lower_unit}" if rest else "")
    return f"{seconds}s"


def format_instant(at: float | None) -> str | None:
    """A wall-clock instant (Unix seconds) in UTC, ISO 8601 with milliseconds and `Z`; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_bytes(size_bytes: float) -> str:
    """A size in binary units with three significant digits: `512 B`, `1.5 KiB`, `16 GiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 999.5:  # three digits would not show what is above
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"
