"""The main's own CPU for each task, submit to final result, in batches; the devices are simulated and cost it nothing.

Every device answers each assignment at once with `task_started` and `task_result`, as real workers with no-op tasks do.
`--profile FILE` writes a profile of the main by py-spy, where that is installed.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import signal
import subprocess
import time

from measure import Api, Processes, cpu_s, report, spread
from twisted.internet import reactor, task
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread

ASSIGNED = re.compile(rb'"task_assign".*?"task_id": ?"([^"]+)", ?"epoch": ?(\d+)')
RESULT = (
    '{"message_type":"task_started","sender_id":"x","data":{"task_id":"%(id)s","epoch":%(epoch)s}}\n'
    '{"message_type":"task_result","sender_id":"x","timestamp":"2026-01-01T00:00:00Z","data":{"task_id":"%(id)s",'
    '"epoch":%(epoch)s,"status":"completed","execution_time":0.001234,"result":{"output":"2","exit_code":0,'
    '"metrics":{"cpu_time":0.001,"memory_peak":11534336}}}}\n'
)


class Device(Protocol):
    """Registers, and finishes whatever it is given at once."""

    def __init__(self, number: int, slots: int) -> None:
        self.number = number
        self.slots = slots
        self.registered: Deferred[None] = Deferred()
        self.tail = b""

    def connectionMade(self) -> None:
        info = {"hostname": f"device-{self.number}", "platform": "linux", "architecture": "aarch64", "role": "compute"}
        specs = {"cpu_cores": 4, "memory_total": 2**32, "disk_space": 2**35, "network_interfaces": ["wlan0"]}
        data = {"device_info": info, "hardware_specs": specs, "slots": self.slots, "prefetch": 32, "attempts": []}
        message = {"message_type": "register", "sender_id": f"device-{self.number}", "data": data}
        self.transport.write(json.dumps(message).encode() + b"\n")

    def dataReceived(self, data: bytes) -> None:
        *lines, self.tail = (self.tail + data).split(b"\n")
        answers = []
        for line in lines:
            found = ASSIGNED.search(line)
            if found is not None:
                answers.append(RESULT % {"id": found[1].decode(), "epoch": found[2].decode()})
            elif b'"register_ack"' in line and not self.registered.called:
                self.registered.callback(None)
        if answers:
            self.transport.write("".join(answers).encode())


async def measure(options: argparse.Namespace) -> None:
    with Processes() as processes:
        main_process, port, web_port = processes.start_main()
        devices = []
        for number in range(options.devices):
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
            devices.append(await connectProtocol(endpoint, Device(number, 1)))
        await DeferredList([device.registered for device in devices])
        api = Api(web_port, processes.folder)
        no_op = {"task_type": "python_eval", "payload": {"expression": "1 + 1"}}
        await deferToThread(run_batch, api, [no_op] * 500)
        profiler = profile(main_process.pid, options.profile)
        costs, rates = [], []
        for _ in range(options.runs):
            cpu, began = cpu_s(main_process.pid), time.perf_counter()
            await deferToThread(run_batch, api, [no_op] * options.tasks)
            costs.append((cpu_s(main_process.pid) - cpu) / options.tasks * 1e6)
            rates.append(options.tasks / (time.perf_counter() - began))
        if profiler is not None:
            profiler.send_signal(signal.SIGINT)
            profiler.wait()
        report(
            "cost of a task",
            devices=options.devices,
            tasks=options.tasks,
            main_cpu_us_per_task=spread(costs),
            tasks_per_s=spread(rates),
        )
        for device in devices:
            device.transport.abortConnection()
        await task.deferLater(reactor, 0.1, lambda: None)


def run_batch(api: Api, documents: list[dict[str, object]]) -> None:
    api.request("POST", "tasks", documents)
    api.wait_all_ended()


def profile(pid: int, place: str | None) -> subprocess.Popen[bytes] | None:
    if place is None:
        return None
    return subprocess.Popen(["py-spy", "record", "-p", str(pid), "-r", "500", "-f", "raw", "-o", place])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile")
    options = parser.parse_args()
    wanted = options.devices + 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    task.react(lambda _: Deferred.fromCoroutine(measure(options)))


if __name__ == "__main__":
    main()
