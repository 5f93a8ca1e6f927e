"""A main and many connected devices that only report: what each costs."""

from __future__ import annotations

import argparse
import json
import resource
import time

from measure import Processes, cpu_s, report, rss_kib
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

METRICS = {"cpu_usage": 3.5, "memory_usage": 40.1, "disk_usage": 12.0, "load_average": [0.1, 0.2, 0.3], "uptime": 86400}


class Device(Protocol):
    """Registers, and sends heartbeats when told."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.registered: Deferred[None] = Deferred()
        self.acknowledged = 0

    def connectionMade(self) -> None:
        info = {"hostname": f"device-{self.number}", "platform": "linux", "architecture": "aarch64", "role": "compute"}
        specs = {"cpu_cores": 4, "memory_total": 2**32, "disk_space": 2**35, "network_interfaces": ["wlan0"]}
        self.say("register", {"device_info": info, "hardware_specs": specs, "slots": 4, "attempts": []})

    def say(self, name: str, data: dict[str, object]) -> None:
        message = {"message_type": name, "sender_id": f"device-{self.number}", "data": data}
        self.transport.write(json.dumps(message).encode() + b"\n")

    def heartbeat(self) -> None:
        self.say("heartbeat", {"system_metrics": METRICS, "status": "online", "active_tasks": 0, "attempts": []})

    def dataReceived(self, data: bytes) -> None:
        self.acknowledged += data.count(b'"heartbeat_ack"')
        if not self.registered.called and b'"register_ack"' in data:
            self.registered.callback(None)


async def measure(count: int) -> None:
    with Processes() as processes:
        main_process, port, _ = processes.start_main()
        before_kib = rss_kib(main_process.pid)
        began, cpu = time.perf_counter(), cpu_s(main_process.pid)
        devices = []
        for number in range(count):
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
            devices.append(await connectProtocol(endpoint, Device(number)))
        await DeferredList([device.registered for device in devices])
        report(
            "registered",
            devices=count,
            seconds=round(time.perf_counter() - began, 2),
            main_cpu_us_each=round((cpu_s(main_process.pid) - cpu) / count * 1e6),
            main_rss_kib_each=round((rss_kib(main_process.pid) - before_kib) / count, 1),
        )
        rounds, cpu = 10, cpu_s(main_process.pid)
        for _ in range(rounds):
            for device in devices:
                device.heartbeat()
            await task.deferLater(reactor, 1.0, lambda: None)
        while sum(device.acknowledged for device in devices) < rounds * count:
            await task.deferLater(reactor, 0.05, lambda: None)
        beat_us = (cpu_s(main_process.pid) - cpu) / (rounds * count) * 1e6
        report(
            "heartbeats",
            devices=count,
            main_cpu_us_each=round(beat_us, 1),
            percent_of_a_core_at_60_s=round(beat_us * count / 60 / 1e4, 3),
            main_rss_kib_each=round((rss_kib(main_process.pid) - before_kib) / count, 1),
        )
        for device in devices:
            device.transport.abortConnection()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", type=int, nargs="?", default=1000)
    options = parser.parse_args()
    wanted = options.devices + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    task.react(lambda _: Deferred.fromCoroutine(measure(options.devices)))


if __name__ == "__main__":
    main()
