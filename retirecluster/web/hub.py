"""From the event bus to readers: each event is formatted once, and goes to the readers of its topics.

Heartbeats come one by one, and often: they are gathered for a moment, so that a reader is written to once for many.
Whatever else happens goes out at once, and what was gathered before it goes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Protocol

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from retirecluster.domain.errors import ClusterError
from retirecluster.main.events import EventBus, StreamEvent
from retirecluster.web.sse import Reader, formatted

log = Logger()
COMMENT_S = 15.0
GATHER_S = 0.05
"""How long a heartbeat may wait for others."""
PATIENCE_S = 60.0
MAX_STREAMS = 500


@frozen
class Packet:
    """An event as it is sent. `event_no` is None for those that are not in the log."""

    event_no: int | None
    data: bytes
    event: StreamEvent


class Subscriber(Protocol):
    """Who takes packets."""

    reader: Reader

    def take(self, packets: list[Packet], joined: bytes) -> None:
        """New packets of the topic, also as one piece."""


def packet_of(event: StreamEvent) -> Packet:
    """An event, formatted. Output has the attempt and the piece as its id, the event log its numbers."""
    event_id = None if event.event_no is None else str(event.event_no)
    if event.name == "output":
        piece = json.loads(event.data)
        event_id = f"{piece['epoch']}:{piece['seq']}"
    return Packet(event.event_no, formatted(event.name, event.data, event_id), event)


def topics_of(event: StreamEvent) -> list[str]:
    """Where an event goes."""
    if event.name == "output":
        return [f"output:{event.task_id}"]
    topics = ["events"] if event.event_no is not None else []
    if event.name in ("device_update", "heartbeat"):
        topics.append("devices")
    elif event.name == "task_update":
        topics += ["tasks", f"task:{event.task_id}"]
    return topics


@define(eq=False)
class StreamHub:
    """Watches the bus while somebody reads."""

    events: EventBus
    clock: IReactorTime
    closed: bool = False
    _topics: dict[str, set[Subscriber]] = field(factory=dict)
    _readers: set[Reader] = field(factory=set)
    _unwatch: Callable[[], None] | None = None
    _loop: LoopingCall | None = None
    _gathered: list[StreamEvent] = field(factory=list)
    _flushing: IDelayedCall | None = None

    @property
    def readers(self) -> int:
        """How many streams are open."""
        return len(self._readers)

    def subscribe(self, subscriber: Subscriber, topics: Iterable[str]) -> Callable[[], None]:
        """Give packets of these topics to a subscriber from now on; call the answer to end that.

        Raises ClusterError: shutting_down, too_many_connections.
        """
        if self.closed:
            raise ClusterError("shutting_down")
        if len(self._readers) >= MAX_STREAMS:
            raise ClusterError("too_many_connections", f"{MAX_STREAMS} streams are open already")
        wanted = list(topics)
        for topic in wanted:
            self._topics.setdefault(topic, set()).add(subscriber)
        self._readers.add(subscriber.reader)
        self._start()
        return lambda: self._leave(subscriber, wanted)

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._flush()
        for reader in list(self._readers):
            reader.close()

    def _leave(self, subscriber: Subscriber, topics: list[str]) -> None:
        for topic in topics:
            members = self._topics.get(topic, set())
            members.discard(subscriber)
            if not members:
                self._topics.pop(topic, None)
        self._readers.discard(subscriber.reader)
        if not self._readers:
            self._stop()

    def _start(self) -> None:
        if self._loop is None:
            self._unwatch = self.events.watch(self._take)
            self._loop = LoopingCall(self._comment)
            self._loop.clock = self.clock
            self._loop.start(COMMENT_S, now=False)

    def _stop(self) -> None:
        if self._loop is not None and self._unwatch is not None:
            self._loop.stop()
            self._unwatch()
            self._gathered.clear()
            self._end_gathering()
            self._loop = self._unwatch = None

    def _take(self, events: list[StreamEvent]) -> None:
        self._gathered += events
        if any(event.name != "heartbeat" for event in events):
            self._flush()
        elif self._flushing is None:
            self._flushing = self.clock.callLater(GATHER_S, self._flush)

    def _flush(self) -> None:
        self._end_gathering()
        events, self._gathered = self._gathered, []
        self._publish(events)

    def _end_gathering(self) -> None:
        if self._flushing is not None and self._flushing.active():
            self._flushing.cancel()
        self._flushing = None

    def _publish(self, events: list[StreamEvent]) -> None:
        by_topic: dict[str, list[Packet]] = {}
        topics = self._topics
        for event in events:
            packet: Packet | None = None
            for topic in topics_of(event):
                if topic in topics:
                    packet = packet or packet_of(event)
                    by_topic.setdefault(topic, []).append(packet)
        for topic, packets in by_topic.items():
            joined = b"".join(packet.data for packet in packets)
            for subscriber in list(topics.get(topic, ())):
                try:
                    subscriber.take(packets, joined)
                except Exception:
                    log.failure("a stream failed")
                    subscriber.reader.close()

    def _comment(self) -> None:
        for reader in list(self._readers):
            try:
                reader.comment(PATIENCE_S)
            except Exception:
                log.failure("a comment to a stream failed")
