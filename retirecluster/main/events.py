"""The event log as it grows, for those who watch. Each event is encoded once, however many watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger

from retirecluster.domain.tasks import encode
from retirecluster.store.rows import Row

log = Logger()


@frozen
class StreamEvent:
    """One event on its way to watchers. `event_no` is None for those that are not in the log (output, progress)."""

    name: str
    data: str
    event_no: int | None = None
    subject: str = ""
    task_id: str | None = None
    device_id: str | None = None


def from_row(row: Row) -> StreamEvent:
    """The stream's form of a row of the event log: its JSON data with what happened to what, and when."""
    event_no, at, subject, kind, task_id, device_id, data = row
    head = encode({"event_no": event_no, "at": at, "event": kind, "task_id": task_id, "device_id": device_id})
    joined = head[:-1] + "," + data[1:] if len(data) > 2 else head
    return StreamEvent(f"{subject}_update", joined, event_no, subject, task_id, device_id)


Watcher = Callable[[list[StreamEvent]], None]


@define(eq=False)
class EventBus:
    """Tells watchers what happened, after it is on disk."""

    watchers: dict[int, Watcher] = field(factory=dict)
    last_no: int = 0
    _count: int = 0

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with each batch of events from now on; call the answer to end that."""
        self._count += 1
        number = self._count
        self.watchers[number] = watcher
        return lambda: self.watchers.pop(number, None) and None

    def publish_rows(self, rows: list[Row]) -> None:
        """Rows of the event log that were just committed."""
        if rows:
            self.last_no = rows[-1][0]
            if self.watchers:
                self.publish([from_row(row) for row in rows])

    def publish(self, events: Iterable[StreamEvent]) -> None:
        batch = list(events)
        for watcher in list(self.watchers.values()):
            try:
                watcher(batch)
            except Exception:
                log.failure("a watcher of the event log failed")

    def tell(
        self, name: str, data: dict[str, Any], *, task_id: str | None = None, device_id: str | None = None
    ) -> None:
        """Tell of something that is not in the log."""
        if self.watchers:
            self.publish([StreamEvent(name, encode(data), None, "", task_id, device_id)])
