"""/api/v1 with a real main and a played device."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import ensureDeferred

from tests.support import pause
from tests.web.device import played
from tests.web.http import Http

ECHO = {"task_type": "echo", "payload": {"message": "hello"}}


@pytest_twisted.ensureDeferred
async def test_a_task_from_submit_to_result(node: Any, http: Http) -> None:
    submitted = await http.post("/api/v1/tasks", ECHO | {"name": "greet", "labels": {"team": "a"}})
    assert submitted.status == 201 and submitted.data["status"] == "queued"
    task_id = submitted.data["task_id"]
    assert submitted.headers["location"] == f"/api/v1/tasks/{task_id}"
    path = f"/api/v1/tasks/{task_id}"
    assert (await http.get(f"{path}/result")).code == "not_finished"
    assert (await http.get(f"{path}/why")).data["reason"]
    waiting = ensureDeferred(http.get(f"{path}?wait=20"))
    device = await played(node)
    task = await device.take()
    device.print(task, 0, "hel")
    device.say("task_progress", {"task_id": task_id, "epoch": task["epoch"], "percent": 50, "message": "half"})
    await pause(0.1)
    assert (await http.get(f"{path}/status")).data["progress"] == {"percent": 50, "message": "half"}
    assert [each["data"] for each in (await http.get(f"{path}/output")).data["chunks"]] == ["hel"]
    assert (await http.get(f"{path}/output?from_seq=1")).data["chunks"] == []
    await device.finish(task, "hello")
    document = (await waiting).data
    assert (document["status"], document["attempts"][0]["device_id"]) == ("completed", "pixel-3")
    assert (await http.get(f"{path}/result")).data["output"] == "hello"
    assert (await http.get(f"{path}/output")).data["finished"] is True
    assert (await http.get(f"{path}/why")).data["status"] == "completed"
    assert (await http.get("/api/v1/tasks?label=team:a&status=completed&type=echo&device=pixel-3")).data["tasks"]
    assert not (await http.get("/api/v1/tasks?label=team:b")).data["tasks"]
    assert (await http.post(f"{path}/cancel")).code == "conflict"
    again = await http.post(f"{path}/retry")
    assert again.status == 201 and again.data["task_id"] != task_id
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_waiting_ends_after_the_time_that_was_asked(http: Http) -> None:
    task_id = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    assert (await http.get(f"/api/v1/tasks/{task_id}?wait=0.1")).data["status"] == "queued"


@pytest_twisted.ensureDeferred
async def test_a_waiting_reader_does_not_hold_up_the_end_of_the_main(node: Any, http: Http) -> None:
    task_id = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    waiting = ensureDeferred(http.get(f"/api/v1/tasks/{task_id}?wait=60"))
    waiting.addErrback(lambda failure: None)
    await pause(0.1)
    await node.stopService()
    await waiting


@pytest_twisted.ensureDeferred
async def test_many_tasks_are_taken_all_or_none(http: Http) -> None:
    many = await http.post("/api/v1/tasks", [ECHO] * 450)
    assert many.status == 201 and len({each["task_id"] for each in many.data["tasks"]}) == 450
    bad = await http.post("/api/v1/tasks", [ECHO] * 300 + [ECHO | {"priority": "soon"}])
    assert bad.status == 422 and bad.json["errors"][0]["field"] == "[300].priority"
    assert (await http.get("/api/v1/cluster/status")).data["tasks"]["queued"] == 450
    assert (await http.post("/api/v1/tasks", [])).status == 422
    assert (await http.post("/api/v1/tasks", [ECHO] * 10_001)).status == 422


@pytest_twisted.ensureDeferred
async def test_idempotency_keys(http: Http) -> None:
    first = await http.post("/api/v1/tasks", ECHO, Idempotency_Key="k1")
    second = await http.post("/api/v1/tasks", ECHO, Idempotency_Key="k1")
    in_body = await http.post("/api/v1/tasks", ECHO | {"idempotency_key": "k1"}, Idempotency_Key="other")
    assert (first.status, second.status, in_body.status) == (201, 200, 200)
    assert first.data["task_id"] == second.data["task_id"] == in_body.data["task_id"]
    other = await http.post("/api/v1/tasks", ECHO | {"name": "x"}, Idempotency_Key="k1")
    assert (other.status, other.code) == (409, "idempotency_conflict")
    assert (await http.post("/api/v1/tasks", [ECHO], Idempotency_Key="k2")).status == 422


@pytest_twisted.ensureDeferred
async def test_pages_of_tasks_are_complete_and_without_doubles(http: Http) -> None:
    submitted = (await http.post("/api/v1/tasks", [ECHO] * 25)).data["tasks"]
    path, seen = "/api/v1/tasks?limit=10&type=echo", []
    while path:
        answer = await http.get(path)
        seen += [task["task_id"] for task in answer.data["tasks"]]
        link = answer.headers.get("link", "")
        assert bool(link) == bool(answer.data["next_cursor"])
        path = link.partition("<")[2].partition(">")[0]
        assert not link or link.endswith('; rel="next"')
    assert sorted(seen) == sorted(each["task_id"] for each in submitted)


@pytest_twisted.ensureDeferred
async def test_prefixes_of_task_ids(http: Http) -> None:
    ids = [each["task_id"] for each in (await http.post("/api/v1/tasks", [ECHO] * 20)).data["tasks"]]
    assert (await http.get(f"/api/v1/tasks/{ids[0][:16]}")).data["task_id"] == ids[0]
    many = await http.get("/api/v1/tasks/task-")
    assert (many.status, many.code) == (409, "ambiguous")
    assert sum(task_id in many.json["detail"] for task_id in ids) == 10
    assert (await http.get("/api/v1/tasks/tas")).code == "not_found"
    assert (await http.post(f"/api/v1/tasks/{ids[1][:16]}/hold", {"reason": "later"})).data["status"] == "held"
    assert (await http.post(f"/api/v1/tasks/{ids[1]}/release")).data["status"] == "queued"
    assert (await http.post(f"/api/v1/tasks/{ids[1]}/cancel")).data == {"task_id": ids[1], "status": "cancelled"}


@pytest_twisted.ensureDeferred
async def test_devices(node: Any, http: Http) -> None:
    assert (await http.get("/api/v1/devices")).data == {"devices": []}
    device = await played(node)
    listed = (await http.get("/api/v1/devices")).data["devices"]
    assert [(each["device_id"], each["status"], each["cpu_usage"]) for each in listed] == [("pixel-3", "online", 12.5)]
    summary = (await http.get("/api/v1/devices/summary")).data
    assert (summary["total"], summary["status"], summary["role"]) == (1, {"online": 1}, {"mobile": 1})
    path = "/api/v1/devices/pixel-3"
    assert (await http.post(f"{path}/drain")).data["status"] == "draining"
    await device.expect("drain")
    assert (await http.post(f"{path}/undrain", {})).data["status"] == "online"
    assert (await http.post(f"{path}/cordon")).data["cordoned"] is True
    assert (await http.post(f"{path}/uncordon")).data["cordoned"] is False
    assert (await http.post(f"{path}/role", {"role": "storage"})).data["role"] == "storage"
    assert (await http.post(f"{path}/role", {})).code == "missing_field"
    ping = ensureDeferred(http.post(f"{path}/ping"))
    await device.expect("ping")
    device.say("pong", {})
    assert (await ping).data["round_trip_ms"] >= 0
    assert (await http.call("DELETE", path)).status == 409
    await device.leave()
    await pause(0.3)
    assert (await http.call("DELETE", path)).data == {"device_id": "pixel-3", "status": "removed"}
    assert (await http.get(path)).code == "not_found"


@pytest_twisted.ensureDeferred
async def test_unchanged_answers_are_not_sent_again(node: Any, http: Http) -> None:
    device = await played(node)
    for path in ("/api/v1/devices", "/api/v1/tasks", "/api/v1/cluster/status", "/", "/static/dashboard.js"):
        first = await http.get(path)
        tag = first.headers["etag"]
        again = await http.get(path, If_None_Match=f'"x", {tag}')
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag), path
        assert (await http.get(path, If_None_Match='"x"')).status == 200
    tag = (await http.get("/api/v1/devices")).headers["etag"]
    await http.post("/api/v1/devices/pixel-3/cordon")
    assert (await http.get("/api/v1/devices", If_None_Match=tag)).status == 200
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_cluster(node: Any, http: Http) -> None:
    assert (await http.get("/health")).json["status"] == "ok"
    assert (await http.get("/ready")).json["ready"] is True
    assert (await http.get("/api/v1/cluster/health")).data["status"] == "ok"
    config = await http.get("/api/v1/cluster/config")
    assert config.data["max_tasks"] == node.settings["max_tasks"]
    assert http.token not in config.text
    assert (await http.get("/api/v1/cluster/metrics")).data["web_connections"] == 1
    await http.post("/api/v1/tasks", [ECHO] * 3)
    page = (await http.get("/api/v1/events?limit=2&subject=task")).data
    assert [each["event"] for each in page["events"]] == ["submitted", "submitted"]
    rest = (await http.get(f"/api/v1/events?after={page['next_after']}")).data
    assert len(rest["events"]) == 1 and rest["next_after"] is None
    node.rooms.desk.accepting = False
    assert (await http.get("/ready")).status == 503
    refused = await http.post("/api/v1/tasks", ECHO)
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (503, "shutting_down", "5")
    node.rooms.desk.accepting = True
    types = {each["task_type"]: each for each in (await http.get("/api/v1/tasks/types")).data["types"]}
    assert types["echo"]["payload"]["type"] == "object"
    assert (await http.get("/api/v1/tasks/statistics")).data["types"][0]["total"] == 3


@pytest_twisted.ensureDeferred
async def test_results_of_many_tasks_in_one_answer(node: Any, http: Http) -> None:
    submitted = (await http.post("/api/v1/tasks", [ECHO] * 3)).data["tasks"]
    first, second, third = (each["task_id"] for each in submitted)
    device = await played(node)
    task = await device.take()
    await device.finish(task, "hello")
    assert (await http.get(f"/api/v1/tasks/{task['task_id']}?wait=20")).data["status"] == "completed"
    found = (await http.get(f"/api/v1/tasks/results?ids={first},{second},nobody,{third},{first}")).data
    assert [(each["task_id"], each["status"], each["output"]) for each in found["results"]] == [
        (task["task_id"], "completed", "hello")
    ]
    assert {each["task_id"] for each in found["unfinished"]} == {first, second, third} - {task["task_id"]}
    assert (found["unknown"], found["left"]) == (["nobody"], [])
    many = await http.get("/api/v1/tasks/results?ids=" + ",".join(f"t{number}" for number in range(201)))
    assert many.status == 422 and many.json["errors"][0]["field"] == "ids"
    left = await node.rooms.cluster.results([task["task_id"], second], 0)
    assert len(left["results"]) == 1 and left["left"] == [second]
    await device.leave()
