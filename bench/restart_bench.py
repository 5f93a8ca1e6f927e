"""A main with many queued and running tasks is killed and started again: seconds until it serves.

The devices are simulated over bare sockets: each takes one task and says that it runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import threading
import time
from typing import Any

from measure import Api, Processes, report, rss_kib

TASK = {"task_type": "echo", "payload": {"message": "x" * 100}}
BATCH = 5000


class Device:
    """A device that never finishes anything, and comes back when its line breaks."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.held: dict[str, int] = {}
        self.resumed = 0
        self.sessions = 0

    async def live(self) -> None:
        while True:
            try:
                await self._session()
            except OSError:
                await asyncio.sleep(0.2)

    async def _session(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**21)
        while line := await reader.readline():
            message = json.loads(line)
            kind, data = message["message_type"], message["data"]
            if kind == "connection_ack":
                self._say(writer, "register", self._register())
            elif kind == "register_ack":
                self.sessions += 1
                self.resumed = len(data["resume"])
            elif kind == "task_assign":
                task = data["task"]
                self.held[task["task_id"]] = task["epoch"]
                self._say(writer, "task_started", {"task_id": task["task_id"], "epoch": task["epoch"]})
            elif kind == "ping":
                self._say(writer, "pong", {})
        writer.close()

    def _register(self) -> dict[str, Any]:
        claims = [{"task_id": task_id, "epoch": epoch, "state": "running"} for task_id, epoch in self.held.items()]
        hardware = {"cpu_cores": 4, "memory_total": 2**33}
        return {"device_info": {"role": "worker"}, "hardware_specs": hardware, "slots": 1, "attempts": claims}

    def _say(self, writer: asyncio.StreamWriter, kind: str, data: dict[str, Any]) -> None:
        writer.write(json.dumps({"message_type": kind, "sender_id": self.name, "data": data}).encode() + b"\n")


def live_all(devices: list[Device]) -> None:
    async def together() -> None:
        await asyncio.gather(*(device.live() for device in devices))

    asyncio.run(together())


def until(check: Any) -> float:
    """Seconds until `check()` is true."""
    began = time.monotonic()
    while not check():
        time.sleep(0.02)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--running", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with Processes() as processes:
        process, worker_port, web_port = processes.start_main()
        devices = [Device(f"device-{number}", worker_port) for number in range(options.running)]
        threading.Thread(target=live_all, args=(devices,), daemon=True).start()
        api = Api(web_port, processes.folder)
        api.wait_slots(options.running)
        began, left = time.monotonic(), options.queued + options.running
        while left:
            api.request("POST", "tasks", [TASK] * min(BATCH, left))
            left -= min(BATCH, left)
        report("submitted", tasks=options.queued + options.running, seconds=round(time.monotonic() - began, 1))
        until(lambda: api.request("GET", "cluster/status")["tasks"]["running"] == options.running)
        for _ in range(options.runs):
            before = [device.sessions for device in devices]
            process.send_signal(signal.SIGKILL)
            process.wait()
            began = time.monotonic()
            process, _, _ = processes.start_main("--port", str(worker_port), "--web-port", str(web_port))
            api = Api(web_port, processes.folder)
            counts = api.request("GET", "cluster/status")["tasks"]
            served = time.monotonic() - began
            until(lambda seen=before: all(d.sessions > n for d, n in zip(devices, seen, strict=True)))
            report(
                "killed and started again",
                queued=counts["queued"],
                running=counts["running"],
                serves_after_s=round(served, 2),
                all_devices_back_after_s=round(time.monotonic() - began, 2),
                attempts_resumed=sum(device.resumed for device in devices),
                rss_mib=rss_kib(process.pid) // 1024,
            )


if __name__ == "__main__":
    main()
