"""Event streams: they resume after the last event, give up in words, and leave nothing open."""

from __future__ import annotations

import json

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from retirecluster.client import streams
from retirecluster.client.api import ClusterApi
from retirecluster.client.tracking import TaskTracker
from retirecluster.domain.errors import ClusterError
from tests.client.fake_main import FakeMain
from tests.support import pause


@ensureDeferred
async def test_events_come_in_order_over_reconnects(api: ClusterApi, fake: FakeMain) -> None:
    stream = api.stream("stream/tasks", last_event_id="5")
    await stream.connect()
    assert fake.stream_headers[0]["last-event-id"] == "5"
    fake.send("id: 6\nevent: task_update\ndata: one\n\nid: 7\ndata: two\n\nid: 8\ndata: half of")
    assert [(await stream.__anext__()).data, (await stream.__anext__()).data] == ["one", "two"]
    fake.streams[0].channel.loseConnection()
    waiting = Deferred.fromCoroutine(stream.__anext__())
    while len(fake.stream_headers) < 2:
        await pause(0.01)
    assert fake.stream_headers[1]["last-event-id"] == "7"
    await pause(0.01)
    fake.send("id: 8\ndata: half of it\n\n")
    event = await waiting
    assert (event.data, event.last_event_id, stream.last_event_id) == ("half of it", "8", "8")
    await stream.close()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


@ensureDeferred
async def test_a_refused_stream_is_an_error(api: ClusterApi) -> None:
    stream = api.stream("stream/refused")
    with pytest.raises(ClusterError) as caught:
        await stream.__anext__()
    assert caught.value.code == "forbidden"
    await stream.close()


@ensureDeferred
async def test_no_content_ends_a_stream(api: ClusterApi) -> None:
    assert [event async for event in api.stream("stream/ended")] == []


@ensureDeferred
async def test_a_stream_gives_up_when_the_main_stays_away(
    api: ClusterApi, fake: FakeMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "RECONNECTS", 3)
    stream = api.stream("stream/tasks")
    await stream.connect()
    await fake.port.stopListening()
    fake.streams[0].channel.loseConnection()
    with pytest.raises(ClusterError) as caught:
        await stream.__anext__()
    assert caught.value.code == "unreachable"
    await stream.close()
    fake.listen()


@ensureDeferred
async def test_a_silent_connection_is_replaced(
    api: ClusterApi, fake: FakeMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.05)
    stream = api.stream("stream/tasks")
    waiting = Deferred.fromCoroutine(stream.__anext__())
    while len(fake.stream_headers) < 3:
        await pause(0.01)
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    await stream.close()


@ensureDeferred
async def test_a_slow_reader_loses_nothing(api: ClusterApi, fake: FakeMain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_WAITING", 10)
    stream = api.stream("stream/tasks")
    await stream.connect()
    for number in range(500):
        fake.send(f"data: {number} {'x' * 2000}\n\n")
    await pause(0.05)
    got = [int((await stream.__anext__()).data.split()[0]) for _ in range(500)]
    assert got == list(range(500))
    await stream.close()


def update(task_id: str, status: str, device_id: str | None = None) -> str:
    data = json.dumps({"task_id": task_id, "status": status, "device_id": device_id})
    return f"event: task_update\ndata: {data}\n\n"


@ensureDeferred
async def test_a_tracker_follows_the_stream(api: ClusterApi, fake: FakeMain) -> None:
    fake.ends_after_gets = 1000
    ids = [fake.add({})["task_id"] for _ in range(3)]
    tracker, shown = TaskTracker(api, reactor, ids), []
    following = Deferred.fromCoroutine(tracker.follow(lambda: shown.append(tracker.ended)))
    while not fake.streams:
        await pause(0.01)
    fake.send(update(ids[0], "running", "phone") + update("task-other", "failed") + "data: not json\n\n")
    await pause(0.15)
    assert tracker.seen[ids[0]].device_id == "phone"
    fake.send("".join(update(each, "completed") for each in ids))
    await following
    assert (tracker.ended, tracker.counts()["completed"], shown[-1]) == (3, 3, 3)
    assert tracker.seen[ids[0]].device_id == "phone"


@ensureDeferred
async def test_a_tracker_without_a_stream_asks(
    api: ClusterApi, fake: FakeMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retirecluster.client.tracking.POLL_S", 0.02)
    real = api.stream
    monkeypatch.setattr(api, "stream", lambda path: real("stream/refused"))
    fake.ends_after_gets = 3
    tracker = TaskTracker(api, reactor, [fake.add({})["task_id"] for _ in range(3)])
    await tracker.follow(lambda: None)
    assert tracker.ended == 3


@ensureDeferred
async def test_a_tracker_gives_up_in_time(api: ClusterApi, fake: FakeMain) -> None:
    fake.ends_after_gets = 1000
    tracker = TaskTracker(api, reactor, [fake.add({})["task_id"]])
    with pytest.raises(ClusterError) as caught:
        await tracker.follow(lambda: None, timeout_s=0.05)
    assert caught.value.code == "timeout"
