"""200 dashboards that read slowly or not at all, 1,000 device updates a second and tasks that run: what the API's
well-behaved clients notice of it.

One run has three parts over the same main: with no dashboard, with dashboards that read all, and with slow ones (every
second one reads nothing, the others 4 KiB a second). In each, one client asks for the cluster's status and for a task
in turn; its latencies are reported, and how much processor time and memory the main takes.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from measure import Api, Processes, cpu_s, percentile, report, rss_kib

PLAYED = Path(__file__).parent / "played_devices.py"
STREAMS = ("devices", "tasks", "events")
SLOW_BYTES = 4096
PAUSE_S = 0.02
"""Between two requests of the well-behaved client."""


class Dashboards:
    """Streams that are read by a thread of their own: all that comes, or slowly and by every second one only."""

    def __init__(self, port: int, count: int, *, slow: bool) -> None:
        self.slow = slow
        self.ended = threading.Event()
        self.dropped = 0
        self.read_bytes = 0
        self.open = [self._follow(port, STREAMS[number % len(STREAMS)]) for number in range(count)]
        self.thread = threading.Thread(target=self._read_slowly if slow else self._read_all)
        self.thread.start()

    def _follow(self, port: int, stream: str) -> socket.socket:
        each = socket.socket()
        if self.slow:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
        each.connect(("127.0.0.1", port))
        each.sendall(f"GET /stream/{stream} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        return each

    def _read_all(self) -> None:
        selector = selectors.DefaultSelector()
        for each in self.open:
            selector.register(each, selectors.EVENT_READ)
        while not self.ended.is_set():
            for key, _ in selector.select(0.2):
                data = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                self.read_bytes += len(data)
                if not data:
                    selector.unregister(key.fileobj)
                    self.dropped += 1

    def _read_slowly(self) -> None:
        readers = self.open[::2]
        while not self.ended.wait(1.0):
            for each in list(readers):
                try:
                    each.setblocking(False)
                    data = each.recv(SLOW_BYTES)
                except BlockingIOError:
                    continue
                except OSError:
                    data = b""
                self.read_bytes += len(data)
                if not data:
                    readers.remove(each)
                    self.dropped += 1

    def close(self) -> None:
        """Stop reading, and leave."""
        self.ended.set()
        self.thread.join()
        for each in self.open:
            each.close()


class Load:
    """Tasks that are submitted all the time."""

    def __init__(self, api: Api, tasks_per_s: int) -> None:
        self.api, self.tasks_per_s = api, tasks_per_s
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        task = {"task_type": "echo", "payload": {"message": "x", "duration_s": 0.5}}
        while not self.ended.wait(1.0):
            self.api.request("POST", "tasks", [task] * self.tasks_per_s)

    def close(self) -> None:
        self.ended.set()
        self.thread.join()


def latencies_ms(api: Api, task_id: str, seconds: float) -> list[float]:
    """How long each request of a well-behaved client took."""
    found, paths, end = list[float](), ("cluster/status", f"tasks/{task_id}"), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        api.request("GET", paths[len(found) % 2])
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE_S)
    return found


def measure(what: str, api: Api, pid: int, task_id: str, seconds: float, dashboards: Dashboards | None) -> None:
    latencies_ms(api, task_id, 2.0)
    cpu, heartbeats = cpu_s(pid), heartbeats_of(api)
    found = latencies_ms(api, task_id, seconds)
    report(
        what,
        requests=len(found),
        p50_ms=round(percentile(found, 50), 1),
        p99_ms=round(percentile(found, 99), 1),
        max_ms=round(max(found), 1),
        device_updates_per_s=round((heartbeats_of(api) - heartbeats) / seconds),
        main_cpu=round((cpu_s(pid) - cpu) / seconds, 2),
        main_rss_mib=round(rss_kib(pid) / 1024),
        read_mib=round(dashboards.read_bytes / 2**20, 1) if dashboards else 0,
        streams_open=api.request("GET", "cluster/metrics")["streams"],
    )


def heartbeats_of(api: Api) -> float:
    """Heartbeats that the main has taken in, from its own figures."""
    api.connection.request("GET", "/text/metrics", headers=api.headers)
    text = api.connection.getresponse().read().decode()
    lines = [line for line in text.splitlines() if line.startswith("retire_heartbeats")]
    return sum(float(line.split()[-1]) for line in lines if "_created" not in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--dashboards", type=int, default=200)
    parser.add_argument("--tasks-per-s", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    os.environ["RETIRE_MAX_CONNECTIONS_PER_PEER"] = str(options.devices + 10)
    with Processes() as processes:
        process, port, web_port = processes.start_main()
        played = [sys.executable, str(PLAYED), "--port", str(port), "--count", str(options.devices), "--beat-s", "1"]
        processes.running.append(subprocess.Popen(played))
        api = Api(web_port, processes.folder)
        api.wait_slots(2 * options.devices)
        waiting: dict[str, Any] = {"task_type": "echo", "payload": {}, "requirements": {"device": "nobody"}}
        task_id = api.request("POST", "tasks", waiting)["task_id"]
        load = Load(Api(web_port, processes.folder), options.tasks_per_s)
        try:
            measure("no dashboard", api, process.pid, task_id, options.seconds, None)
            for what, slow in (("dashboards that read", False), ("dashboards that hardly read", True)):
                dashboards = Dashboards(web_port, options.dashboards, slow=slow)
                try:
                    measure(what, api, process.pid, task_id, options.seconds, dashboards)
                finally:
                    dashboards.close()
        finally:
            load.close()


if __name__ == "__main__":
    main()
