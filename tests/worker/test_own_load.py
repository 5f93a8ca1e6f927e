"""What of the load average is the cluster's own: processes that really run, and an hour of a device, simulated."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retirecluster.domain.policy import Policy, Readings, State, decide
from retirecluster.worker.own_load import MEMORY_S, OwnLoad
from retirecluster.worker.process_tree import Usage, descendants, threads_of, usage_of

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
BURN = """
import os, sys, time
sys.stdin.readline()
if os.fork() == 0:
    if os.fork() == 0:
        while time.process_time() < 1.1:
            pass
        os._exit(0)
    os.wait()
    os._exit(0)
os.wait()
print("burnt", flush=True)
sys.stdin.read()
"""


@linux
def test_what_a_tree_has_used_outlasts_its_processes() -> None:
    """A child of a child burns more than a second (/proc counts whole hundredths) and ends: its parents have it."""
    now = [100.0]
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        own = OwnLoad(lambda: usage_of(process.pid), lambda: 0, 64, lambda: now[0])
        began = own.measure()
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"burnt\n"
        assert descendants(process.pid) == [], "those that burnt are gone"
        now[0] += 1.0
        part = math.exp(-1.0 / MEMORY_S)
        assert own.measure() >= part * began + (1 - part) * 1.0
        process.stdin.close()


@linux
def test_a_tree_is_found_with_its_threads() -> None:
    program = "import os, threading, time\nif os.fork() == 0:\n    e = threading.Event()\n    " \
              "threading.Thread(target=e.wait).start()\n    print(os.getpid(), flush=True)\n    time.sleep(300)\n" \
              "os.wait()"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    grandchild = int(process.stdout.readline())
    try:
        assert {process.pid, grandchild} <= set(descendants(os.getpid()))
        assert len(threads_of(grandchild)) == 2
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()
    assert process.pid not in descendants(os.getpid()) and threads_of(process.pid) == []


def test_where_no_children_are_listed_parents_are(tmp_path: Path) -> None:
    """Some kernels, and a name that looks like the fields after it."""
    ticks = os.sysconf("SC_CLK_TCK")
    for pid, parent, state in ((10, 1, "S"), (11, 10, "R"), (12, 11, "D"), (13, 1, "R")):
        text = f"{pid} (a) b (1 2 R) {state} {parent} 0 0 0 0 0 0 0 0 0 {ticks} {ticks} {2 * ticks} 0 20 0 1"
        for place in (tmp_path / str(pid), tmp_path / str(pid) / "task" / str(pid)):
            place.mkdir(parents=True)
            (place / "stat").write_text(text)
    assert descendants(10, tmp_path) == [11, 12]
    assert usage_of(10, tmp_path) == Usage(12.0, 1, 1)
    assert usage_of(99, tmp_path) is None


def test_what_has_run_for_long_counts_at_once_and_what_is_not_told_is_counted() -> None:
    now = [0.0]
    assert OwnLoad(lambda: Usage(1e6, 3, 1), lambda: 0, 8, lambda: now[0]).measure() == 4.0
    untold = OwnLoad(lambda: None, lambda: 2, 8, lambda: now[0])
    assert untold.measure() == 2.0
    now[0] += 10.0
    assert untold.measure() == pytest.approx(2.0)


# An hour of a device: the kernel's average follows what runs every 5 seconds, ours is looked at every 10


class Hour:
    """Tasks of `threads` threads that run from minute 5 to 12, 20 to 21 and 40 to 55, unless the device is paused;
    others put `others(t)` threads on it. What is in the queue runs as much as there are processors."""

    def __init__(self, threads: int, processors: int, max_load: float) -> None:
        self.threads, self.processors = threads, processors
        self.policy = Policy.from_document({"max_load": max_load, "on_pause": "suspend"})
        self.now = self.load = self.cpu_s = 0.0
        self.running = 0
        self.paused = False
        self.changes: list[float] = []
        self.state = State()
        self.own = OwnLoad(lambda: Usage(self.cpu_s, self.running, 0), lambda: 0, processors, lambda: self.now)
        self.worst = 0.0

    def run(self, busy_from_s: float = math.inf) -> None:
        for tick in range(720):
            self.now = 5.0 * tick
            minute = self.now / 60
            wanted = self.threads if 5 <= minute < 12 or 20 <= minute < 21 or 40 <= minute < 55 else 0
            self.running = 0 if self.paused else wanted
            others = 2 if self.now >= busy_from_s else 0
            part = math.exp(-5.0 / 60.0)
            self.load = part * self.load + (1 - part) * (self.running + others)
            share = min(1.0, self.processors / max(1, self.running + others))
            self.cpu_s += 5.0 * self.running * share
            if tick % 2 == 0:
                self.look()

    def look(self) -> None:
        load = max(0.0, round(self.load, 2) - self.own.measure())
        self.worst = max(self.worst, load)
        self.state, verdict = decide(self.policy, self.state, Readings(load=load), self.now)
        if verdict.paused != self.paused:
            self.paused = verdict.paused
            self.changes.append(self.now)


@pytest.mark.parametrize(("threads", "processors"), [(1, 4), (4, 4), (4, 2), (8, 2), (1, 1), (3, 1)])
def test_our_own_tasks_never_pause_the_device(threads: int, processors: int) -> None:
    """Not when they begin, run, or have just ended, however many of their threads share a processor."""
    hour = Hour(threads, processors, max_load=1.0)
    hour.run()
    assert hour.changes == [] and hour.worst < 0.75


@pytest.mark.parametrize(("threads", "processors"), [(1, 4), (4, 4), (4, 2)])
def test_others_pause_it_once_also_while_our_own_run(threads: int, processors: int) -> None:
    hour = Hour(threads, processors, max_load=1.0)
    hour.run(busy_from_s=41 * 60.0)
    assert len(hour.changes) == 1 and 41 * 60 < hour.changes[0] < 44 * 60
