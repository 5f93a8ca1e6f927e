"""/stream: replay, hand-over, gaps, slow readers, ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from retirecluster.web import hub, sse
from tests.support import pause
from tests.web.device import played
from tests.web.http import Http, events_in

ECHO = {"task_type": "echo", "payload": {"message": "hello"}}


def numbers(data: bytes) -> list[int]:
    return [int(each["id"]) for each in events_in(data)]


def printed(data: bytes) -> str:
    """The standard output in a stream of output."""
    pieces = [json.loads(each["data"]) for each in events_in(data) if each["event"] == "output"]
    return "".join(each["data"] for each in pieces if each["stream"] == "stdout")


async def settled(node: Any, http: Http, count: int) -> None:
    """Submit tasks that wait: one event each."""
    assert (await http.post("/api/v1/tasks", [ECHO] * count)).status == 201


@pytest_twisted.ensureDeferred
async def test_a_stream_begins_with_how_to_come_back(node: Any, http: Http) -> None:
    await settled(node, http, 3)
    stream = await http.stream("/stream/tasks")
    head = stream.data.lower()
    for line in (b"content-type: text/event-stream\r\n", b"cache-control: no-store", b"x-accel-buffering: no"):
        assert line in head
    assert b"retry: 3000\nid: 3\n\n" in stream.data
    await settled(node, http, 2)
    await stream.until(b"id: 5\n")
    assert numbers(stream.data) == [4, 5]
    data = json.loads(events_in(stream.data)[0]["data"])
    assert (data["event_no"], data["event"], data["status"]) == (4, "submitted", "queued")
    assert {each["event"] for each in events_in(stream.data)} == {"task_update"}
    await stream.leave()


@pytest.mark.parametrize("by", ["header", "query"])
@pytest_twisted.ensureDeferred
async def test_replay_goes_over_into_live_without_gap_or_double(node: Any, http: Http, by: str) -> None:
    await settled(node, http, 1300)  # several pages
    query, headers = ("", ["Last-Event-ID: 7"]) if by == "header" else ("?last_event_id=7", [])
    stream = await http.stream(f"/stream/events{query}", *headers)
    for _ in range(5):
        await settled(node, http, 40)
    await stream.until(b"id: 1500\n")
    assert numbers(stream.data) == list(range(8, 1501))
    await stream.leave()


@pytest_twisted.ensureDeferred
async def test_streams_are_about_what_they_say(node: Any, http: Http) -> None:
    devices = await http.stream("/stream/devices?last_event_id=0")
    tasks = await http.stream("/stream/tasks?last_event_id=0")
    device = await played(node)
    await devices.until(b"event: heartbeat")
    ids = [each["task_id"] for each in (await http.post("/api/v1/tasks", [ECHO, ECHO])).data["tasks"]]
    one = await http.stream(f"/stream/tasks/{ids[1]}?last_event_id=0")
    first, second = await device.take(), await device.take()
    device.say("task_progress", {"task_id": ids[1], "epoch": 1, "percent": 50})
    await device.finish(first)
    await device.finish(second)
    await one.until(b'"status":"completed"')
    about = [json.loads(each["data"]) for each in events_in(one.data)]
    assert {each["task_id"] for each in about} == {ids[1]}
    assert [each["event"] for each in about][:2] == ["submitted", "grant"]
    assert "progress" in [each["event"] for each in about]
    assert {each["event"] for each in events_in(devices.data)} <= {"device_update", "heartbeat"}
    assert {each["event"] for each in events_in(tasks.data)} == {"task_update"}
    for stream in (devices, tasks, one):
        await stream.leave()
    await device.leave()


@pytest.mark.parametrize("last", ["1", "999", "rubbish"])
@pytest_twisted.ensureDeferred
async def test_where_history_is_gone_there_is_a_reset(
    node: Any, http: Http, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    await settled(node, http, 4)

    async def first_event_no(_: Any) -> int:
        return 3

    monkeypatch.setattr("retirecluster.main.cluster.Cluster.first_event_no", first_event_no)
    for path, inside in (("devices", "devices"), ("tasks", "tasks"), ("events", "status")):
        stream = await http.stream(f"/stream/{path}", f"Last-Event-ID: {last}")
        await stream.until(b"event: reset\n")
        await stream.until(b"}\n\n")
        [reset] = events_in(stream.data)
        assert reset["id"] == "4"
        document = json.loads(reset["data"])
        assert document["event_no"] == 4 and inside in document
        await stream.leave()
    stream = await http.stream("/stream/events", "Last-Event-ID: 2")
    await stream.until(b"id: 4\n")
    assert numbers(stream.data) == [3, 4]
    await stream.leave()


@pytest_twisted.ensureDeferred
async def test_output_stored_then_live_then_the_end(node: Any, http: Http) -> None:
    device = await played(node)
    task_id = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    task = await device.take()
    device.print(task, 0, "one\n")
    device.print(task, 1, "two\n", "stderr")
    await pause(0.1)
    path = f"/stream/tasks/{task_id}/output"
    early, resumed = await http.stream(path), await http.stream(path, "Last-Event-ID: 1:0")
    device.print(task, 2, "three\n")
    await early.until(b"three")
    await device.finish(task, "one\nthree\n")
    for stream, wanted in ((early, ["one\n", "two\n", "three\n"]), (resumed, ["two\n", "three\n"])):
        await stream.until(b"event: end")
        await stream.until(b"\r\n0\r\n\r\n")
        *pieces, end = events_in(stream.data)
        assert [json.loads(each["data"])["data"] for each in pieces] == wanted
        assert [each["id"] for each in pieces][-1] == "1:2"
        assert end["event"] == "end" and json.loads(end["data"])["status"] == "completed"
        await stream.leave()
    late = await http.stream(path)
    await late.until(b"event: end")
    assert printed(late.data) == "one\nthree\n"
    await late.leave()
    node.rooms.cluster.outputs.forget(task_id)
    kept = await http.stream(path, "Last-Event-ID: 1:1")
    await kept.until(b"event: end")
    assert events_in(kept.data)[0]["event"] == "reset" and printed(kept.data) == "one\nthree\n"
    await kept.leave()
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_signs_of_life(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.web.conftest import http_of

    monkeypatch.setattr(hub, "COMMENT_S", 0.1)
    node = make_node()
    stream = await http_of(node).stream("/stream/events")
    await stream.until(sse.COMMENT)
    assert node.site.hub.readers == 1
    await stream.leave()
    await pause(0.1)
    assert node.site.hub.readers == 0 and not node.rooms.events.watchers


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_is_told_and_dropped(node: Any, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_WAITING_BYTES", 200_000)
    slow, quick = await http.stream("/stream/events"), await http.stream("/stream/events")
    slow.transport.pauseProducing()
    for number in range(600):
        node.rooms.events.tell("heartbeat", {"text": "x" * 20_000}, device_id="d")
        node.rooms.events.publish_rows(
            [(number + 1, 0.0, "device", "noise", None, "d", '{"text":"%s"}' % ("x" * 20_000))]
        )
        await pause(0)
        if node.site.hub.readers == 1:
            break
    assert node.site.hub.readers == 1, "the slow one is gone, the quick one is not"
    slow.transport.resumeProducing()
    data = await slow.end()
    assert events_in(data)[-1]["event"] == "dropped"
    assert b"event: dropped" not in quick.data
    got = numbers(quick.data)
    assert got == list(range(1, got[-1] + 1))
    await quick.leave()


@pytest_twisted.ensureDeferred
async def test_streams_end_with_the_main(node: Any, http: Http) -> None:
    stream = await http.stream("/stream/events")
    await node.stopService()
    assert (await stream.end()).endswith(b"0\r\n\r\n")


@pytest_twisted.ensureDeferred
async def test_there_is_a_cap_on_streams(node: Any, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_STREAMS", 1)
    stream = await http.stream("/stream/events")
    answer = await http.get("/stream/tasks")
    assert (answer.status, answer.code) == (503, "too_many_connections")
    await stream.leave()
    answer = await http.get("/stream/tasks/task-nosuchtask00/output")
    assert (answer.status, answer.code) == (404, "not_found")
