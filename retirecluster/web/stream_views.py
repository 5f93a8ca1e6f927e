"""Handlers of /stream: what happened since an event, then what happens, without a gap and without a double."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Integer, Record, Text
from retirecluster.domain.lifecycle import FINAL
from retirecluster.domain.tasks import encode
from retirecluster.main.events import from_row
from retirecluster.store.reads import TaskFilter
from retirecluster.web.api_tasks import task_id_of
from retirecluster.web.calls import Call, Web
from retirecluster.web.connections import WebRequest
from retirecluster.web.hub import Packet, packet_of
from retirecluster.web.sse import MAX_WAITING_BYTES, Reader, formatted

_PIECE = re.compile(r"[0-9]{1,9}:[0-9]{1,9}")
PAGE = 500
REPLAY_MAX = 1_000_000
"""Events that one reader may have replayed; who is farther behind gets the present state instead."""
SNAPSHOT_TASKS = 100
Snapshot = Callable[[], Awaitable[dict[str, Any]]]

RESUME_QUERY = Record(
    (Field("last_event_id", Integer(), "go on after this event; the Last-Event-ID header says the same"),),
    closed=True,
)
OUTPUT_QUERY = Record(
    (
        Field("from_seq", Integer(), "the first piece wanted", default=0),
        Field(
            "last_event_id", Text(40, pattern=r"\d{1,9}:\d{1,9}", pattern_doc="EPOCH:SEQ"), "the last piece you have"
        ),
    ),
    closed=True,
)


def resume_after(call: Call) -> int | None:
    """The event to go on after: None to begin with now, -1 for one that no event has."""
    header = call.header(b"Last-Event-ID")
    if header:
        return int(header) if header.isascii() and header.isdigit() and len(header) < 19 else -1
    asked: int | None = call.query.get("last_event_id")
    return asked


async def devices(web: Web, call: Call) -> LogStream:
    """What happens to devices, and their heartbeats."""

    async def snapshot() -> dict[str, Any]:
        return {"devices": web.cluster.devices()}

    return LogStream(web, "devices", "device", None, resume_after(call), snapshot)


async def tasks(web: Web, call: Call) -> LogStream:
    """What happens to tasks, and their progress."""

    async def snapshot() -> dict[str, Any]:
        found, _ = await web.cluster.tasks(TaskFilter(limit=SNAPSHOT_TASKS))
        return {"counts": web.cluster.status()["tasks"], "tasks": found}

    return LogStream(web, "tasks", "task", None, resume_after(call), snapshot)


async def task(web: Web, call: Call) -> LogStream:
    """What happens to one task."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    await web.cluster.task(task_id)

    async def snapshot() -> dict[str, Any]:
        return {"task": await web.cluster.task(task_id)}

    return LogStream(web, f"task:{task_id}", "task", task_id, resume_after(call), snapshot)


async def events(web: Web, call: Call) -> LogStream:
    """The event log as it grows."""

    async def snapshot() -> dict[str, Any]:
        return {"status": web.cluster.status(), "devices": web.cluster.devices()}

    return LogStream(web, "events", "", None, resume_after(call), snapshot)


async def output(web: Web, call: Call) -> OutputStream:
    """What one task prints, from its beginning, until it has ended."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    await web.cluster.task(task_id)
    last = call.header(b"Last-Event-ID") or call.query.get("last_event_id") or ""
    if _PIECE.fullmatch(last):
        epoch, _, seq = last.partition(":")
        return OutputStream(web, task_id, int(epoch), int(seq) + 1)
    return OutputStream(web, task_id, None, call.query["from_seq"])


@define(eq=False)
class LogSubscription:
    """A reader's place in the event log. Until it is `live`, packets are held back."""

    reader: Reader
    last_no: int
    live: bool = False
    _held: list[Packet] = field(factory=list)
    _held_bytes: int = 0

    def take(self, packets: list[Packet], joined: bytes) -> None:
        """New packets: sent, or held back until the replay is done."""
        if self.live:
            self._deliver(packets, joined)
            return
        self._held += packets
        self._held_bytes += len(joined)
        if self._held_bytes > MAX_WAITING_BYTES:
            self._held.clear()
            self.reader.drop("more happened than could be held back during the replay; connect again")

    def go_live(self) -> None:
        """The replay is done: send what was held back, without what the replay had already."""
        self.live = True
        held, self._held = self._held, []
        if held:
            self._deliver(held, b"")

    def _deliver(self, packets: list[Packet], joined: bytes) -> None:
        last_no = self.last_no
        if joined and all(packet.event_no is None or packet.event_no > last_no for packet in packets):
            self.reader.send(joined)
        else:
            fresh = [each.data for each in packets if each.event_no is None or each.event_no > last_no]
            if fresh:
                self.reader.send(b"".join(fresh))
        self.last_no = max([last_no, *(packet.event_no for packet in packets if packet.event_no is not None)])


