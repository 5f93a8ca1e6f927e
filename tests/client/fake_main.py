"""A small stand-in for a main node: the HTTP contract with tasks that end by themselves, all in memory."""

from __future__ import annotations

import json
from typing import Any

from attrs import define, field
from klein import Klein
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.server import Site

from tests.support import pause

TOKEN = "secret-token"
FINAL = {"completed", "failed", "cancelled", "expired", "lost"}


def answer(request: Request, data: Any, status: int = 200) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    return json.dumps({"status": "success", "data": data}).encode()


def problem(request: Request, status: int, code: str, detail: str, **more: Any) -> bytes:
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/problem+json")
    document = {"type": "about:blank", "title": code, "status": status, "detail": detail, "error_code": code}
    return json.dumps(document | {"request_id": "req-1"} | more).encode()


class RecordingSite(Site):
    """Remembers its connections."""

    def __init__(self, resource: Any) -> None:
        super().__init__(resource)
        self.noisy = False
        self.channels: list[Any] = []

    def buildProtocol(self, address: Any) -> Any:
        channel = super().buildProtocol(address)
        self.channels.append(channel)
        return channel


@define(eq=False)
class FakeMain:
    """`tasks` and `devices` are documents that tests fill; `requests` is what came in."""

    tasks: dict[str, dict[str, Any]] = field(factory=dict)
    results: dict[str, dict[str, Any]] = field(factory=dict)
    devices: list[dict[str, Any]] = field(factory=list)
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(factory=list)
    refusals: list[tuple[int, str]] = field(factory=list)
    streams: list[Request] = field(factory=list)
    stream_headers: list[dict[str, str]] = field(factory=list)
    ends_after_gets: int = 1
    page_size: int = 3
    results_at_once: int = 1000
    refuses_streams: bool = False
    port: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port.getHost().port}"

    def listen(self) -> None:
        self.port = reactor.listenTCP(0, RecordingSite(FakeDoors(self).app.resource()), interface="127.0.0.1")

    async def close(self) -> None:
        """Stop, and drop every connection, so that no timer of theirs is left."""
        site = self.port.factory
        await self.port.stopListening()
        for channel in site.channels:
            transport = channel._channel.transport
            if transport is not None:
                transport.abortConnection()
        await pause(0.02)

    def add(self, document: dict[str, Any]) -> dict[str, Any]:
        task_id = f"task-{len(self.tasks) + 1:04d}"
        task = {
            "task_id": task_id,
            "task_type": document.get("task_type", "echo"),
            "name": document.get("name", ""),
            "status": "queued",
            "priority": document.get("priority", "normal"),
            "device_id": None,
            "attempts": [],
            "created_at": "2026-01-02T03:04:05Z",
            "started_at": None,
            "finished_at": None,
            "progress": None,
            "reason": "",
            "submitted": document,
            "gets": 0,
        }
        self.tasks[task_id] = task
        return task

    def end(self, task_id: str, status: str = "completed", **result: Any) -> None:
        task = self.tasks[task_id]
        task |= {"status": status, "device_id": "phone", "started_at": "2026-01-02T03:04:06Z"}
        task |= {"finished_at": "2026-01-02T03:04:08Z"}
        task["attempts"] = [{"epoch": 1, "device_id": "phone", "outcome": status, "reason": ""}]
        empty = {"output": None, "stderr": None, "truncated": False, "exit_code": 0, "execution_time": 2.0}
        self.results[task_id] = empty | {"metrics": None, "error": None} | result

    def look(self, task: dict[str, Any]) -> dict[str, Any]:
        """Tasks end after they have been looked at a few times."""
        task["gets"] += 1
        if task["status"] not in FINAL and task["gets"] >= self.ends_after_gets:
            self.end(task["task_id"], **_outcome(task["submitted"]))
        return task

    def send(self, text: str) -> None:
        for request in self.streams:
            request.write(text.encode())


