"""A peer that speaks only the original's messages, over a bare socket."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.tasks import spec_from_document
from tests.support import connect


def task_document(seed_messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in seed_messages[2]["data"]["task"].items() if name != "task_id"}


@pytest_twisted.ensureDeferred
async def test_the_original_conversation(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    register, heartbeat, assign, result = seed_messages
    peer = await connect(node.worker_port)
    peer.say(**register)
    ack = await peer.expect("register_ack")
    assert ack["data"]["accepted"] is True
    assert (ack["data"]["heartbeat_interval_s"], ack["data"]["offline_after_s"]) == (60, 300)
    peer.say(**heartbeat)
    await peer.expect("heartbeat_ack")

    [submitted] = await node.rooms.cluster.submit([spec_from_document(task_document(seed_messages))])
    got = await peer.expect("task_assign")
    assert got["target_id"] == "device-001"
    task = got["data"]["task"]
    for name, value in assign["data"]["task"].items():
        if name != "task_id":
            assert task[name] == value
    assert task["task_id"] == submitted.task_id

    result["data"]["task_id"] = task["task_id"]
    peer.say(**result)
    assert (await peer.expect("result_ack"))["data"]["accepted"] is True
    document = await node.rooms.cluster.task(task["task_id"])
    assert document["status"] == "completed"
    kept = await node.rooms.cluster.result(task["task_id"])
    assert kept["output"] == "4999950000"
    assert kept["metrics"] == {"cpu_time": 25.2, "memory_peak": 1048576}
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_the_original_requests(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    peer = await connect(node.worker_port)
    peer.say("status", message_id="m1")
    answer = await peer.expect("ack")
    assert answer["data"]["original_message_id"] == "m1" and answer["data"]["result"]["state"] == "no devices online"
    peer.say("list_devices")
    assert (await peer.expect("ack"))["data"]["result"] == {"devices": []}
    peer.say("task_submit", {"task": {"task_type": "echo"}})
    assert (await peer.expect("error"))["data"]["code"] == "unauthorized"
    token = (node.rooms.database.path.parent / "admin.token").read_text()
    peer.say("task_submit", {"task": {"task_type": "echo"}, "auth": {"token": token}})
    task_id = (await peer.expect("ack"))["data"]["result"]["task_id"]
    peer.say("task_status", {"task_id": task_id})
    status = (await peer.expect("ack"))["data"]["result"]
    assert status["status"] == "queued" and status["reason"] == "no device has ever joined"
    peer.say("task_cancel", {"task_id": task_id, "auth": {"token": token}})
    assert (await peer.expect("ack"))["data"]["result"]["status"] == "cancelled"
    peer.say("device_info", {"device_id": "nobody"})
    assert (await peer.expect("error"))["data"]["code"] == "not_found"
    await peer.leave()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello\n", "not_json"),
        (b"[]\n", "not_an_object"),
        (b'{"message_type": "nonsense"}\n', "unknown_type"),
        (b'{"message_type": "heartbeat"}\n', "not_registered"),
        (b'{"message_type": "register", "data": {"device_info": {}}}\n', "bad_field"),
        (b'{"message_type": "register_ack"}\n', "wrong_direction"),
        (b'{"a": NaN}\n', "bad_number"),
        (b"\xff\xfe\n", "bad_text"),
        (b"[" * 40 + b"\n", "too_deep"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_bad_lines_are_answered_and_the_connection_stays(node: Any, line: bytes, code: str) -> None:
    peer = await connect(node.worker_port)
    peer.send(line)
    assert (await peer.expect("error"))["data"]["code"] == code
    peer.say("ping")
    await peer.expect("pong")
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_an_overlong_line_ends_the_connection(node: Any) -> None:
    peer = await connect(node.worker_port)
    peer.send(b"x" * (1024 * 1024 + 2))
    assert (await peer.expect("error"))["data"]["code"] == "line_too_long"
    await peer.closed


@pytest_twisted.ensureDeferred
async def test_results_that_do_not_count(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    register, _, _, result = seed_messages
    holder, other = await connect(node.worker_port), await connect(node.worker_port)
    holder.say(**register)
    await holder.expect("register_ack")
    [_submitted] = await node.rooms.cluster.submit([spec_from_document(task_document(seed_messages))])
    task_id = (await holder.expect("task_assign"))["data"]["task"]["task_id"]
    register["sender_id"] = "device-002"
    other.say(**register)
    await other.expect("register_ack")
    result["data"]["task_id"] = task_id

    async def refused(peer: Any, data: dict[str, Any]) -> str:
        peer.say("task_result", data)
        answer = (await peer.expect("result_ack"))["data"]
        assert answer["accepted"] is False
        return str(answer["reason"])

    assert "not held by device-002" in await refused(other, result["data"])
    assert "not held by device-002" in await refused(other, result["data"] | {"epoch": 1})
    assert "attempt 1 is current, not 7" in await refused(holder, result["data"] | {"epoch": 7})
    assert "there is no task" in await refused(holder, result["data"] | {"task_id": "task-unknown"})
    assert (await node.rooms.cluster.task(task_id))["status"] == "assigned"

    holder.say("task_result", result["data"])
    assert (await holder.expect("result_ack"))["data"]["accepted"] is True
    holder.say("task_result", result["data"])  # the same again: fine
    assert (await holder.expect("result_ack"))["data"]["accepted"] is True
    assert "another result" in await refused(holder, result["data"] | {"execution_time": 1})
    assert (await node.rooms.cluster.result(task_id))["execution_time"] == 28.5
    await holder.leave()
    await other.leave()


@pytest_twisted.ensureDeferred
async def test_two_devices_with_one_id(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    older, newer = await connect(node.worker_port), await connect(node.worker_port)
    older.say(**seed_messages[0])
    await older.expect("register_ack")
    newer.say(**seed_messages[0])
    await older.expect("ping")
    older.say("pong")
    assert (await newer.expect("error"))["data"]["code"] == "duplicate_device"
    await newer.closed
    await older.leave()


@pytest_twisted.ensureDeferred
async def test_a_silent_older_connection_gives_way(
    node: Any, seed_messages: list[dict[str, Any]], monkeypatch: Any
) -> None:
    monkeypatch.setattr("retirecluster.main.registry.PING_S", 0.1)
    older, newer = await connect(node.worker_port), await connect(node.worker_port)
    older.say(**seed_messages[0])
    first = await older.expect("register_ack")
    newer.say(**seed_messages[0])
    second = await newer.expect("register_ack")
    assert second["data"]["session_no"] == first["data"]["session_no"] + 1
    await older.closed
    await newer.leave()