@define(eq=False)
class LogStream:
    """A stream of events with numbers. `after` is the last one that the reader has; None: it wants what comes."""

    web: Web
    topic: str
    subject: str
    task_id: str | None
    after: int | None
    snapshot: Snapshot

    async def run(self, request: WebRequest) -> None:
        """Replay, then go live, until the reader leaves or the main stops."""
        hub = self.web.hub
        reader = Reader(request, hub.clock.seconds)
        subscription = LogSubscription(reader, hub.events.last_no)
        leave = hub.subscribe(subscription, [self.topic])
        try:
            await self._catch_up(reader, subscription)
            subscription.go_live()
            await reader.ended
        finally:
            leave()
            reader.lost()

    async def _catch_up(self, reader: Reader, subscription: LogSubscription) -> None:
        after, newest = self.after, subscription.last_no
        if after is None:
            reader.open(str(newest))
            return
        first = await self.web.cluster.first_event_no()
        if after < 0 or after > newest or after + 1 < first or newest - after > REPLAY_MAX:
            document = await self.snapshot()
            reader.open(None)
            text = encode({"event_no": newest, "reason": "the events after the last one you have are gone"} | document)
            reader.send(formatted("reset", text, str(newest)))
            return
        reader.open(str(after))
        subscription.last_no = after
        await self._replay(reader, subscription)

    async def _replay(self, reader: Reader, subscription: LogSubscription) -> None:
        while True:
            rows = await self.web.cluster.events_after(subscription.last_no, self.subject, PAGE)
            wanted = [row for row in rows if self.task_id is None or row[4] == self.task_id]
            if wanted:
                reader.send(b"".join(packet_of(from_row(row)).data for row in wanted))
            if rows:
                subscription.last_no = rows[-1][0]
            if len(rows) < PAGE or not await reader.drained():
                return


@define(eq=False)
class OutputSubscription:
    """A reader's place in what a task prints: the next piece of the attempt `epoch`."""

    reader: Reader
    epoch: int | None
    next_seq: int
    finished: Deferred[str]
    live: bool = False
    _held: list[Packet] = field(factory=list)

    def take(self, packets: list[Packet], joined: bytes) -> None:
        """New packets: pieces of output, and what happens to the task."""
        if not self.live:
            self._held += packets
            return
        for packet in packets:
            data = json.loads(packet.event.data)
            if packet.event.name == "output":
                self._piece(data, packet.data)
            elif data.get("status") in FINAL and not self.finished.called:
                self.finished.callback(data["status"])

    def go_live(self) -> None:
        """The stored pieces are sent: go on with those held back."""
        self.live = True
        held, self._held = self._held, []
        self.take(held, b"")

    def send_stored(self, task_id: str, epoch: int | None, chunks: list[Mapping[str, Any]]) -> None:
        """Send pieces that were read from the board or the result."""
        for chunk in chunks:
            told = {name: chunk[name] for name in ("seq", "stream", "data")} | {"task_id": task_id, "epoch": epoch}
            self._piece(told, formatted("output", encode(told), f"{epoch or 0}:{chunk['seq']}"))

    def _piece(self, data: Mapping[str, Any], formed: bytes) -> None:
        epoch, seq = data["epoch"], data["seq"]
        if self.epoch is not None and epoch == self.epoch and seq < self.next_seq:
            return
        self.epoch, self.next_seq = epoch, seq + 1
        self.reader.send(formed)


@define(eq=False)
class OutputStream:
    """What a task prints: what is stored first, then what comes, then `end`."""

    web: Web
    task_id: str
    epoch: int | None
    from_seq: int

    async def run(self, request: WebRequest) -> None:
        """Send pieces until the task has ended, the reader leaves or the main stops."""
        hub, task_id = self.web.hub, self.task_id
        reader = Reader(request, hub.clock.seconds)
        finished: Deferred[str] = Deferred()
        subscription = OutputSubscription(reader, self.epoch, self.from_seq, finished)
        leave = hub.subscribe(subscription, [f"output:{task_id}", f"task:{task_id}"])
        try:
            sent_live = await self._stored(reader, subscription)
            if not sent_live:
                return
            reader.ended.addCallback(lambda _: None if finished.called else finished.callback(""))
            subscription.go_live()
            if await finished:
                await self._end(reader, subscription)
        finally:
            leave()
            reader.lost()

    async def _stored(self, reader: Reader, subscription: OutputSubscription) -> bool:
        """Send what there is; False if the task has ended and all is said."""
        found = await self.web.cluster.output(self.task_id, 0)
        reader.open(None)
        if subscription.epoch is None:
            subscription.epoch = found["epoch"]
        elif found["epoch"] != subscription.epoch or found["next_seq"] < subscription.next_seq:
            # Another attempt, or the pieces are gone and the kept end of them counts anew.
            subscription.next_seq = 0
            text = encode({"task_id": self.task_id, "reason": "the output begins anew"})
            reader.send(formatted("reset", text))
        subscription.send_stored(self.task_id, found["epoch"], found["chunks"])
        if found["finished"]:
            await self._end(reader, subscription)
        return not found["finished"]

    async def _end(self, reader: Reader, subscription: OutputSubscription) -> None:
        """Say how it ended; a task whose output did not come live has it in its result."""
        task_id = self.task_id
        if subscription.next_seq == 0:
            found = await self.web.cluster.output(task_id, 0)
            subscription.send_stored(task_id, found["epoch"], found["chunks"])
        try:
            result = await self.web.cluster.result(task_id)
        except ClusterError as error:
            result = {"status": None, "exit_code": None, "error": {"message": error.message}}
        told = {name: result.get(name) for name in ("status", "exit_code", "execution_time", "error")}
        reader.send(formatted("end", encode({"task_id": task_id} | told)))
        reader.close()
