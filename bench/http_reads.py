"""Small reads over HTTP beside a bare Klein application that answers with the same bytes, in turn in one run.

The bare application has one route and no checks: what it does is the price of Twisted and Klein themselves. `of_bare`
compares requests per second, `cpu_of_bare` the servers' processor time for a request: the latter hardly sees what else
the machine does. Then, what events cost that many browsers follow: CPU of the main and of nobody else.
"""

from __future__ import annotations

import argparse
import json
import random
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle

from measure import Api, Processes, cpu_s, report

BARE = """
import sys
from klein import Klein
from twisted.internet import reactor
from twisted.web.server import Site

app, body = Klein(), sys.argv[1].encode()

@app.route("/api/v1/<path:name>")
def read(request, name):
    request.setHeader(b"Content-Type", b"application/json")
    return body

port = reactor.listenTCP(0, Site(app.resource()), interface="127.0.0.1")
print(port.getHost().port, flush=True)
reactor.run()
"""


class Reader:
    """Connections that each ask again as soon as they are answered."""

    def __init__(self, port: int, paths: Sequence[str], connections: int) -> None:
        self.requests = cycle([f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() for path in paths])
        self.selector = selectors.DefaultSelector()
        self.sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for each in self.sockets:
            self.selector.register(each, selectors.EVENT_READ)

    def run(self, requests: int) -> list[float]:
        """How long each of so many requests took, in seconds."""
        taken, asked_at = list[float](), dict[socket.socket, float]()
        left = requests
        for each in self.sockets[:requests]:
            asked_at[each] = time.perf_counter()
            each.sendall(next(self.requests))
            left -= 1
        while len(taken) < requests:
            for key, _ in self.selector.select():
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                    raise SystemExit("not answered with 200")
                now = time.perf_counter()
                taken.append(now - asked_at[connection])
                if left:
                    left -= 1
                    asked_at[connection] = now
                    connection.sendall(next(self.requests))
        return taken

    def close(self) -> None:
        self.selector.close()
        for each in self.sockets:
            each.close()


def rate(port: int, pid: int, paths: Sequence[str], connections: int, requests: int) -> tuple[float, float]:
    """Requests per second, and the server's processor time for each in microseconds."""
    reader = Reader(port, paths, connections)
    reader.run(min(requests, 200))
    cpu, began = cpu_s(pid), time.perf_counter()
    reader.run(requests)
    taken = time.perf_counter() - began
    reader.close()
    return requests / taken, (cpu_s(pid) - cpu) / requests * 1e6


def compare(what: str, port: int, pid: int, paths: Sequence[str], body: str, options: argparse.Namespace) -> None:
    """Our main and the bare application in turn; `body` is what the latter answers with."""
    with subprocess.Popen([sys.executable, "-c", BARE, body], stdout=subprocess.PIPE, text=True) as bare:
        assert bare.stdout is not None
        bare_port = int(bare.stdout.readline())
        try:
            for connections in (1, 32):
                ours, theirs = [], []
                for _ in range(options.rounds):
                    ours.append(rate(port, pid, paths, connections, options.requests))
                    theirs.append(rate(bare_port, bare.pid, paths, connections, options.requests))
                _report_pairs(what, connections, ours, theirs)
        finally:
            bare.terminate()


def _report_pairs(
    what: str, connections: int, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]
) -> None:
    pairs = list(zip(ours, theirs, strict=True))
    report(
        what,
        connections=connections,
        ours_per_s=round(statistics.median(each[0] for each in ours)),
        bare_klein_per_s=round(statistics.median(each[0] for each in theirs)),
        of_bare=round(statistics.median(a[0] / b[0] for a, b in pairs), 3),
        ours_cpu_us=round(statistics.median(each[1] for each in ours)),
        cpu_of_bare=round(statistics.median(b[1] / a[1] for a, b in pairs), 3),
    )


def follow(port: int, count: int) -> list[socket.socket]:
    """Browsers that follow the tasks."""
    found = []
    for _ in range(count):
        each = socket.create_connection(("127.0.0.1", port))
        each.sendall(f"GET /stream/tasks HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        found.append(each)
    return found


def fan_out(port: int, pid: int, submit: Callable[[int], object], subscribers: int, tasks: int) -> None:
    """What the events of a batch cost with so many subscribers, as CPU time of the main for each event delivered."""
    followers = follow(port, subscribers)
    selector = selectors.DefaultSelector()
    for each in followers:
        selector.register(each, selectors.EVENT_READ)
    time.sleep(1.0)
    while selector.select(0):
        for key, _ in selector.select(0):
            key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
    cpu, began, seen = cpu_s(pid), time.perf_counter(), 0
    submit(tasks)
    while seen < subscribers * tasks and time.perf_counter() - began < 60.0:
        for key, _ in selector.select(1.0):
            seen += key.fileobj.recv(1 << 20).count(b"event: task_update")  # type: ignore[union-attr]
    taken = time.perf_counter() - began
    report(
        "events to subscribers",
        subscribers=subscribers,
        events=tasks,
        delivered=seen,
        delivered_per_s=round(seen / taken),
        main_cpu_us_per_delivery=round((cpu_s(pid) - cpu) / max(1, seen) * 1e6, 2),
    )
    selector.close()
    for each in followers:
        each.close()


def reads_of(api: Api, task: dict[str, object], tasks: int) -> dict[str, list[str]]:
    """What is read, by name: addresses in turn. The last one asks for more tasks than are kept in memory."""
    task_id = api.request("POST", "tasks", task)["task_id"]
    many = [each["task_id"] for each in api.request("POST", "tasks", [task] * tasks)["tasks"]]
    random.Random(1).shuffle(many)
    return {
        "cluster/status": ["cluster/status"],
        "tasks/ID": [f"tasks/{task_id}"],
        "tasks/ID/status": [f"tasks/{task_id}/status"],
        "tasks?limit=5": ["tasks?limit=5"],
        f"tasks/ID/status of {tasks} tasks": [f"tasks/{each}/status" for each in many],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--events", type=int, default=1000)
    options = parser.parse_args()
    with Processes() as processes:
        process, _, web_port = processes.start_main()
        api = Api(web_port, processes.folder)
        echo = {"task_type": "echo", "payload": {"message": "x"}, "requirements": {"device": "nobody"}}
        for what, paths in reads_of(api, echo, options.tasks).items():
            body = json.dumps({"status": "success", "data": api.request("GET", paths[0])}, separators=(",", ":"))
            compare(what, web_port, process.pid, [f"/api/v1/{each}" for each in paths], body, options)
        fan_out(
            web_port,
            process.pid,
            lambda count: api.request("POST", "tasks", [echo] * count),
            options.subscribers,
            options.events,
        )


if __name__ == "__main__":
    main()
