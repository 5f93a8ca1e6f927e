"""Small reads over HTTP beside a bare Klein application that answers with the same bytes, in turn in one run.

The bare application has one route and no checks: what it does is the price of Twisted and Klein themselves. Then, what
events cost that many browsers follow: CPU of the main and of nobody else.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

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

    def __init__(self, port: int, path: str, connections: int) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
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
            each.sendall(self.request)
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
                    connection.sendall(self.request)
        return taken

    def close(self) -> None:
        self.selector.close()
        for each in self.sockets:
            each.close()


def rate(port: int, path: str, connections: int, requests: int) -> float:
    """Requests per second."""
    reader = Reader(port, path, connections)
    reader.run(min(requests, 200))
    began = time.perf_counter()
    reader.run(requests)
    taken = time.perf_counter() - began
    reader.close()
    return requests / taken


def compare(what: str, main_port: int, path: str, body: str, requests: int, rounds: int) -> None:
    with subprocess.Popen([sys.executable, "-c", BARE, body], stdout=subprocess.PIPE, text=True) as bare:
        assert bare.stdout is not None
        bare_port = int(bare.stdout.readline())
        try:
            for connections in (1, 32):
                ours, theirs = list[float](), list[float]()
                for _ in range(rounds):
                    ours.append(rate(main_port, path, connections, requests))
                    theirs.append(rate(bare_port, path, connections, requests))
                report(
                    what,
                    connections=connections,
                    ours_per_s=round(statistics.median(ours)),
                    bare_klein_per_s=round(statistics.median(theirs)),
                    of_bare=round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
                )
        finally:
            bare.terminate()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--subscribers", type=int, default=200)
    parser.add_argument("--events", type=int, default=1000)
    options = parser.parse_args()
    with Processes() as processes:
        process, _, web_port = processes.start_main()
        api = Api(web_port, processes.folder)
        echo = {"task_type": "echo", "payload": {"message": "x"}, "requirements": {"device": "nobody"}}
        path = f"tasks/{api.request('POST', 'tasks', echo)['task_id']}/status"
        for what, each in (("reads from memory", "cluster/status"), ("reads from the database", path)):
            body = json.dumps({"status": "success", "data": api.request("GET", each)}, separators=(",", ":"))
            compare(what, web_port, f"/api/v1/{each}", body, options.requests, options.rounds)
        fan_out(
            web_port,
            process.pid,
            lambda count: api.request("POST", "tasks", [echo] * count),
            options.subscribers,
            options.events,
        )


if __name__ == "__main__":
    main()