class FakeDoors:
    """The routes of the contract."""

    app = Klein()

    def __init__(self, fake: FakeMain) -> None:
        self.fake = fake

    def came(self, request: Request) -> bytes | None:
        body = request.content.read()
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.fake.requests.append((request.method.decode(), request.uri.decode(), headers, body))
        request.body = body
        if self.fake.refusals and request.method == b"POST":
            status, code = self.fake.refusals.pop(0)
            return problem(request, status, code, f"refused with {code}")
        if request.method != b"GET" and headers.get("authorization") != f"Bearer {TOKEN}":
            return problem(request, 401, "unauthorized", "a token is needed")
        return None

    def found(self, request: Request, task_id: str) -> dict[str, Any] | bytes:
        refused = self.came(request)
        if refused is not None:
            return refused
        task = self.fake.tasks.get(task_id)
        return task if task is not None else problem(request, 404, "not_found", f"there is no task {task_id}")

    @app.route("/api/v1/tasks", methods=["POST"])
    def submit(self, request: Request) -> bytes:
        refused = self.came(request)
        if refused is not None:
            return refused
        document = json.loads(request.body)
        many = document if isinstance(document, list) else [document]
        if any("task_type" not in each for each in many):
            errors = [{"path": "task_type", "message": "is required"}]
            return problem(request, 422, "missing_field", "task_type: is required", errors=errors)
        added = [{"task_id": self.fake.add(each)["task_id"], "status": "queued"} for each in many]
        return answer(request, {"tasks": added} if isinstance(document, list) else added[0], 201)

    @app.route("/api/v1/tasks", methods=["GET"])
    def listing(self, request: Request) -> bytes:
        self.came(request)
        wanted = {name.decode(): values[0].decode() for name, values in request.args.items()}
        newest = [each for each in reversed(self.fake.tasks.values()) if wanted.get("status") in (None, each["status"])]
        start, count = int(wanted.get("cursor", 0)), min(int(wanted.get("limit", 3)), self.fake.page_size)
        more = str(start + count) if start + count < len(newest) else None
        return answer(request, {"tasks": newest[start : start + count], "next_cursor": more})

    @app.route("/api/v1/tasks/types")
    def types(self, request: Request) -> bytes:
        return answer(request, [{"task_type": "echo", "doc": "Give it back.", "devices": ["phone"]}])

    @app.route("/api/v1/tasks/results")
    def results(self, request: Request) -> bytes:
        refused = self.came(request)
        if refused is not None:
            return refused
        asked = request.args[b"ids"][0].decode().split(",")
        known = [self.fake.look(self.fake.tasks[task_id]) for task_id in asked if task_id in self.fake.tasks]
        ended = [each["task_id"] for each in known if each["status"] in FINAL]
        left = ended[self.fake.results_at_once :]
        told = [
            {"task_id": each, "status": self.fake.tasks[each]["status"], **self.fake.results[each]} for each in ended
        ]
        data = {
            "results": told[: self.fake.results_at_once],
            "unfinished": [
                {"task_id": each["task_id"], "status": each["status"]} for each in known if each["status"] not in FINAL
            ],
            "unknown": [task_id for task_id in asked if task_id not in self.fake.tasks],
            "left": left,
        }
        return answer(request, data)

    @app.route("/api/v1/tasks/<task_id>")
    def one(self, request: Request, task_id: str) -> bytes:
        task = self.found(request, task_id)
        return task if isinstance(task, bytes) else answer(request, self.fake.look(task))

    @app.route("/api/v1/tasks/<task_id>/result")
    def result(self, request: Request, task_id: str) -> bytes:
        task = self.found(request, task_id)
        if isinstance(task, bytes):
            return task
        if task["status"] not in FINAL:
            return problem(request, 409, "not_finished", f"{task_id} is {task['status']}")
        return answer(request, {"task_id": task_id, "status": task["status"], **self.fake.results[task_id]})

    @app.route("/api/v1/tasks/<task_id>/output")
    def output(self, request: Request, task_id: str) -> bytes:
        task = self.found(request, task_id)
        if isinstance(task, bytes):
            return task
        chunks = task.get("chunks", [])
        from_seq = int(request.args.get(b"from_seq", [b"0"])[0])
        finished = task["status"] in FINAL
        data = {"task_id": task_id, "epoch": 1, "chunks": [] if finished else chunks[from_seq:]}
        return answer(request, data | {"next_seq": len(chunks), "finished": finished})

    @app.route("/api/v1/tasks/<task_id>/why")
    def why(self, request: Request, task_id: str) -> bytes:
        task = self.found(request, task_id)
        if isinstance(task, bytes):
            return task
        rows = [{"device_id": "phone", "fits": False, "reasons": ["role is mobile, not nas"]}]
        told = {"task_id": task_id, "status": "queued", "reason": "no device fits", "devices": rows}
        return answer(request, told | {"hint": "Add a device with role nas."})

    @app.route("/api/v1/tasks/<task_id>/<action>", methods=["POST"])
    def act(self, request: Request, task_id: str, action: str) -> bytes:
        task = self.found(request, task_id)
        if isinstance(task, bytes):
            return task
        task["status"] = {"cancel": "cancelled", "hold": "held", "release": "queued"}.get(action, "queued")
        return answer(request, {"task_id": task_id, "status": task["status"]})

    @app.route("/api/v1/devices")
    def devices(self, request: Request) -> bytes:
        self.came(request)
        return answer(request, {"devices": self.fake.devices})

    @app.route("/api/v1/devices/<device_id>", methods=["GET", "DELETE"])
    def device(self, request: Request, device_id: str) -> bytes:
        refused = self.came(request)
        if refused is not None:
            return refused
        known = [each for each in self.fake.devices if each["device_id"] == device_id]
        if not known:
            return problem(request, 404, "not_found", f"there is no device {device_id}")
        if request.method == b"DELETE":
            self.fake.devices.remove(known[0])
        return answer(request, known[0])

    @app.route("/api/v1/devices/<device_id>/<action>", methods=["POST"])
    def device_act(self, request: Request, device_id: str, action: str) -> bytes:
        refused = self.came(request)
        if refused is not None:
            return refused
        if action == "ping":
            return answer(request, {"device_id": device_id, "round_trip_ms": 1.25})
        return answer(request, {"device_id": device_id, "status": action + "ed"})

    @app.route("/api/v1/cluster/<what>")
    def cluster(self, request: Request, what: str) -> bytes:
        self.came(request)
        if what == "health":
            return answer(request, {"status": "ok", "problems": []})
        devices_count = {"total": 2, "online": 1, "offline": 1}
        return answer(request, {"state": "running", "version": "0", "uptime_s": 61, "devices": devices_count})

    @app.route("/stream/<path:path>")
    def stream(self, request: Request, path: str) -> Any:
        fake = self.fake
        self.came(request)
        self.fake.stream_headers.append(self.fake.requests[-1][2])
        if path == "refused" or self.fake.refuses_streams:
            return problem(request, 403, "forbidden", "not for you")
        if path == "ended":
            request.setResponseCode(204)
            return b""
        request.setHeader("Content-Type", "text/event-stream")
        request.write(b"retry: 20\n\n")
        self.fake.streams.append(request)
        left = request.notifyFinish()
        left.addBoth(lambda _: fake.streams.remove(request) if request in fake.streams else None)
        return Deferred()


def _outcome(document: dict[str, Any]) -> dict[str, Any]:
    """How a task ends: as its payload's message says, or well."""
    message = document.get("payload", {}).get("message")
    return message["outcome"] if isinstance(message, dict) else {"output": "done\n"}
