"""A real runner, driven from a test without Twisted."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import retirecluster.worker.runner as package
from retirecluster.worker.runner_process import RunnerSettings

MAIN = Path(package.__file__).parent / "__main__.py"
Report = dict[str, Any]


class RunnerClient:
    """Orders in, reports out; every wait has an end."""

    def __init__(self, scratch: Path, *paths: str, settings: RunnerSettings | None = None) -> None:
        self.scratch = scratch
        plain = [sys.executable, "-I", "-S", "-X", "utf8", str(MAIN), json.dumps({"scratch": str(scratch)}), *paths]
        self.process = subprocess.Popen(
            plain if settings is None else settings.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(settings.variables)
            if settings is not None
            else {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "RETIRE_DEVICE_ID": "device-1"},
        )
        self.count = 0
        self._buffer = b""
        self.ready = self.report()
        assert self.ready["e"] == "ready", self.ready

    @property
    def pid(self) -> int:
        return self.process.pid

    def order(self, order: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def start(self, task_type: str, payload: dict[str, Any], timeout: float = 20.0, **more: Any) -> int:
        """Order a task; its number."""
        self.count += 1
        environment = {"RETIRE_TASK_ID": f"task-{self.count}", "RETIRE_EPOCH": "7"} | more.pop("env", {})
        order = {"do": "run", "n": self.count, "type": task_type, "payload": payload, "timeout": timeout}
        self.order(order | {"env": environment} | more)
        return self.count

    def report(self, timeout_s: float = 20.0) -> Report:
        """The next report."""
        assert self.process.stdout is not None
        end = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            ready = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, "the runner says nothing"
            data = os.read(self.process.stdout.fileno(), 1 << 20)
            assert data, "the runner has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        found: Report = json.loads(line)
        return found

    def until_end(self, number: int | None = None) -> list[Report]:
        """Reports up to the end of a task."""
        wanted = self.count if number is None else number
        reports = []
        while True:
            reports.append(self.report())
            if reports[-1]["e"] == "end" and reports[-1]["n"] == wanted:
                return reports

    def run(self, task_type: str, payload: dict[str, Any], timeout: float = 20.0, **more: Any) -> Report:
        """Run a task; its `end` report."""
        self.start(task_type, payload, timeout, **more)
        return self.until_end()[-1]

    def script(self, source: str, timeout: float = 20.0, **more: Any) -> Report:
        return self.run("python_script", {"source": source} | more.pop("payload", {}), timeout, **more)

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


def alive(pid: int) -> bool:
    """True for a process that runs; zombies are dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def gone_within(pids: list[int], seconds: float) -> bool:
    """True if none of the processes lives after at most `seconds`."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def rss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])
