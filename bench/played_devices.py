"""Devices that are played over the line protocol: they report, take tasks, and say that they run them.

One process plays any number of them. For pictures of a cluster that nobody owns, and for measuring pages with many
devices. `--devices FILE` is a JSON array of objects: `device_id`, and what is known of the device (`info`, `specs`,
`metrics`, `slots`, `policy`: the data of an availability message); `--count N` makes them up.

A task runs as long as its payload says (`duration_s`), prints a line now and then, and fails if its name ends in `!`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import time
from pathlib import Path
from typing import Any

LINES = ("reading the input", "decoding", "halfway there", "checking the result", "writing the output")
ROLES = (("linux", "aarch64", "compute"), ("android", "aarch64", "mobile"), ("linux", "x86_64", "worker"))


class Device:
    """One played device on its connection."""

    def __init__(self, about: dict[str, Any], beat_s: float) -> None:
        self.about = about
        self.device_id = about["device_id"]
        self.beat_s = beat_s
        self.jobs: dict[str, asyncio.Task[None]] = {}
        self.phase = random.random() * math.tau
        self.writer: asyncio.StreamWriter | None = None

    def say(self, name: str, data: dict[str, Any]) -> None:
        """Send a message, if connected."""
        if self.writer is not None and not self.writer.is_closing():
            line = json.dumps({"message_type": name, "sender_id": self.device_id, "data": data})
            self.writer.write(line.encode() + b"\n")

    async def live(self, port: int) -> None:
        """Register and work; connect again when the connection ends."""
        while True:
            try:
                reader, self.writer = await asyncio.open_connection("127.0.0.1", port, limit=2**21)
                await self._work(reader)
            except OSError:
                pass
            await asyncio.sleep(1 + random.random())

    async def _work(self, reader: asyncio.StreamReader) -> None:
        about = self.about
        register = {"device_info": about["info"], "hardware_specs": about["specs"], "slots": about["slots"]}
        self.say("register", {**register, "attempts": []})
        beating = asyncio.ensure_future(self._beat())
        try:
            while line := await reader.readline():
                self._take(json.loads(line))
        finally:
            beating.cancel()

    async def _beat(self) -> None:
        await asyncio.sleep(0.2)
        if self.about.get("policy"):
            self.say("availability", self.about["policy"])
        while True:
            self.say(
                "heartbeat", {"system_metrics": self._metrics(), "status": "online", "active_tasks": len(self.jobs)}
            )
            await asyncio.sleep(self.beat_s)

    def _metrics(self) -> dict[str, Any]:
        wave = math.sin(time.time() / 47 + self.phase) + math.sin(time.time() / 11 + 2 * self.phase) / 3
        busy = len(self.jobs) / max(1, self.about["slots"])
        given = dict(self.about["metrics"])
        given["cpu_usage"] = round(min(100, max(1, 6 + 5 * wave + 78 * busy)), 1)
        given["memory_usage"] = round(min(100, max(5, given.get("memory_usage", 40) + 6 * wave + 9 * busy)), 1)
        if "temperature" in given:
            given["temperature"] = round(given["temperature"] + 3 * wave + 12 * busy, 1)
        return given | {"uptime": time.monotonic(), "load_average": [round(busy * self.about["slots"], 2)] * 3}

    def _take(self, message: dict[str, Any]) -> None:
        name, data = message["message_type"], message["data"]
        if name == "task_assign":
            task = data["task"]
            self.jobs[task["task_id"]] = asyncio.ensure_future(self._run(task))
        elif name == "task_cancel" and data["task_id"] in self.jobs:
            self.jobs.pop(data["task_id"]).cancel()
            self._end(data["task_id"], data.get("epoch"), "cancelled", "")

    async def _run(self, task: dict[str, Any]) -> None:
        task_id, epoch = task["task_id"], task["epoch"]
        key = {"task_id": task_id, "epoch": epoch}
        duration_s = float(task["payload"].get("duration_s", 1.0))
        self.say("task_started", key)
        steps = max(1, min(50, int(duration_s / 0.4)))
        for step in range(steps):
            await asyncio.sleep(duration_s / steps)
            if steps > 1:
                percent = round(100 * (step + 1) / steps, 1)
                words = LINES[len(LINES) * step // steps]
                self.say("task_progress", {**key, "percent": percent, "message": words})
                self.say(
                    "task_output", {**key, "stream": "stdout", "seq": step, "data": f"{percent:5.1f} %  {words}\n"}
                )
        self.jobs.pop(task_id, None)
        self._end(task_id, epoch, "failed" if task.get("name", "").endswith("!") else "completed", "done\n", duration_s)

    def _end(self, task_id: str, epoch: Any, status: str, output: str, took_s: float = 0.0) -> None:
        result: dict[str, Any] = {"output": output, "exit_code": 0 if status == "completed" else 1}
        data = {"task_id": task_id, "epoch": epoch, "status": status, "result": result, "execution_time": took_s}
        if status == "failed":
            data["error"] = {"code": "exit", "message": "ended with status 1: the input has no sound track"}
        self.say("task_result", data)


def made_up(count: int, slots: int) -> list[dict[str, Any]]:
    """So many devices of a few kinds."""
    found = []
    for number in range(count):
        platform, architecture, role = ROLES[number % len(ROLES)]
        name = f"{role}-{number:04d}"
        info = {"hostname": name, "platform": platform, "architecture": architecture, "role": role}
        specs = {"cpu_cores": 4, "memory_total": 2**32, "disk_space": 2**35}
        metrics = {"memory_usage": 25 + number % 40, "disk_usage": 30.0, "temperature": 38 + number % 9}
        found.append({"device_id": name, "info": info, "specs": specs, "metrics": metrics, "slots": slots})
    return found


async def play(devices: list[dict[str, Any]], port: int, beat_s: float) -> None:
    """All devices, until the process is ended."""
    await asyncio.gather(*(Device(each, beat_s).live(port) for each in devices))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="the main's port for workers, on this machine")
    parser.add_argument("--devices", type=Path, help="a JSON file; else --count are made up")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--beat-s", type=float, default=10.0, help="seconds between two heartbeats")
    given = parser.parse_args()
    devices = json.loads(given.devices.read_text()) if given.devices else made_up(given.count, given.slots)
    asyncio.run(play(devices, given.port, given.beat_s))


if __name__ == "__main__":
    main()
