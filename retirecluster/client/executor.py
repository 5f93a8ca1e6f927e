"""`ClusterExecutor`: a cluster as a `concurrent.futures.Executor`.

    with ClusterExecutor() as executor:
        for value in executor.map(work, items, chunksize=20):
            ...

`submit` never blocks: calls are pickled at once, and sent by the reactor in the background, as many in one request as
have gathered. Futures are completed, and their callbacks called, in a thread that is there while calls are pending.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from time import monotonic
from typing import Any
from weakref import WeakSet

from attrs import define, frozen
from twisted.internet.defer import Deferred

from retirecluster.client.background import before_end
from retirecluster.client.calls import value_of
from retirecluster.client.cluster import Cluster
from retirecluster.client.desk import BATCH_TASKS, Desk, Outcome
from retirecluster.client.options import TaskOptions, in_chunks, task_document, values_of_chunk
from retirecluster.client.result_feed import Watcher
from retirecluster.client.task import Task
from retirecluster.domain.errors import ClusterError


class ClusterFuture(Future[Any]):
    """A call that is made on the cluster. `task` is its task, once the main has it."""

    def __init__(self, executor: ClusterExecutor) -> None:
        super().__init__()
        self.task: Task | None = None
        self._executor: ClusterExecutor | None = executor
        self._once = threading.Lock()
        self._begun = False

    def cancel(self) -> bool:
        """Cancel the call, if no device has begun with it; the main is told, too."""
        if not super().cancel():
            return False
        self.begin()
        executor, self._executor = self._executor, None
        if executor is not None:
            executor._cancelled(self)
        return True

    def begin(self) -> bool:
        """From pending to running, as often as it is called; False if it was cancelled."""
        with self._once:
            if not self._begun:
                self._begun = True
                self.set_running_or_notify_cancel()
        return not self.cancelled()

    def settle(self, outcome: Outcome | Exception) -> None:
        """Read a result, and complete the future with what is in it."""
        self._executor = None
        if not self.begin():
            return
        try:
            if isinstance(outcome, Exception):
                raise outcome
            value = value_of(outcome)
        except Exception as error:
            self.set_exception(error)
        else:
            self.set_result(value)


@frozen(eq=False)
class _Call:
    future: ClusterFuture
    document: dict[str, Any]


@define(eq=False)
class _Exit:
    """What the end of the interpreter waits for, as it does for other executors."""

    executors: WeakSet[ClusterExecutor]
    exiting: bool = False

    def finish(self) -> None:
        self.exiting = True
        for executor in list(self.executors):
            executor.shutdown(wait=True)


_EXIT = _Exit(WeakSet())
before_end(_EXIT.finish)


class ClusterExecutor(Executor):
    """Makes calls on a cluster's devices.

    With `max_workers` at most so many calls are at the cluster at a time, and a call counts as running from when it is
    there. Without, all are sent at once and the cluster decides; they count as running once a device has begun.
    `cluster` is the one to use, and is not closed; else one is found as `Cluster()` finds it. `options` are those of
    `Cluster.with_options`; calls are made in warm processes unless `mode="fresh"`.
    """

    def __init__(self, max_workers: int | None = None, *, cluster: Cluster | None = None, **options: Any) -> None:
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        self._owned = cluster is None
        self._cluster = Cluster() if cluster is None else cluster
        self._options = TaskOptions(mode="warm").merged(self._cluster._options.given() | options)
        self._max_workers = max_workers
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._waiting: deque[_Call] = deque()
        self._placed: deque[_Call] = deque()
        self._pending: dict[ClusterFuture, None] = {}
        self._out = 0
        self._pumping = self._shut = False
        self._came: SimpleQueue[tuple[ClusterFuture, Outcome | Exception]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        _EXIT.executors.add(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ClusterFuture:
        """A future for `fn(*args, **kwargs)` on a device. What cannot be pickled fails the future."""
        self._check_open()
        try:
            document = task_document(fn, args, kwargs, self._options)
        except ClusterError as error:
            future = ClusterFuture(self)
            future.settle(error)
            return future
        return self._enqueue([document])[0]

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """Values of the function over the iterables, in order; `chunksize` calls go into one task.

        Raises TimeoutError if not all have come `timeout` seconds after this call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        self._check_open()
        until = None if timeout is None else monotonic() + timeout
        calls = zip(*iterables, strict=False)
        futures = self._enqueue(list(in_chunks(fn, calls, chunksize, self._options)))
        return _values(futures, until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `wait` for those that are pending, after cancelling those not begun if so told."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._shut = True
            pending, thread = list(self._pending), self._thread
        if cancel_futures:
            for future in pending:
                future.cancel()
        del pending
        if thread is None:
            self._close()
        elif wait and thread is not threading.current_thread():
            thread.join()

    # -- from the caller's threads

    def _check_open(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("this executor was made before the process was forked: make another one here")
        if _EXIT.exiting:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def _enqueue(self, documents: list[dict[str, Any]]) -> list[ClusterFuture]:
        futures = [ClusterFuture(self) for _ in documents]
        with self._lock:
            self._check_open()
            self._pending.update(dict.fromkeys(futures))
            self._waiting.extend(map(_Call, futures, documents))
            self._place()
            if self._thread is None and futures:
                self._thread = threading.Thread(target=self._settle_all, name="retirecluster-results", daemon=True)
                self._thread.start()
        self._pump_soon()
        return futures

    def _cancelled(self, future: ClusterFuture) -> None:
        """A future was cancelled: free its place, and tell the main if the task is there."""
        if self._pid != os.getpid():
            return
        if future.task is not None:
            task_id = future.task.id
            self._cluster._link.soon(lambda desk: desk.cancel_soon(task_id))
        self._came.put((future, _GONE))

    def _place(self) -> None:
        """Give calls the places that are free."""
        while self._waiting and (self._max_workers is None or self._out < self._max_workers):
            call = self._waiting.popleft()
            if self._max_workers is not None and not call.future.begin():
                continue
            self._out += 1
            self._placed.append(call)

    def _pump_soon(self) -> None:
        with self._lock:
            if self._pumping or not self._placed:
                return
            self._pumping = True
        try:
            self._cluster._link.soon(lambda desk: Deferred.fromCoroutine(self._pump(desk)))
        except ClusterError as error:  # somebody closed the cluster
            with self._lock:
                self._pumping, left = False, [*self._placed, *self._waiting]
                self._placed.clear()
                self._waiting.clear()
            for call in left:
                self._came.put((call.future, error))

    # -- in the reactor's thread

    async def _pump(self, desk: Desk) -> None:
        while (batch := self._take()) or self._pumping:
            try:
                task_ids, mark = await desk.submit([call.document for call in batch])
            except Exception as error:
                for call in batch:
                    self._ended(call.future, error)
                continue
            for call, task_id in zip(batch, task_ids, strict=True):
                self._sent(desk, call.future, task_id, mark)

    def _take(self) -> list[_Call]:
        """Calls that have a place; when there are none, the pump stops."""
        with self._lock:
            placed = [self._placed.popleft() for _ in range(min(BATCH_TASKS, len(self._placed)))]
            self._pumping = bool(placed)
            taken = [call for call in placed if not call.future.cancelled()]
            self._out -= len(placed) - len(taken)
        return taken

    def _sent(self, desk: Desk, future: ClusterFuture, task_id: str, mark: int | None) -> None:
        future.task = Task(self._cluster._link, task_id, mark)
        if future.cancelled():
            desk.cancel_soon(task_id)
            self._out_less()
            return
        desk.feed.watch(task_id, Watcher(lambda outcome: self._ended(future, outcome), future.begin), mark)

    def _ended(self, future: ClusterFuture, outcome: Outcome | Exception) -> None:
        self._out_less()
        self._came.put((future, outcome))

    def _out_less(self) -> None:
        with self._lock:
            self._out -= 1
            self._place()
        self._pump_soon()

    # -- in the thread of results

    def _settle_all(self) -> None:
        while True:
            future, outcome = self._came.get()
            future.settle(outcome)
            del outcome
            with self._lock:
                self._pending.pop(future, None)
                del future
                if not self._pending:
                    self._thread = None
                    shut = self._shut
                    break
        if shut:
            self._close()

    def _close(self) -> None:
        if self._owned:
            self._cluster.close()


_GONE = ClusterError("conflict", "it was cancelled")


def _values(futures: list[ClusterFuture], until: float | None) -> Iterator[Any]:
    futures.reverse()
    try:
        while futures:
            yield from values_of_chunk(futures.pop().result(None if until is None else until - monotonic()))
    finally:
        for future in futures:
            future.cancel()
