"""The ends of many tasks: told by one event stream, their results read many at a time.

Nobody waits with a request of his own: the stream says which tasks have ended, and one request brings the results of up
to 200. What the stream did not tell, because it was not there or has broken, is found by asking now and then.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.client.api import ClusterApi, Document
from retirecluster.client.problems import TEMPORARY
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL

log = Logger()
ASKED_AT_ONCE = 200
LANES = 4
"""Requests for results that are under way at the same time."""
CHECK_S = 5.0
"""How often to ask, while there is a stream, for tasks of which nothing was heard."""
POLL_S = 0.25
"""The same without a stream."""
LINGER_S = 2.0
"""How long the stream stays open when nobody waits any more."""
LONGEST_PAUSE_S = 5.0
REMEMBERED = 20_000
"""Ends of tasks that nobody waited for yet: that of a quick one may come before the answer to its submit."""
_STARTED = frozenset({"running", "cancelling"})


def _nothing() -> None:
    pass


@frozen(eq=False)
class Watcher:
    """Who waits for a task: told that it runs, perhaps more than once, and once its result, or why there is none."""

    ended: Callable[[Document | ClusterError], object]
    started: Callable[[], object] = _nothing


@define(eq=False)
class ResultFeed:
    """Brings the results of a main's tasks to who watches them.

    `patience_s` is how long the main may be away before those who wait are told. `reactor` is a Twisted reactor.
    """

    api: ClusterApi
    reactor: Any
    patience_s: float
    _watched: dict[str, list[Watcher]] = field(factory=dict, init=False)
    _due: dict[str, None] = field(factory=dict, init=False)
    _recent: set[str] = field(factory=set, init=False)
    _mark: int = field(default=0, init=False)
    _streaming: bool = field(default=False, init=False)
    _work: Deferred[None] | None = field(default=None, init=False)
    _waiting: Deferred[None] | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def mark(self) -> int | None:
        """Taken before a submit and given to `watch`: whether the stream has been there all the time."""
        return self._mark if self._streaming else None

    def watch(self, task_id: str, watcher: Watcher, mark: int | None = None) -> None:
        """Tell `watcher` of a task, whether it has ended already or not."""
        if self._closed:
            watcher.ended(ClusterError("shutting_down", "the client was closed: open another one"))
            return
        self._watched.setdefault(task_id, []).append(watcher)
        if mark is None or mark != self.mark() or task_id in self._recent:
            self._due[task_id] = None
        if self._due or len(self._watched) == 1:  # it has something to ask, or waited to be closed
            self._wake()
        if self._work is None:
            self._work = Deferred.fromCoroutine(self._run())

    def unwatch(self, task_id: str, watcher: Watcher) -> None:
        """Tell `watcher` nothing any more."""
        watchers = self._watched.get(task_id, [])
        if watcher in watchers:
            watchers.remove(watcher)
            if not watchers:
                self._drop(task_id)

    async def close(self) -> None:
        """End; who still waits is told so."""
        self._closed = True
        if self._work is not None:
            work, self._work = self._work, None
            work.cancel()
            await work
        self._fail_all(ClusterError("shutting_down", "the client was closed while this task was waited for"))

    # -- the work

    async def _run(self) -> None:
        reader = Deferred.fromCoroutine(self._read_for_good())
        try:
            await self._ask_for_good()
        except CancelledError:
            pass
        except Exception as error:  # a mistake of ours: nobody shall wait for ever because of it
            log.failure("the results of tasks cannot be read")
            self._fail_all(ClusterError("internal", f"results cannot be read: {type(error).__name__}: {error}"))
        finally:
            self._streaming, self._work = False, None
            reader.cancel()
            await reader
        if self._watched and not self._closed:  # somebody came while the stream was being closed
            self._work = Deferred.fromCoroutine(self._run())

    async def _ask_for_good(self) -> None:
        failing_since: float | None = None
        pause_s = POLL_S
        while True:
            try:
                await self._ask_due()
                failing_since, pause_s = None, POLL_S
            except ClusterError as error:
                now = self.reactor.seconds()
                failing_since = now if failing_since is None else failing_since
                if error.code not in TEMPORARY or now - failing_since > self.patience_s:
                    self._fail_all(error)
                    return
                await deferLater(self.reactor, pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                continue
            if self._due:
                continue
            idle = not self._watched
            if not await self._woken(LINGER_S if idle else CHECK_S if self._streaming else POLL_S):
                if idle and not self._watched:
                    return
                self._due_some()

    async def _ask_due(self) -> None:
        """Ask for all that is due, in a few requests at a time."""
        lanes = [Deferred.fromCoroutine(self._ask()) for _ in range(min(LANES, -(-len(self._due) // ASKED_AT_ONCE)))]
        failure: Failure | None = None
        for lane in lanes:
            try:
                await lane
            except ClusterError:
                failure = Failure()
            except CancelledError:
                for each in lanes:
                    each.addErrback(lambda _: None)
                    each.cancel()
                raise
        if failure is not None:
            failure.raiseException()

    async def _ask(self) -> None:
        asked = list(islice(self._due, ASKED_AT_ONCE))
        for task_id in asked:
            del self._due[task_id]
        try:
            found = await self.api.results(asked)
        except ClusterError:
            self._due.update(dict.fromkeys(each for each in asked if each in self._watched))
            raise
        self._due.update(dict.fromkeys(each for each in found["left"] if each in self._watched))
        for task_id in found["unknown"]:
            self._end(task_id, ClusterError("not_found", f"there is no task {task_id}; old ones are removed in time"))
        for each in found["unfinished"]:
            self._started(each["task_id"], each["status"])
        for document in found["results"]:
            self._end(document["task_id"], document)

    def _due_some(self) -> None:
        """Ask for some of those of which nothing was heard, each time others."""
        for task_id in list(islice(self._watched, LANES * ASKED_AT_ONCE)):
            self._due[task_id] = None
            self._watched[task_id] = self._watched.pop(task_id)

    async def _woken(self, timeout_s: float) -> bool:
        """Whether somebody woke this up within the time."""
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        call = self.reactor.callLater(timeout_s, waiting.callback, None)
        try:
            await waiting
            return bool(call.active())
        finally:
            self._waiting = None
            if call.active():
                call.cancel()

    def _wake(self) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    # -- the stream

    async def _read_for_good(self) -> None:
        pause_s = POLL_S
        try:
            while True:
                try:
                    await self._read()
                except ClusterError as error:
                    if error.code not in TEMPORARY:
                        return  # there is no stream for us: asking does it, too
                await deferLater(self.reactor, pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        except CancelledError:
            pass

    async def _read(self) -> None:
        stream = self.api.stream("stream/tasks")
        try:
            await stream.connect()
            self._opened()
            async for event in stream:
                if event.event == "task_update":
                    self._note(json.loads(event.data))
                elif event.event in ("reset", "dropped"):
                    self._opened()
        finally:
            self._streaming = False
            await stream.close()

    def _opened(self) -> None:
        """From here on the stream tells; what was before is asked for."""
        self._streaming = True
        self._mark += 1
        self._recent.clear()
        self._due.update(dict.fromkeys(self._watched))
        self._wake()

    def _note(self, told: Mapping[str, Any]) -> None:
        task_id, status = told.get("task_id"), told.get("status")
        if not isinstance(task_id, str) or not isinstance(status, str):
            return
        if status not in FINAL:
            self._started(task_id, status)
        elif task_id in self._watched:
            self._due[task_id] = None
            self._wake()
        else:
            if len(self._recent) >= REMEMBERED:
                self._recent.clear()
                self._mark += 1
            self._recent.add(task_id)

    # -- telling

    def _started(self, task_id: str, status: str) -> None:
        if status in _STARTED:
            for watcher in self._watched.get(task_id, ()):
                watcher.started()

    def _end(self, task_id: str, outcome: Document | ClusterError) -> None:
        for watcher in self._drop(task_id):
            watcher.ended(outcome)

    def _drop(self, task_id: str) -> Iterable[Watcher]:
        self._due.pop(task_id, None)
        return self._watched.pop(task_id, [])

    def _fail_all(self, error: ClusterError) -> None:
        for task_id in list(self._watched):
            self._end(task_id, error)
