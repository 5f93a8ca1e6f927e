"""The audit trail and refused results, as the doors show them."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from tests.main.test_bad_claims import held_by_one, result
from tests.web.http import Http


@pytest_twisted.ensureDeferred
async def test_the_trail_is_read_with_the_token_alone(http: Http) -> None:
    task = (await http.post("/api/v1/tasks", {"task_type": "echo"})).data["task_id"]
    assert (await http.post(f"/api/v1/tasks/{task}/hold", {"reason": "a, b"})).status == 200
    assert (await http.post(f"/api/v1/tasks/{task}/release", {})).status == 200
    for path in ("/api/v1/audit", "/text/audit"):
        assert (await http.get(path)).status == 401
    found = (await http.call("GET", "/api/v1/audit")).data
    assert [(row["actor"], row["action"], row["subject"]) for row in found["audit"]] == [
        ("admin", "task.release", task),
        ("admin", "task.hold", task),
    ]
    assert found["next_before"] is None
    page = (await http.call("GET", "/api/v1/audit?limit=1")).data
    assert page["next_before"] == page["audit"][0]["audit_no"] == 2
    rest = (await http.call("GET", "/api/v1/audit?before=2&action=task.hold")).data["audit"]
    assert [row["detail"]["reason"] for row in rest] == ["a, b"]
    assert (await http.call("GET", "/api/v1/audit?actor=nobody")).data["audit"] == []
    assert (await http.call("GET", "/api/v1/audit?before=x")).status == 422
    text = await http.call("GET", "/text/audit?actor=admin&limit=1")
    assert text.text.startswith("2|") and f"|admin|task.release|{task}|" in text.text
    csv = await http.call("GET", "/text/audit?format=csv")
    assert csv.text.splitlines()[0] == "audit_no,at,actor,action,subject,detail"


@pytest_twisted.ensureDeferred
async def test_refused_results_of_a_task(node: Any, http: Http) -> None:
    one, two, task_id = await held_by_one(node)
    assert (await http.get(f"/api/v1/tasks/{task_id}/refused")).data == {"task_id": task_id, "refused": []}
    for epoch in (1, 5):
        two.say("task_result", result(task_id, epoch), sender_id="two")
        await two.expect("result_ack")
    found = (await http.get(f"/api/v1/tasks/{task_id}/refused")).data["refused"]
    assert [(each["kind"], each["epoch"], each["device_id"]) for each in found] == [
        ("stale_attempt", 5, "two"),
        ("not_holder", 1, "two"),
    ]
    assert found[0]["result"]["result"] == {"output": "x"}
    assert len((await http.get(f"/api/v1/tasks/{task_id}/refused?limit=1")).data["refused"]) == 1
    await one.leave()
    await two.leave()
