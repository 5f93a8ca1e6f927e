"""Following many tasks until all have ended: fed from /stream/tasks, checked by asking now and then."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import evolve, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from retirecluster.client.api import ClusterApi
from retirecluster.client.running import at_most
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL

POLL_S = 0.5
"""How often to ask while there is no stream."""
CHECK_S = 3.0
"""How often to ask while there is one: it may have been cut without either side noticing yet."""
REDRAW_S = 0.1
ASKED_AT_ONCE = 100


@frozen
class Seen:
    """What was last heard of a task."""

    status: str = "queued"
    device_id: str | None = None
    percent: float | None = None


class TaskTracker:
    """Knows the state of a set of tasks. `seen` maps their ids to what was last heard."""

    def __init__(self, api: ClusterApi, reactor: Any, task_ids: Iterable[str]) -> None:
        self._api = api
        self._reactor = reactor
        self.seen: dict[str, Seen] = {task_id: Seen() for task_id in task_ids}
        self._unfinished = set(self.seen)
        self._placeless: set[str] = set()
        self._streaming = False
        self._changed = True

    @property
    def total(self) -> int:
        return len(self.seen)

    @property
    def ended(self) -> int:
        return len(self.seen) - len(self._unfinished)

    def counts(self) -> Counter[str]:
        """How many tasks are in each state."""
        return Counter(each.status for each in self.seen.values())

    async def follow(self, show: Callable[[], None], timeout_s: float | None = None) -> None:
        """Until all have ended; `show` is called after changes. ClusterError (`timeout`) if it takes longer."""
        reader = Deferred.fromCoroutine(self._read_stream())
        reader.addErrback(lambda failure: failure.trap(ClusterError, CancelledError) and None)
        started = asked = self._reactor.seconds()
        try:
            await self._ask()
            while True:
                if self._changed:
                    self._changed = False
                    show()
                if not self._unfinished:
                    await self._ask()
                    show()
                    return
                await deferLater(self._reactor, REDRAW_S)
                now = self._reactor.seconds()
                if timeout_s is not None and now - started >= timeout_s:
                    raise ClusterError("timeout", f"{len(self._unfinished)} of {self.total} tasks have not ended")
                if now - asked >= (CHECK_S if self._streaming else POLL_S):
                    await self._ask()
                    asked = self._reactor.seconds()
        finally:
            reader.cancel()
            await reader

    def note(self, document: Mapping[str, Any]) -> None:
        """Take note of what a task document or an update says. A final state stays, whatever comes late."""
        task_id, status = document.get("task_id"), document.get("status")
        if task_id not in self.seen or not isinstance(status, str):
            return
        before, device_id = self.seen[task_id], document.get("device_id")
        if task_id not in self._unfinished:
            self._learn(task_id, evolve(before, device_id=before.device_id or device_id))
            return
        progress = document.get("progress")
        percent = progress.get("percent") if isinstance(progress, Mapping) else None
        if status in FINAL:
            # The update of the end does not name the device again.
            device_id = device_id or before.device_id
            self._unfinished.discard(task_id)
            if device_id is None:
                # It was given out before the stream was there; or it ended without ever having had a device.
                self._placeless.add(task_id)
        self._learn(task_id, Seen(status, device_id, percent))

    def _learn(self, task_id: str, seen: Seen) -> None:
        if seen != self.seen[task_id]:
            self.seen[task_id] = seen
            self._changed = True

    async def _read_stream(self) -> None:
        stream = self._api.stream("stream/tasks")
        try:
            async for event in stream:
                self._streaming = True
                if event.event == "task_update":
                    self._note_json(event.data)
        finally:
            self._streaming = False
            await stream.close()

    def _note_json(self, text: str) -> None:
        try:
            document = json.loads(text)
        except ValueError:
            return
        if isinstance(document, dict):
            inner = document.get("task")
            self.note(inner if isinstance(inner, dict) else document)

    async def _ask(self) -> None:
        """Ask for some of the tasks that are not known to have ended, or to have run on which device."""
        placeless = [task_id for task_id in self._placeless if self.seen[task_id].device_id is None]
        self._placeless.clear()
        asked = [*sorted(self._unfinished)[:ASKED_AT_ONCE], *placeless]

        async def one(task_id: str) -> None:
            self.note(await self._api.task(task_id))

        await at_most(8, [lambda task_id=task_id: one(task_id) for task_id in asked])  # type: ignore[misc]
