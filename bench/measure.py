"""Real processes to measure: a main and workers, their CPU time and memory, and a small HTTP client."""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TWISTD = [sys.executable, "-c", "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def report(what: str, **figures: Any) -> None:
    """One line of JSON."""
    print(json.dumps({"what": what, **figures}), flush=True)


def spread(values: list[float], digits: int = 1) -> dict[str, float]:
    """Median, least and greatest of several runs."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def percentile(values: list[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1)))]


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def cpu_with_children_s(pid: int) -> float:
    """The same, with that of children which have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / TICKS_PER_S


def rss_kib(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) if match else 0


class Processes:
    """A main on free ports and workers, in a folder of their own; stopped at the end of the block."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="retire-bench-"))
        self.running: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(30)

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen([*TWISTD, "-n", "--pidfile=", *arguments], stdout=log, stderr=log)
        self.running.append(process)
        return process

    def start_main(self, *options: str) -> tuple[subprocess.Popen[bytes], int, int]:
        """The main's process, its worker port and its web port."""
        data = str(self.folder / "main")
        process = self.start("main", "retire-main", "--data-dir", data, "--port", "0", "--web-port", "0", *options)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            text = (self.folder / "main.log").read_text()
            workers, web = re.search(r"workers: \S+:(\d+)", text), re.search(r"web: http://\S+:(\d+)/", text)
            if workers and web:
                return process, int(workers[1]), int(web[1])
            time.sleep(0.02)
        raise SystemExit((self.folder / "main.log").read_text())

    def start_worker(self, name: str, port: int, *options: str) -> subprocess.Popen[bytes]:
        data = str(self.folder / name)
        join = f"127.0.0.1:{port}"
        return self.start(name, "retire-worker", "--join", join, "--data-dir", data, "--device-id", name, *options)


class Api:
    """One kept-alive connection to /api/v1."""

    def __init__(self, port: int, folder: Path) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        token = (folder / "main" / "admin.token").read_text()
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def request(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body)
        self.connection.request(method, f"/api/v1/{path}", data, self.headers)
        answer = self.connection.getresponse()
        document = json.loads(answer.read())
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {document}")
        return document["data"]

    def wait_slots(self, count: int) -> None:
        """Until that many slots are online."""
        while self.request("GET", "cluster/status")["slots"]["total"] < count:
            time.sleep(0.05)

    def wait_all_ended(self) -> None:
        """Until no task waits or runs."""
        while True:
            tasks = self.request("GET", "cluster/status")["tasks"]
            if not any(tasks[state] for state in ("queued", "assigned", "running", "retrying")):
                return
            time.sleep(0.1)
