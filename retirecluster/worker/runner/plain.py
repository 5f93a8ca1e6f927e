"""The runner where processes cannot be forked (Windows): each task has an interpreter, or a program, of its own.

It speaks as the other one does. What it cannot give is not pretended: no limits but the timeout and the length of the
output, no warm processes (tasks of a lane follow each other, each in a process of its own), no stopping and going on.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time

from retirecluster.worker.runner import limits
from retirecluster.worker.runner.lines import decode_line, encode_line
from retirecluster.worker.runner.plain_task import Place, PlainTask

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    Order = dict[str, Any]

ORDERS, REPORTS = 0, 1
PREFIX = "run-0-"
LEAVES_WITHIN_S = 5.0


def serve_plain(scratch: str, packages: list[str]) -> int:
    """Serve until the channel closes. `packages` are the folders that tasks import packages from."""
    os.makedirs(scratch, 0o700, exist_ok=True)
    for name in os.listdir(scratch):
        if name.startswith(PREFIX):
            shutil.rmtree(os.path.join(scratch, name), ignore_errors=True)
    mine = os.path.join(scratch, f"{PREFIX}{os.getpid()}-{time.time_ns():x}")
    os.mkdir(mine, 0o700)
    try:
        PlainRunner(mine, packages).run()
    finally:
        shutil.rmtree(mine, ignore_errors=True)
    return 0


class PlainRunner:
    """All tasks of this runner. Orders are read here; each task reports from threads of its own."""

    def __init__(self, mine: str, packages: list[str]) -> None:
        self._mine = mine
        self._packages = packages
        self._lock = threading.RLock()
        self._saying = threading.Lock()
        self._tasks: dict[int, PlainTask] = {}
        self._lanes: dict[str, list[Order]] = {}
        """What waits behind the task that runs in a lane."""

    def run(self) -> None:
        """Read orders until there is nobody to give any, then end every task."""
        self.say({"e": "ready", "pid": os.getpid(), "level": 0, "layers": []})
        rest = b""
        while data := os.read(ORDERS, limits.READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._obey(decode_line(line))
        self._end_everything()

    def say(self, message: dict[str, Any]) -> None:
        """Send one message to the worker; waits while that reads nothing."""
        data = encode_line(message)
        with self._saying:
            try:
                while data:
                    data = data[os.write(REPORTS, data) :]
            except OSError:  # nobody listens any more: the channel's end is on its way
                return

    def _obey(self, order: Order) -> None:
        with self._lock:
            if order["do"] == "run":
                lane = order.get("lane")
                if lane in self._lanes:
                    self._lanes[lane].append(order)
                    return
                if lane is not None:
                    self._lanes[lane] = []
                self._run(order)
            elif order["do"] == "recall":
                self._recall(order["lane"])
            elif order["do"] == "cancel":
                self._cancel(order)

    def _run(self, job: Order) -> None:
        task = PlainTask(job, Place(self._mine, job, self._packages), self.say, self._over)
        self._tasks[job["n"]] = task
        task.start()

    def _recall(self, lane: str) -> None:
        waiting = self._lanes.get(lane) or []
        for order in waiting:
            self.say({"e": "returned", "n": order["n"]})
        waiting.clear()

    def _cancel(self, order: Order) -> None:
        task = self._tasks.get(order["n"])
        if task is not None:
            return task.cancel(order.get("grace", limits.GRACE_S))
        for waiting in self._lanes.values():
            for each in [each for each in waiting if each["n"] == order["n"]]:
                waiting.remove(each)
                self.say({"e": "end", "n": each["n"], "code": None, "signal": None, "cancelled": True})

    def _over(self, task: PlainTask) -> None:
        """It has ended and said so; the next one of its lane begins."""
        with self._lock:
            del self._tasks[task.number]
            waiting = self._lanes.get(task.lane) if task.lane is not None else None
            if waiting:
                self._run(waiting.pop(0))
            elif waiting is not None:
                del self._lanes[str(task.lane)]

    def _end_everything(self) -> None:
        with self._lock:
            self._lanes = {}
            tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel(0.0)
        give_up_at = time.monotonic() + LEAVES_WITHIN_S
        for task in tasks:
            task.join(max(0.0, give_up_at - time.monotonic()))
        sys.stderr.flush()
