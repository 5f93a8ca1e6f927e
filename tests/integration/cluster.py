"""Real processes: a main and workers started through twistd, talked to over HTTP, killed as told."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TWISTD = [sys.executable, "-c", "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"]


def eventually(check: Callable[[], Any], timeout_s: float = 30.0, what: str = "it") -> Any:
    """The first true answer of `check`; fails after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what} did not happen within {timeout_s} s"
        time.sleep(0.02)


class HttpProblem(Exception):
    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body[:500]!r}")
        self.status = status
        self.body = body


class RealCluster:
    """A main, and workers by name, each in its own data folder under `folder`."""

    host = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    """How its web port is spoken to, if by https."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.worker_port = self.web_port = 0

    # -- processes

    def choose_ports(self) -> None:
        """Settle on free ports, so that workers may be started before the main is."""
        with socket.create_server((self.host, 0)) as one, socket.create_server((self.host, 0)) as two:
            self.worker_port, self.web_port = one.getsockname()[1], two.getsockname()[1]

    def start_main(self, *options: str, environ: Mapping[str, str] | None = None) -> None:
        """Start the main and wait until it listens."""
        log = self.launch_main(*options, environ=environ)

        def listening() -> Any:
            text = log.read_text()
            assert self.processes["main"].poll() is None, text
            workers = re.findall(r"workers: [\d.]+:(\d+)", text)
            web = re.findall(r"web: https?://[\d.]+:(\d+)/", text)
            return (int(workers[-1]), int(web[-1])) if web and workers else None

        self.worker_port, self.web_port = eventually(listening, what="listening")

    def launch_main(self, *options: str, environ: Mapping[str, str] | None = None) -> Path:
        """Start the main and wait for nothing; its log."""
        return self._start(
            "main",
            [
                "retire-main",
                "--data-dir",
                str(self.folder / "main"),
                "--port",
                str(self.worker_port),
                "--web-port",
                str(self.web_port),
                *options,
            ],
            environ,
        )

    def start_worker(self, name: str, *options: str, environ: Mapping[str, str] | None = None) -> None:
        data = str(self.folder / name)
        join = f"{self.host}:{self.worker_port}"
        arguments = ["retire-worker", "--join", join, "--data-dir", data, "--device-id", name, *options]
        self._start(name, arguments, environ)

    def _start(self, name: str, arguments: list[str], environ: Mapping[str, str] | None = None) -> Path:
        number = len(list(self.folder.glob(f"{name}-*.log")))
        log = self.folder / f"{name}-{number}.log"
        with log.open("wb") as output:
            self.processes[name] = subprocess.Popen(
                [*self.prefix(name), *TWISTD, "-n", "--pidfile=", *arguments],
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env={**os.environ, **self.environ, **(environ or {})},
            )
        return log

    def prefix(self, name: str) -> list[str]:
        """What is put before a daemon's command line."""
        return []

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one of the processes and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(30)

    def stop(self) -> None:
        """End everything that still runs."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def logs(self, name: str) -> str:
        return "".join(path.read_text(errors="replace") for path in sorted(self.folder.glob(f"{name}-*.log")))

    def assert_no_tracebacks(self) -> None:
        for path in self.folder.glob("*.log"):
            assert "Traceback" not in path.read_text(errors="replace"), path.read_text(errors="replace")

    # -- HTTP

    @property
    def token(self) -> str:
        return (self.folder / "main" / "admin.token").read_text()

    def request(self, method: str, path: str, body: Any = None, timeout_s: float = 60.0) -> Any:
        """The `data` of an answer of /api/v1. Raises HttpProblem."""
        request = urllib.request.Request(
            f"{'https' if self.tls else 'http'}://{self.host}:{self.web_port}/api/v1/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s, context=self.tls) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise HttpProblem(error.code, error.read()) from None

    def get(self, path: str) -> Any:
        return self.request("GET", path)

    def text(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.web_port}/{path}", timeout=30) as answer:
            return answer.read().decode()

    def submit(self, *documents: dict[str, Any]) -> list[str]:
        """Submit tasks; their ids."""
        return [task["task_id"] for task in self.request("POST", "tasks", list(documents))["tasks"]]

    def ended(self, task_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The task once it has ended."""
        final = {"completed", "failed", "cancelled", "expired", "lost"}

        def check() -> Any:
            task = self.get(f"tasks/{task_id}?wait=5")
            return task if task["status"] in final else None

        return eventually(check, timeout_s, f"the end of {task_id}")

    def devices(self) -> dict[str, str]:
        """Device ids to their status."""
        return {device["device_id"]: device["status"] for device in self.get("devices")["devices"]}

    def wait_online(self, *names: str) -> None:
        eventually(lambda: all(self.devices().get(name) == "online" for name in names), what=f"{names} online")

    def counts(self) -> dict[str, int]:
        """Tasks by state, those with none left out."""
        return {state: count for state, count in self.get("cluster/status")["tasks"].items() if count}


def descendants(pid: int) -> list[int]:
    """Processes below one, as /proc has them."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found
