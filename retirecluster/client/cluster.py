"""`Cluster`: the Python client for scripts, notebooks and threads. Every method blocks until it is done.

from retirecluster.client import Cluster

with Cluster() as cluster:
    task = cluster.submit(pow, 2, 10)
    print(task.result())
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from retirecluster.client.api import Document
from retirecluster.client.desk import PATIENCE_S
from retirecluster.client.link import Link, connection_of
from retirecluster.client.options import TaskOptions, in_chunks, task_document, values_of_chunk
from retirecluster.client.settings import Connection
from retirecluster.client.task import Task, ended
from retirecluster.client.task_errors import WaitTimeout
from retirecluster.domain.errors import ClusterError

if TYPE_CHECKING:
    from retirecluster.client.async_cluster import AsyncCluster
    from retirecluster.client.executor import ClusterExecutor

_RETURN_WHEN = (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)
_CLOSE_S = 10.0


class Cluster:
    """A main node and what it leads. May be used by several threads at once.

    `server` is `nas`, `nas:5000` or a URL; left out, it and the token are found as the command line finds them:
    RETIRE_CLUSTER_SERVER and RETIRE_CLUSTER_TOKEN, then this machine's own main. `patience_s`: how long, in seconds, a
    main that was there may be away before waiting for it is given up.
    """

    def __init__(
        self,
        server: str | None = None,
        token: str | None = None,
        *,
        token_file: str | None = None,
        data_dir: str | None = None,
        profile: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._link = Link(connection_of(server, token, token_file, data_dir, profile), patience_s)
        self._options = TaskOptions()

    @staticmethod
    def asyncio(
        server: str | None = None,
        token: str | None = None,
        *,
        token_file: str | None = None,
        data_dir: str | None = None,
        profile: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> AsyncCluster:
        """The same for asyncio: `async with Cluster.asyncio() as cluster: await cluster.submit(...)`."""
        from retirecluster.client.async_cluster import AsyncCluster, asyncio_runner

        link = Link(connection_of(server, token, token_file, data_dir, profile), patience_s)
        return AsyncCluster(asyncio_runner(link))

    @staticmethod
    def twisted(
        reactor: Any,
        server: str | None = None,
        token: str | None = None,
        *,
        token_file: str | None = None,
        data_dir: str | None = None,
        profile: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> AsyncCluster:
        """The same for coroutines of a Twisted reactor of yours."""
        from retirecluster.client.async_cluster import AsyncCluster, twisted_runner

        return AsyncCluster(
            twisted_runner(connection_of(server, token, token_file, data_dir, profile), reactor, patience_s)
        )

    def __repr__(self) -> str:
        return f"<Cluster {self.connection.server}>"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connection(self) -> Connection:
        """The server and the token in use."""
        return self._link.connection

    def close(self) -> None:
        """Close the connections. Tasks go on; `Cluster.task` finds them again."""
        closing = self._link.close()
        if closing is not None:
            closing.result(_CLOSE_S)

    def with_options(self, **options: Any) -> Cluster:
        """The same cluster, whose tasks are submitted with these options: see `TaskOptions`.

        They stand apart because all arguments of `submit` are those of the function. It shares the connection, so
        close() on either closes both.
        """
        other = object.__new__(type(self))
        other._link, other._options = self._link, self._options.merged(options)
        return other

    # -- submitting

    def submit(self, what: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task:
        """Have a function called on a device, or a task of a type run: `submit("command", argv=["uname", "-a"])`.

        It is on the main's disk when this returns. All arguments are the function's; options go by `with_options`.
        """
        return self.submit_documents([task_document(what, args, kwargs, self._options)])[0]

    def submit_documents(self, documents: Iterable[Mapping[str, Any]]) -> list[Task]:
        """Submit task documents as in docs/tasks.md, many in one request; options of `with_options` do not apply."""
        many = list(documents)
        task_ids, mark = self._link.call(lambda desk: desk.submit(many))
        return [Task(self._link, task_id, mark) for task_id in task_ids]

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        chunksize: int = 1,
        timeout: float | None = None,
    ) -> Iterator[Any]:
        """Values of the function over the iterables, in order; all calls are submitted before this returns.

        `chunksize` calls go into one task: use more than 1 where a call takes milliseconds. The first that raises ends
        the iteration with what it raised. WaitTimeout if not all have come `timeout` seconds after the call.
        """
        if chunksize < 1:
            raise ClusterError("bad_field", f"chunksize must be at least 1, not {chunksize}")
        calls = list(zip(*iterables, strict=False))
        until = None if timeout is None else monotonic() + timeout
        if chunksize > 1:
            tasks = self.submit_documents(in_chunks(function, calls, chunksize, self._options))
        else:
            tasks = self.submit_documents(task_document(function, call, {}, self._options) for call in calls)
        return self._values(tasks, chunksize > 1, until)

    def _values(self, tasks: list[Task], chunks: bool, until: float | None) -> Iterator[Any]:
        coming = ended(self._link, tuple(tasks), None if until is None else until - monotonic())
        tasks.reverse()
        while tasks:
            task = tasks.pop()
            while task._outcome is None:
                if next(coming, None) is None:
                    raise WaitTimeout(f"{len(tasks) + 1} calls have not ended in time")
            value = task.result()
            del task
            if not chunks:
                yield value
                continue
            yield from values_of_chunk(value)

    # -- waiting

    def wait(
        self, tasks: Iterable[Task], timeout: float | None = None, return_when: str = ALL_COMPLETED
    ) -> tuple[set[Task], set[Task]]:
        """(those that have ended, the others), once all have ended, or as `return_when` of concurrent.futures says."""
        if return_when not in _RETURN_WHEN:
            raise ClusterError("bad_field", f"return_when is one of {', '.join(_RETURN_WHEN)}, not {return_when!r}")
        left, done = set(tasks), set()
        for task in ended(self._link, left, timeout):
            done.add(task)
            failed = not isinstance(task._outcome, dict) or task._outcome["status"] != "completed"
            if return_when == FIRST_COMPLETED or (failed and return_when == FIRST_EXCEPTION):
                break
        return done, left - done

    def as_completed(self, tasks: Iterable[Task], timeout: float | None = None) -> Iterator[Task]:
        """Each task once it has ended, the first first. WaitTimeout if not all have within `timeout` seconds."""
        left = set(tasks)
        total = len(left)
        for task in ended(self._link, left.copy(), timeout):
            left.discard(task)
            yield task
        if left:
            raise WaitTimeout(f"{len(left)} (of {total}) tasks have not ended after {timeout:g} s")

    def gather(self, *tasks: Task, timeout: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """The results in the order of the tasks; with `return_exceptions`, what they raise stands in their place."""
        _, left = self.wait(tasks, timeout, ALL_COMPLETED if return_exceptions else FIRST_EXCEPTION)
        for task in tasks:
            if task not in left and not return_exceptions:
                task.result()
        if left:
            raise WaitTimeout(f"{len(left)} (of {len(tasks)}) tasks have not ended after {timeout or 0:g} s")
        return [_result_or_error(task) if return_exceptions else task.result() for task in tasks]

    # -- looking

    def task(self, task_id: str) -> Task:
        """The task with that id, or the only one whose id begins so."""
        return Task(self._link, self._link.call(lambda desk: desk.api.task(task_id))["task_id"])

    def tasks(self, *, limit: int | None = 100, **filters: str | None) -> list[Document]:
        """Task documents, newest first. Filters: status, type, device, label (NAME=VALUE)."""
        return self._link.call(lambda desk: _listed(desk.api.tasks(limit=limit, **filters)))

    def devices(self) -> list[Document]:
        """The devices: device_id, status, what they have and do."""
        return self._link.call(lambda desk: desk.api.devices())

    def status(self) -> Document:
        """State, version, uptime, counts of devices and tasks, slots, throughput."""
        return self._link.call(lambda desk: desk.api.cluster_status())

    # -- files

    def upload(self, path: str | Path) -> Document:
        """Have the main keep a file: `{"sha256", "size_bytes"}`. `inputs` of the options do that by themselves."""
        return self._link.call(lambda desk: desk.api.upload_file(path))

    def download(self, task: Task, folder: str | Path = ".", *, force: bool = False) -> list[Path]:
        """Bring the files that a task left below `folder`; their paths."""
        return task.download(folder, force=force)

    def executor(self, max_workers: int | None = None, **options: Any) -> ClusterExecutor:
        """A `concurrent.futures.Executor` over this cluster, with the options of `with_options` and these."""
        from retirecluster.client.executor import ClusterExecutor

        return ClusterExecutor(max_workers, cluster=self, **options)


async def _listed(documents: AsyncIterator[Document]) -> list[Document]:
    return [each async for each in documents]


def _result_or_error(task: Task) -> Any:
    try:
        return task.result()
    except Exception as error:
        return error
