"""How fast a device is, from under a second of work: Python's integers and floats, memory, and the disk.

`speed` is the one figure that placement uses: 1.0 is a common laptop of 2020 (the REFERENCE_* constants).
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from retirecluster.domain.devices import BENCHMARK
from retirecluster.worker.data_folder import write_whole

REFERENCE_INTEGER_ROUNDS_PER_S = 5300.0
REFERENCE_FLOAT_ROUNDS_PER_S = 5100.0
"""Rounds a second under CPython 3.11 on a 4-core laptop processor at 3 GHz."""
MEASURE_S = 0.1
"""For each of integers and floats."""
MEMORY_S, MEMORY_BYTES = 0.1, 8 * 1024 * 1024
DISK_S, DISK_BYTES = 0.25, 8 * 1024 * 1024
DISK_PIECE_BYTES = 256 * 1024
"""Written and synced one by one, so that a slow card costs one piece and not all."""
SPARE_BYTES = 256 * 1024 * 1024
"""A disk with less free space than this is not written to for the sake of a figure."""
KEEP_S = 30 * 86_400.0
Monotonic = Callable[[], float]


@frozen
class Benchmark:
    """What was measured. Zero: could not be measured."""

    integers: float
    floats: float
    memory_bytes_per_s: int = 0
    disk_bytes_per_s: int = 0

    @property
    def speed(self) -> float:
        """One figure for scripts, which do some of each."""
        return round(_bounded(2.0 / (1.0 / self.integers + 1.0 / self.floats)), 3)

    def document(self) -> dict[str, float]:
        """As `hardware_specs.benchmark` of the register message: what is unknown left out."""
        known = {name: getattr(self, name) for name in BENCHMARK.by_name}
        return {name: value for name, value in known.items() if value}


def _integer_round() -> int:
    total = 0
    for index in range(1, 3001):
        total = (total * 31 + index) & 0xFFFFFFFF
    return total


def _float_round() -> float:
    fraction = 0.0
    for index in range(1, 3001):
        fraction += index * 0.5 / (index + 1.5)
    return fraction


def measure(monotonic: Monotonic, folder: Path) -> Benchmark:
    """All figures, on one processor; the disk is the one of `folder`."""
    return Benchmark(
        round(_bounded(_rounds_per_s(_integer_round, monotonic) / REFERENCE_INTEGER_ROUNDS_PER_S), 3),
        round(_bounded(_rounds_per_s(_float_round, monotonic) / REFERENCE_FLOAT_ROUNDS_PER_S), 3),
        _memory_bytes_per_s(monotonic),
        _disk_bytes_per_s(monotonic, folder),
    )


def _rounds_per_s(work: Callable[[], object], monotonic: Monotonic) -> float:
    begin = monotonic()
    rounds = 0
    while (spent_s := monotonic() - begin) < MEASURE_S:
        work()
        rounds += 1
    return rounds / spent_s


def _memory_bytes_per_s(monotonic: Monotonic) -> int:
    """Copying a block that does not fit the caches of small processors.

    They are mapped: a heap that has once given so large a block keeps it for as long as the worker runs.
    """
    mapped = mmap.mmap(-1, 2 * MEMORY_BYTES)
    with mapped, memoryview(mapped) as whole, whole[:MEMORY_BYTES] as source, whole[MEMORY_BYTES:] as target:
        target[:] = source  # the pages are there from now on
        begin = monotonic()
        copied = 0
        while (spent_s := monotonic() - begin) < MEMORY_S:
            target[:] = source
            copied += MEMORY_BYTES
    return int(copied / spent_s)


def _disk_bytes_per_s(monotonic: Monotonic, folder: Path) -> int:
    """Writing pieces that are synced one by one; 0 where that is not possible."""
    place, piece = folder / "benchmark.tmp", os.urandom(DISK_PIECE_BYTES)
    begin = monotonic()
    written, spent_s = 0, 0.0
    try:
        if shutil.disk_usage(folder).free < SPARE_BYTES:
            return 0
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            while spent_s < DISK_S and written < DISK_BYTES:
                written += os.write(fd, piece)
                os.fsync(fd)
                spent_s = monotonic() - begin
        finally:
            os.close(fd)
            place.unlink()
    except OSError:
        return 0
    return int(written / max(spent_s, 1e-6))


def _bounded(speed: float) -> float:
    return min(1000.0, max(0.001, speed))


def cached_benchmark(place: Path, python_version: str, now: float, monotonic: Monotonic) -> Benchmark:
    """The figures kept in the data folder; measured anew after 30 days or with another Python. `now` is wall time."""
    try:
        kept = json.loads(place.read_text("utf-8"))
        fresh = kept["python_version"] == python_version and 0 <= now - kept["measured_at"] < KEEP_S
        if fresh and not BENCHMARK.problems(kept["benchmark"]):
            return Benchmark(**kept["benchmark"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    measured = measure(monotonic, place.parent)
    document = {"benchmark": measured.document(), "python_version": python_version, "measured_at": now}
    # A full disk costs a measurement at each start, and nothing else.
    with contextlib.suppress(OSError):
        write_whole(place, json.dumps(document) + "\n")
    return measured
