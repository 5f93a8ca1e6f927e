"""Warm tasks against fresh ones in one run, through the worker's executor and its runner, at isolation level 1.

Tasks a second of no-op Python tasks, rounds of both in turn; and the memory of the runner and of a warm process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Any

from measure import report, rss_kib, spread
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred

from retirecluster.worker.assignment import Assignment
from retirecluster.worker.executor import TaskExecutor
from retirecluster.worker.runner_process import RunnerSettings, task_variables

QUEUED = 48
"""How many tasks the executor has at a time: what a main gives a worker of one slot ahead, and a few."""


class Load:
    """Hears of the tasks, and keeps the executor supplied with the next ones."""

    def __init__(self) -> None:
        self.executor: Any = None
        self.count = self.left = 0
        self.to_give = 0
        self.warm = False
        self.over: Deferred[None] = Deferred()
        self.values: set[str] = set()

    async def run(self, count: int, warm: bool) -> float:
        """Tasks a second."""
        self.left = self.to_give = count
        self.warm = warm
        self.over = Deferred()
        begin = time.perf_counter()
        for _ in range(QUEUED):
            self._give()
        await self.over
        return count / (time.perf_counter() - begin)

    def _give(self) -> None:
        if self.to_give:
            self.to_give -= 1
            self.count += 1
            payload = {"expression": "__import__('os').getpid()"}
            warm_for = "bench" if self.warm else None
            self.executor.execute_task(Assignment(f"task-{self.count}", 1, "python_eval", payload, warm_for=warm_for))

    def task_starting(self, assignment: Assignment) -> None:
        return None

    def task_not_begun(self, assignment: Assignment) -> None: ...

    def task_started(self, assignment: Assignment, pid: int | None) -> None: ...

    def task_output(self, assignment: Assignment, stream: str, seq: int, data: str) -> None: ...

    def task_progress(self, assignment: Assignment, percent: float | None, message: str) -> None: ...

    def task_finished(self, assignment: Assignment, data: dict[str, Any]) -> None:
        assert data["status"] == "completed", data
        self.values.add(data["result"]["output"])
        self.left -= 1
        self._give()
        if not self.left:
            self.over.callback(None)


async def measure(options: argparse.Namespace, folder: str) -> None:
    settings = RunnerSettings(folder, task_variables(os.environ))
    for slots in (1, 2):
        load = Load()
        executor = TaskExecutor(reactor, lambda process, level: process.start(reactor, settings), slots)
        executor.warm_tasks = options.warm_tasks
        load.executor, executor.listener = executor, load
        executor.start()
        await load.run(50, False)
        await load.run(50, True)
        fresh, warm = [], []
        for _ in range(options.rounds):
            fresh.append(await load.run(options.tasks, False))
            load.values.clear()
            warm.append(await load.run(options.tasks * 5, True))
        ratios = [one / other for one, other in zip(warm, fresh, strict=True)]
        pid = executor.runner_pid
        assert pid is not None
        figures = {"warm_per_s": spread(warm, 0), "fresh_per_s": spread(fresh, 0), "processes": len(load.values)}
        rss_mib = round(rss_kib(pid) / 1024, 1)
        report("warm no-op", slots=slots, ratio=spread(ratios, 2), runner_rss_mib=rss_mib, **figures)
        await executor.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000, help="fresh ones in a round; five times as many warm ones")
    parser.add_argument("--warm-tasks", type=int, default=1000)
    options = parser.parse_args()

    def done(outcome: Any) -> None:
        if outcome is not None:
            print(outcome, file=sys.stderr)
        reactor.stop()  # type: ignore[attr-defined]

    with tempfile.TemporaryDirectory() as folder:
        reactor.callWhenRunning(lambda: ensureDeferred(measure(options, folder)).addBoth(done))  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
