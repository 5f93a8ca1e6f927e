"""How fast a device runs Python, as one figure: 1.0 is a common laptop of 2020 (REFERENCE_ROUNDS_PER_S)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from retirecluster.worker.data_folder import write_whole

REFERENCE_ROUNDS_PER_S = 2600.0
"""Rounds a second of `_round` under CPython 3.11 on a 4-core laptop processor at 3 GHz."""
MEASURE_S = 0.15
KEEP_S = 30 * 86_400.0


def _round() -> float:
    """A little integer and float work, as scripts do it."""
    total, fraction = 0, 0.0
    for index in range(1, 3001):
        total = (total * 31 + index) & 0xFFFFFFFF
        fraction += index * 0.5 / (index + 1.5)
    return total + fraction


def measure(monotonic: Callable[[], float]) -> float:
    """The figure, from `MEASURE_S` of work on one processor."""
    begin = monotonic()
    rounds = 0
    while (spent := monotonic() - begin) < MEASURE_S:
        _round()
        rounds += 1
    return round(min(1000.0, max(0.001, rounds / spent / REFERENCE_ROUNDS_PER_S)), 3)


def cached_speed(place: Path, python_version: str, now: float, monotonic: Callable[[], float]) -> float:
    """The figure kept in the data folder; measured anew after 30 days or with another Python. `now` is wall time."""
    try:
        kept = json.loads(place.read_text("utf-8"))
        fresh = kept["python_version"] == python_version and 0 <= now - kept["measured_at"] < KEEP_S
        if fresh and 0.001 <= kept["speed"] <= 1000:
            return float(kept["speed"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    speed = measure(monotonic)
    document = {"speed": speed, "python_version": python_version, "measured_at": now}
    # A full disk costs a measurement at each start, and nothing else.
    with contextlib.suppress(OSError):
        write_whole(place, json.dumps(document) + "\n")
    return speed
