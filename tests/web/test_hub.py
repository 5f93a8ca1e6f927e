"""What many slow dashboards may cost: one format for each event, one write for many heartbeats, bounded memory."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.task import Clock

from retirecluster.main.events import EventBus
from retirecluster.web import hub, sse
from tests.support import pause
from tests.web.device import played
from tests.web.http import Http, events_in

ECHO = {"task_type": "echo", "payload": {"message": "hello"}}
SLOW = 40


class Taker:
    """Takes packets, and keeps how many came at a time."""

    def __init__(self) -> None:
        self.reader: Any = self
        self.batches: list[list[str]] = []

    def take(self, packets: list[hub.Packet], joined: bytes) -> None:
        assert joined == b"".join(packet.data for packet in packets)
        self.batches.append([packet.event.name for packet in packets])


def test_heartbeats_are_gathered_and_nothing_waits_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, bus, formed = Clock(), EventBus(), list[str]()
    real = hub.packet_of
    monkeypatch.setattr(hub, "packet_of", lambda event: formed.append(event.name) or real(event))
    streams, takers = hub.StreamHub(bus, clock), [Taker() for _ in range(200)]
    leaving = [streams.subscribe(each, ["devices"]) for each in takers]
    for number in range(10):
        bus.tell("heartbeat", {"number": number}, device_id="one")
    assert takers[0].batches == []
    clock.advance(hub.GATHER_S)
    assert [each.batches for each in takers] == [[["heartbeat"] * 10]] * 200
    assert len(formed) == 10, "each is formatted once, however many read"
    bus.tell("heartbeat", {"number": 10}, device_id="one")
    bus.tell("device_update", {"status": "offline"}, device_id="one")
    assert takers[0].batches[1:] == [["heartbeat", "device_update"]], "at once, and in order"
    bus.tell("heartbeat", {"number": 11}, device_id="one")
    for leave in leaving:
        leave()
    assert not clock.getDelayedCalls() and len(takers[0].batches) == 2


@pytest_twisted.ensureDeferred
async def test_many_slow_readers_are_dropped_and_told_and_others_are_served(
    node: Any, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_WAITING_BYTES", 100_000)
    device = await played(node)
    slow = [await http.stream("/stream/events") for _ in range(SLOW)]
    quick = await http.stream("/stream/events")
    for each in slow:
        each.transport.pauseProducing()
    streams, most = node.site.hub, 0
    for _ in range(400):
        assert (await http.post("/api/v1/tasks", [ECHO | {"requirements": {"device": "nobody"}}] * 100)).status == 201
        assert (await http.get("/api/v1/cluster/status")).status == 200
        most = max([most, *(reader._waiting_bytes for reader in streams._readers)])
        if streams.readers == 1:
            break
    assert streams.readers == 1, "the slow ones are gone, the quick one is not"
    assert 0 < most <= 100_000
    for each in slow:
        each.transport.resumeProducing()
        assert events_in(await each.end())[-1]["event"] == "dropped"
    assert b"event: dropped" not in quick.data
    await quick.leave()
    await device.peer.leave()
    await pause(0)
