"""What a fenced task costs, as ratios in one run: a bare loop of fork, setsid, limits, eval, pipe, exit to the runner.

Each figure is tasks a second. On one processor both sides are pinned to it; with two, two loops against two runners.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import TICKS_PER_S, report, rss_kib, spread

import retirecluster
from retirecluster.worker.fences import Fences
from retirecluster.worker.runner_process import RunnerSettings

ROOT = str(Path(retirecluster.__file__).parents[1])
IN_FLIGHT = 2
"""The next job waits in the runner's pipe while one runs."""
BARE = """
import sys, time
sys.path.append({root!r})
import os, resource, json, select, signal
import retirecluster.worker.runner.loop
compile("0", "", "eval")
limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 1024), (resource.RLIMIT_FSIZE, 1 << 30),
          (resource.RLIMIT_CPU, 3600), (resource.RLIMIT_AS, 1 << 40)]

def one():
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for which, value in limits:
            resource.setrlimit(which, (value, value))
        os.write(writable, repr(eval("1 + 1")).encode())
        os._exit(0)
    os.close(writable)
    os.read(readable, 100)
    os.close(readable)
    os.waitpid(pid, 0)

def spawn():
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}, setsid=True), 0)

act = {{"eval": one, "true": spawn}}[sys.argv[1]]
for line in sys.stdin:
    count = int(line)
    begin = time.perf_counter()
    for _ in range(count):
        act()
    print(count / (time.perf_counter() - begin), flush=True)
"""
NO_OP = {"type": "python_eval", "payload": {"expression": "1 + 1"}}
TRUE = {"type": "command", "payload": {"argv": ["/bin/true"]}}


def pin(process: subprocess.Popen[bytes], which: int) -> None:
    """Each side has one processor to itself; this program takes what is left, or shares the last."""
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(process.pid, {processors[which % len(processors)]})


class Bare:
    """A bare loop in a process of its own, on its own processor."""

    def __init__(self, act: str, which: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", BARE.format(root=ROOT), act],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        pin(self.process, which)

    def begin(self, count: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"%d\n" % count)
        self.process.stdin.flush()

    def rate(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


class Driver:
    """A runner, kept busy with the same job. `more` goes into each job."""

    def __init__(self, job: dict[str, Any], level: int, folder: str, which: int, **more: Any) -> None:
        settings = runner_settings(level, folder)
        self.process = subprocess.Popen(
            settings.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(settings.variables)
        )
        pin(self.process, which)
        self.job = {"do": "run", "timeout": 300.0, "env": {"RETIRE_TASK_ID": "t", "RETIRE_EPOCH": "1"}, **job, **more}
        self.sent = 0
        self.buffer = b""
        self.count = 0
        self.left = 0
        assert self._reports()[0]["e"] == "ready"

    def _reports(self) -> list[dict[str, Any]]:
        assert self.process.stdout is not None
        *lines, self.buffer = (self.buffer + os.read(self.process.stdout.fileno(), 1 << 20)).split(b"\n")
        return [json.loads(line) for line in lines]

    def _send(self, many: int) -> None:
        assert self.process.stdin is not None
        lines = []
        for _ in range(many):
            self.sent += 1
            lines.append(json.dumps({**self.job, "n": self.sent}).encode() + b"\n")
        os.write(self.process.stdin.fileno(), b"".join(lines))

    def begin(self, count: int) -> None:
        self.count = count
        self._send(IN_FLIGHT)
        self.count -= IN_FLIGHT

    def serve(self) -> bool:
        """Take what it said and send as many again. False once all have ended."""
        ended = 0
        for each in self._reports():
            if each["e"] == "end":
                assert each.get("code") == 0, each
                ended += 1
        more = min(ended, self.count)
        if more:
            self._send(more)
            self.count -= more
        self.left -= ended
        return self.left > 0

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def runner_settings(level: int, folder: str) -> RunnerSettings:
    """The runner of one level as a worker whose data is in `folder` starts it."""
    data = Path(folder)
    data.mkdir(0o700, exist_ok=True)
    variables = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "RETIRE_DEVICE_ID": "bench"}
    return Fences(data, data / "scratch", variables).runner(level)


def bare_rate(loops: list[Bare], count: int) -> float:
    """Tasks a second of all loops together."""
    for each in loops:
        each.begin(count)
    return sum(each.rate() for each in loops)


def runner_rate(drivers: list[Driver], count: int) -> float:
    """Tasks a second of all runners together."""
    for each in drivers:
        each.left = count
        each.begin(count)
    begin = time.perf_counter()
    by_fd = {each.process.stdout.fileno(): each for each in drivers if each.process.stdout is not None}
    while by_fd:
        for fd in select.select(list(by_fd), [], [])[0]:
            if not by_fd[fd].serve():
                del by_fd[fd]
    return len(drivers) * count / (time.perf_counter() - begin)


@contextmanager
def cpu_of(sides: Sequence[Bare | Driver], costs: list[float], tasks: int) -> Iterator[None]:
    """Append processor seconds for each task, of these processes with the children that they have reaped.

    What else runs on the machine falls on this figure far less than on the rate.
    """
    before = sum(whole_cpu_s(each.process.pid) for each in sides)
    yield
    costs.append((sum(whole_cpu_s(each.process.pid) for each in sides) - before) / tasks)


def whole_cpu_s(pid: int) -> float:
    """Processor seconds of a process and of the children that it has reaped."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def compare(name: str, bare: str, job: dict[str, Any], levels: list[int], rounds: int, count: int, many: int) -> None:
    """Rounds of bare and runner in turn, so that what else the machine does falls on both."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        loops = [Bare(bare, each) for each in range(many)]
        sides: dict[int, list[Driver]] = {
            level: [Driver(job, level, f"{folder}/{level}-{each}", each) for each in range(many)] for level in levels
        }
        rates: dict[Any, list[float]] = {each: [] for each in ("bare", *levels)}
        costs: dict[Any, list[float]] = {each: [] for each in ("bare", *levels)}
        for _ in range(rounds):
            with cpu_of(loops, costs["bare"], count * many):
                rates["bare"].append(bare_rate(loops, count))
            for level, drivers in sides.items():
                with cpu_of(drivers, costs[level], count * many):
                    rates[level].append(runner_rate(drivers, count))
        for level in levels:
            ratios = [ours / bare for ours, bare in zip(rates[level], rates["bare"], strict=True)]
            cpu_ratios = [bare / ours for ours, bare in zip(costs[level], costs["bare"], strict=True)]
            rss = max(rss_kib(each.process.pid) for each in sides[level])
            report(name, runners=many, level=level, ratio=spread(ratios, 2), cpu_ratio=spread(cpu_ratios, 2),
                   bare_per_s=spread(rates["bare"], 0), runner_per_s=spread(rates[level], 0),
                   runner_rss_mib=round(rss / 1024, 1))  # fmt: skip
        close: list[Callable[[], None]] = [each.close for each in loops]
        close += [each.close for drivers in sides.values() for each in drivers]
        for each in close:
            each()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", default="1,2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=1000)
    options = parser.parse_args()
    levels = [int(each) for each in options.levels.split(",")]
    for many in (1, 2):
        compare("fresh no-op", "eval", NO_OP, levels, options.rounds, options.tasks, many)
        compare("command true", "true", TRUE, levels, options.rounds, options.tasks, many)


if __name__ == "__main__":
    main()
