"""`Task`: a task on the cluster, as the synchronous client hands it out."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import quote

from retirecluster.client.api import ClusterApi, Document
from retirecluster.client.calls import value_of
from retirecluster.client.desk import Outcome, next_piece
from retirecluster.client.link import Link
from retirecluster.client.task_errors import WaitTimeout
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL

T = TypeVar("T")


class Task:
    """A task: wait for it, look at it, cancel it. Made by `Cluster.submit` and `Cluster.task`; equal by id."""

    def __init__(self, link: Link, task_id: str, mark: int | None = None) -> None:
        self.id = task_id
        self._link = link
        self._mark = mark
        self._outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"<Task {self.id}>"

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    # -- its end

    def result(self, timeout: float | None = None) -> Any:
        """The value of a function, or the output of another type; waits for it, `timeout` seconds at most.

        Raises what the function raised on the device, with a TaskFailed as its cause that has the traceback's text;
        TaskFailed (TaskCancelled, TaskTimedOut) where it did not come to its end; WaitTimeout, and then it goes on.
        """
        return value_of(self.details(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What `result` would raise for the task's own sake; None after a success."""
        details = self.details(timeout)
        try:
            value_of(details)
        except Exception as error:
            return error
        return None

    def details(self, timeout: float | None = None) -> Document:
        """The result document: status, output, stderr, exit_code, execution_time (seconds), metrics, error."""
        if self._outcome is None:
            for _ in ended(self._link, [self], timeout):
                break
        if self._outcome is None:
            raise WaitTimeout(f"{self.id} has not ended after {timeout:g} s; wait again, or cancel() it")
        if isinstance(self._outcome, ClusterError):
            error, self._outcome = self._outcome, None  # asking again may do better
            raise error
        return self._outcome

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return isinstance(self._outcome, dict) or self.status in FINAL

    # -- looking

    @property
    def status(self) -> str:
        """The state it is in now: queued, assigned, running, completed, failed, ..."""
        return str(self.document()["status"])

    @property
    def progress(self) -> Document | None:
        """What it told of its progress: `{"percent", "message"}`."""
        progress: Document | None = self.document()["progress"]
        return progress

    def document(self) -> Document:
        """All that the main says of it: attempts, device, times, reason."""
        return self._ask(lambda api: api.task(self.id))

    def why(self) -> Document:
        """Why it waits: `{"status", "reason", "devices": [...], "hint", "nearest"}`."""
        return self._ask(lambda api: api.why(self.id))

    def output(self, stream: str | None = None) -> Iterator[str]:
        """What it prints, in pieces, from the beginning, as it comes, until it has ended.

        `stream` is "stdout" or "stderr"; None for both. If it is tried again, the new attempt's output follows.
        """
        _, desk = self._link.here()
        events = desk.api.stream(f"stream/tasks/{quote(self.id, safe='')}/output")
        try:
            while (piece := self._link.call(lambda _: next_piece(events, stream))) is not None:
                yield piece
        finally:
            with suppress(ClusterError):
                self._link.call(lambda _: events.close())

    # -- acting

    def cancel(self) -> bool:
        """Cancel it; on a device it is stopped. False if it had ended already."""
        return self._link.call(lambda desk: desk.cancel(self.id))

    def retry(self) -> Task:
        """Run a task that ended without success once more; the new task."""
        return Task(self._link, self._ask(lambda api: api.retry(self.id))["task_id"])

    # -- files

    def files(self) -> Document:
        """`{"inputs": [{"name", "sha256", "size_bytes"}], "outputs": [...]}`."""
        return self._ask(lambda api: api.task_files(self.id))

    def download(self, folder: str | Path = ".", *, force: bool = False) -> list[Path]:
        """Bring the files it left below `folder`; their paths. `force` replaces what has other content there."""
        found = self.files()["outputs"]
        for each in found:
            self._ask(lambda api, each=each: api.download(self.id, each, folder, force=force))  # type: ignore[misc]
        return [Path(folder) / each["name"] for each in found]

    def _ask(self, make: Callable[[ClusterApi], Coroutine[Any, Any, T]]) -> T:
        return self._link.call(lambda desk: make(desk.api))


def ended(link: Link, tasks: Iterable[Task], timeout: float | None = None) -> Iterator[Task]:
    """Each task once it has ended, the first first; after `timeout` seconds no more.

    All are waited for together: by one stream of events, and one request for many results.
    """
    left: dict[str, Task] = {}
    for task in dict.fromkeys(tasks):
        if task._outcome is None:
            left[task.id] = task
        else:
            yield task
    if not left:
        return
    if timeout is not None and timeout <= 0:
        yield from _told(left, link.call(lambda desk: desk.ended_by_now(list(left))))
        return
    until = None if timeout is None else monotonic() + timeout
    marks = {task._mark for task in left.values()}
    mark = marks.pop() if len(marks) == 1 else None
    harvest = link.call(lambda desk: desk.harvest(list(left), mark))
    try:
        while left:
            left_s = None if until is None else max(0.0, until - monotonic())
            yield from _told(left, link.call(lambda _, left_s=left_s: harvest.more(left_s)))  # type: ignore[misc]
            if until is not None and monotonic() >= until:
                return
    finally:
        if left:
            with suppress(ClusterError):
                link.soon(lambda _: harvest.end())


def _told(left: dict[str, Task], came: Iterable[tuple[str, Outcome]]) -> Iterator[Task]:
    for task_id, outcome in came:
        task = left.pop(task_id)
        task._outcome = outcome
        yield task
