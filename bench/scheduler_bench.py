"""The scheduler and its store alone, in one process: what a task costs as the cluster grows.

Each task is submitted, granted, started and completed; each turn is written to a real database. CPU time of this
process is counted, so other load on the machine matters little.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from measure import report, rss_kib

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.scheduler import Moment, Scheduler, Settings
from retirecluster.domain.tasks import spec_from_document
from retirecluster.store.database import _count_incarnation, _prepare
from retirecluster.store.migrations import migrate
from retirecluster.store.writes import WriteSet, write_txn

SPEC = spec_from_document({"task_type": "echo", "payload": {"message": "x"}})
RESULT = {"status": "completed", "execution_time": 0.5, "epoch": 1, "result": {"output": "x", "exit_code": 0}}
TURN = 64
"""Results that share one transaction."""


class Bench:
    """A scheduler with devices, and a database of its own."""

    def __init__(self, devices: int, folder: Path) -> None:
        import sqlite3

        self.mono_s = 0.0
        self.scheduler = Scheduler.create(Settings(), Random(1), self.now)
        self.connection = sqlite3.connect(folder / "bench.db")
        _prepare(self.connection)
        migrate(self.connection, folder / "bench.db")
        _count_incarnation(self.connection, self.now)
        for number in range(devices):
            document = {"device_info": {}, "hardware_specs": {"cpu_cores": 4}, "slots": 1, "attempts": []}
            self.scheduler.register(profile_from_register(f"device-{number}", document), document, {}, self.now)
        self.write()

    @property
    def now(self) -> Moment:
        self.mono_s += 1e-4
        return Moment(self.mono_s, 1e9 + self.mono_s)

    def write(self) -> list[object]:
        turn = self.scheduler.take_turn(self.now)
        write_txn(self.connection.cursor(), WriteSet.of(turn, self.scheduler.tasks.running_s(self.now)))
        self.connection.commit()
        return list(turn.effects)

    def fill(self, tasks: int) -> None:
        """Tasks that wait; those that are granted stay granted."""
        for start in range(0, tasks, 10_000):
            self.scheduler.submit([SPEC] * min(10_000, tasks - start), self.now)
            self.write()

    def work(self, tasks: int) -> None:
        """Submit, grant, start and complete that many."""
        done = 0
        while done < tasks:
            self.scheduler.submit([SPEC] * TURN, self.now)
            self.write()
            held = [task for device in self.scheduler.devices.values() for task in device.attempts.values()]
            for task in held[:TURN]:
                attempt = task.attempt
                assert attempt is not None
                self.scheduler.attempts.started(task, attempt, self.now)
                self.scheduler.attempts.result(task, attempt, RESULT, self.now)
                done += 1


def cpu_us_each(count: int, do: Callable[[int], None]) -> float:
    began = time.process_time()
    do(count)
    return (time.process_time() - began) / count * 1e6


def measure(devices: int, queued: int, tasks: int) -> None:
    import os

    folder = Path(tempfile.mkdtemp(prefix="retire-bench-"))
    try:
        bench = Bench(devices, folder)
        before_kib = rss_kib(os.getpid())
        bench.fill(queued)
        each_bytes = (rss_kib(os.getpid()) - before_kib) * 1024 / queued if queued >= 10_000 else None
        bench.work(2 * TURN)
        report(
            "task, submit to result",
            devices=devices,
            queued=queued,
            cpu_us_per_task=round(cpu_us_each(tasks, bench.work), 1),
            rss_bytes_per_queued_task=each_bytes and round(each_bytes),
        )
    finally:
        shutil.rmtree(folder)
    del bench
    gc.collect()  # else the next measurement pays for what this one leaves behind


def measure_classes(devices: int, waiting: int, classes: int, ends: int = 500) -> None:
    """One completion and its turn, while tasks wait that ask for so many different amounts of memory."""
    random, now_s = Random(1), 0.0
    scheduler = Scheduler.create(Settings(), random, Moment(0.0, 1e9))
    document = {"device_info": {}, "hardware_specs": {"cpu_cores": 4, "memory_total": 2**33}, "attempts": []}
    for number in range(devices):
        scheduler.register(profile_from_register(f"device-{number}", document), document, {}, Moment(0.0, 1e9))
    task = {"task_type": "echo", "payload": {"message": "x"}}
    scheduler.submit(
        [spec_from_document(task | {"requirements": {"min_memory_gb": 7}})] * devices, Moment(now_s, 1e9 + now_s)
    )
    scheduler.take_turn(Moment(now_s, 1e9))
    wishes = [{"min_memory_gb": 2 + 3 * (number % classes) / classes} for number in range(waiting)]
    random.shuffle(wishes)
    specs = [spec_from_document(task | {"requirements": each}) for each in wishes]
    began_s = time.process_time()
    scheduler.submit(specs, Moment(now_s, 1e9))
    submitted_s = time.process_time()
    scheduler.take_turn(Moment(now_s, 1e9))
    placed_s = time.process_time()
    holders = list(scheduler.devices.values())

    def end(count: int) -> None:
        for number in range(count):
            now = Moment(1.0 + number, 1e9 + number)
            held = next(iter(holders[number % devices].attempts.values()))
            assert held.attempt is not None
            scheduler.attempts.result(held, held.attempt, RESULT | {"epoch": held.epoch}, now)
            scheduler.take_turn(now)

    report(
        "completion and its turn, tasks of distinct demands waiting",
        devices=devices,
        waiting=waiting,
        classes=classes,
        cpu_us_per_completion=round(cpu_us_each(ends, end), 1),
        submit_s=round(submitted_s - began_s, 3),
        next_turn_s=round(placed_s - submitted_s, 3),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--large", action="store_true", help="also 1,000,000 queued tasks (about a minute)")
    parser.add_argument("--classes", type=int, help="instead: so many tasks wait, for one size and each for another")
    options = parser.parse_args()
    if options.classes:
        for classes in (1, options.classes):
            measure_classes(100, options.classes, classes)
        return
    for devices in (10, 100, 1000, 10_000):
        measure(devices, 1000, options.tasks)
    for queued in (1000, 100_000, *([1_000_000] if options.large else [])):
        measure(100, queued, options.tasks)


if __name__ == "__main__":
    main()
