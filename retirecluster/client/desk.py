"""What all forms of the Python client share: patient submits, the ends of many tasks, cancelling.

Everything here runs in the thread of one Twisted reactor. `link` brings it to other threads and to asyncio.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from retirecluster.client.api import ClusterApi, Document
from retirecluster.client.problems import TEMPORARY
from retirecluster.client.result_feed import ASKED_AT_ONCE, LONGEST_PAUSE_S, POLL_S, ResultFeed, Watcher
from retirecluster.client.running import at_most
from retirecluster.client.settings import Connection
from retirecluster.client.streams import EventStream
from retirecluster.domain.errors import ClusterError

PATIENCE_S = 120.0
"""How long a main that was there may be away: a reboot of a small computer fits."""
BATCH_TASKS = 500
CLOSE_S = 5.0
CANCEL_LANES = 4
Outcome = Document | ClusterError
_PATIENT = TEMPORARY | {"queue_full"}


class Desk:
    """One main node, as the Python client uses it. close() it, in its reactor's thread."""

    def __init__(self, connection: Connection, reactor: Any, patience_s: float) -> None:
        self.api = ClusterApi(connection.server, connection.token, reactor=reactor, ca=connection.ca)
        self.feed = ResultFeed(self.api, reactor, patience_s)
        self._reactor = reactor
        self._patience_s = patience_s
        self._reached = False
        self._submitting = 0
        self._doomed: deque[str] = deque()
        self._cancelling: Deferred[None] | None = None

    async def close(self) -> None:
        """Close everything, after what is being submitted or cancelled, for which it does not wait long."""
        until = self._reactor.seconds() + CLOSE_S
        while (self._submitting or self._cancelling is not None) and self._reactor.seconds() < until:
            await deferLater(self._reactor, 0.01)
        await self.feed.close()
        await self.api.close()

    async def submit(self, documents: Iterable[Mapping[str, Any]]) -> tuple[list[str], int | None]:
        """The ids of tasks that are on the main's disk, in order; and the feed's mark from before.

        Each gets a key, so that sending it again after an answer that was lost makes no second task of it. A main that
        was reached before is waited for, as long as the patience lasts.
        """
        mark = self.feed.mark()
        keyed = [{"idempotency_key": uuid4().hex, **each} for each in documents]
        task_ids: list[str] = []
        self._submitting += 1
        try:
            for start in range(0, len(keyed), BATCH_TASKS):
                submitted = await self._submit_patiently(keyed[start : start + BATCH_TASKS])
                task_ids += [each["task_id"] for each in submitted]
        finally:
            self._submitting -= 1
        return task_ids, mark

    async def _submit_patiently(self, documents: list[dict[str, Any]]) -> list[Document]:
        began, pause_s = self._reactor.seconds(), POLL_S
        while True:
            try:
                submitted = await self.api.submit(documents)
            except ClusterError as error:
                too_late = self._reactor.seconds() - began > self._patience_s
                if error.code not in _PATIENT or too_late or (error.code == "unreachable" and not self._reached):
                    raise
            else:
                self._reached = True
                return submitted
            await deferLater(self._reactor, pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def harvest(self, task_ids: Iterable[str], mark: int | None = None) -> Harvest:
        """The ends of these tasks, to be taken as they come."""
        return Harvest(self.feed, self._reactor, task_ids, mark)

    async def ended_by_now(self, task_ids: Iterable[str]) -> list[tuple[str, Outcome]]:
        """Those of the tasks that have ended, without waiting."""
        found: list[tuple[str, Outcome]] = []
        left = list(task_ids)
        while left:
            answer = await self.api.results(left[:ASKED_AT_ONCE])
            found += [(each["task_id"], each) for each in answer["results"]]
            left = answer["left"] + left[ASKED_AT_ONCE:]
        return found

    async def cancel(self, task_id: str) -> bool:
        """Cancel a task; False if it had ended already."""
        try:
            await self.api.cancel(task_id)
        except ClusterError as error:
            if error.code != "conflict":
                raise
            return False
        return True

    def cancel_soon(self, task_id: str) -> None:
        """Cancel a task that nobody waits for any more. If the main cannot be told, it runs."""
        self._doomed.append(task_id)
        if self._cancelling is None:
            self._cancelling = Deferred.fromCoroutine(self._cancel_doomed())

    async def _cancel_doomed(self) -> None:
        async def lane() -> None:
            while self._doomed:
                try:
                    await self.cancel(self._doomed.popleft())
                except ClusterError:
                    continue

        try:
            while self._doomed:
                await at_most(CANCEL_LANES, [lane] * min(CANCEL_LANES, len(self._doomed)))
        finally:
            self._cancelling = None


async def next_piece(events: EventStream, stream: str | None) -> str | None:
    """What a task prints next to `stream`, or to either; None at the end, as StopAsyncIteration is not one that a
    future may carry."""
    async for event in events:
        if event.event == "end":
            return None
        if event.event == "output":
            piece = json.loads(event.data)
            if stream in (None, piece["stream"]):
                return str(piece["data"])
    return None


@define(eq=False)
class Harvest:
    """The ends of a set of tasks: each comes out of `more` once."""

    _feed: ResultFeed
    _reactor: Any
    task_ids: Iterable[str]
    mark: int | None
    _left: dict[str, Watcher] = field(factory=dict, init=False)
    _ready: list[tuple[str, Outcome]] = field(factory=list, init=False)
    _waiting: Deferred[None] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        for task_id in dict.fromkeys(self.task_ids):
            self._left[task_id] = Watcher(lambda outcome, task_id=task_id: self._ended(task_id, outcome))  # type: ignore[misc]
        for task_id, watcher in list(self._left.items()):
            self._feed.watch(task_id, watcher, self.mark)

    async def more(self, timeout_s: float | None = None) -> list[tuple[str, Outcome]]:
        """What has come since the last time: waits for something, unless all was taken or `timeout_s` is over."""
        if not self._ready and self._left and timeout_s != 0:
            waiting = self._waiting = Deferred()
            call = None
            if timeout_s is not None:
                call = self._reactor.callLater(timeout_s, self._wake)
            try:
                await waiting
            except CancelledError:
                self.end()
                raise
            finally:
                self._waiting = None
                if call is not None and call.active():
                    call.cancel()
        taken, self._ready = self._ready, []
        return taken

    def end(self) -> None:
        """Nobody wants the rest."""
        for task_id, watcher in self._left.items():
            self._feed.unwatch(task_id, watcher)
        self._left.clear()

    def _ended(self, task_id: str, outcome: Outcome) -> None:
        self._left.pop(task_id, None)
        self._ready.append((task_id, outcome))
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)
