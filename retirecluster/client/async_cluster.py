"""`AsyncCluster`: the Python client for coroutines, of asyncio or of a Twisted reactor.

    async with Cluster.asyncio() as cluster:
        task = await cluster.submit(pow, 2, 10)
        print(await task)

For asyncio the work is done by the reactor in the background, and each answer is awaited as a future of the loop, so no
loop has to be Twisted's. For Twisted it is done by the reactor of whoever asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from attrs import define, field
from twisted.internet.defer import Deferred

from retirecluster.client.api import ClusterApi, Document
from retirecluster.client.calls import value_of
from retirecluster.client.desk import Desk, Outcome, next_piece
from retirecluster.client.link import Link
from retirecluster.client.options import TaskOptions, in_chunks, task_document, values_of_chunk
from retirecluster.client.settings import Connection
from retirecluster.client.task_errors import WaitTimeout
from retirecluster.domain.errors import ClusterError

T = TypeVar("T")


class Runner(Protocol):
    """Where the desk's coroutines run."""

    def run(self, make: Callable[[Desk], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        """What the coroutine gives, to be awaited by the caller's kind of loop."""

    def drop(self, act: Callable[[Desk], object]) -> None:
        """Have something done that nobody waits for."""

    async def close(self) -> None:
        """Close the connections."""


@define(eq=False)
class _Asyncio:
    _link: Link

    def run(self, make: Callable[[Desk], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        return asyncio.wrap_future(self._link.start(make))

    def drop(self, act: Callable[[Desk], object]) -> None:
        self._link.soon(act)

    async def close(self) -> None:
        closing = self._link.close()
        if closing is not None:
            await asyncio.wrap_future(closing)


@define(eq=False)
class _Twisted:
    _desk: Desk

    def run(self, make: Callable[[Desk], Coroutine[Any, Any, T]]) -> Awaitable[T]:
        return Deferred.fromCoroutine(make(self._desk))

    def drop(self, act: Callable[[Desk], object]) -> None:
        act(self._desk)

    async def close(self) -> None:
        await self._desk.close()


def asyncio_runner(link: Link) -> Runner:
    """For asyncio: the reactor in the background does it."""
    return _Asyncio(link)


def twisted_runner(connection: Connection, reactor: Any, patience_s: float) -> Runner:
    """For coroutines of that reactor, in its thread."""
    return _Twisted(Desk(connection, reactor, patience_s))


@define(eq=False)
class AsyncTask:
    """A task. Awaiting it gives its value; see `Task` for what the methods answer and raise."""

    id: str
    _runner: Runner = field(repr=False)
    _mark: int | None = field(default=None, repr=False)
    _outcome: Outcome | None = field(default=None, repr=False, init=False)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> Any:
        """Its value or output; waits for it."""
        return value_of(await self.details(timeout))

    async def details(self, timeout: float | None = None) -> Document:
        """The result document; waits for it."""
        if self._outcome is None:
            async for _ in _ended(self._runner, [self], timeout):
                break
        if self._outcome is None:
            raise WaitTimeout(f"{self.id} has not ended after {timeout:g} s; wait again, or cancel() it")
        if isinstance(self._outcome, ClusterError):
            error, self._outcome = self._outcome, None
            raise error
        return self._outcome

    async def document(self) -> Document:
        """All that the main says of it: status, progress, attempts, device, times, reason."""
        return await self._ask(lambda api: api.task(self.id))

    async def why(self) -> Document:
        """Why it waits."""
        return await self._ask(lambda api: api.why(self.id))

    async def output(self, stream: str | None = None) -> AsyncIterator[str]:
        """What it prints, in pieces, as it comes, until it has ended."""

        async def opened(desk: Desk) -> Any:
            return desk.api.stream(f"stream/tasks/{quote(self.id, safe='')}/output")

        events = await self._runner.run(opened)
        try:
            while (piece := await self._runner.run(lambda _: next_piece(events, stream))) is not None:
                yield piece
        finally:
            await self._runner.run(lambda _: events.close())

    async def cancel(self) -> bool:
        """Cancel it; False if it had ended already."""
        return await self._runner.run(lambda desk: desk.cancel(self.id))

    async def files(self) -> Document:
        """The files that it brought and left."""
        return await self._ask(lambda api: api.task_files(self.id))

    async def download(self, folder: str | Path = ".", *, force: bool = False) -> list[Path]:
        """Bring the files it left below `folder`; their paths."""
        found = (await self.files())["outputs"]
        for each in found:
            await self._ask(lambda api, each=each: api.download(self.id, each, folder, force=force))  # type: ignore[misc]
        return [Path(folder) / each["name"] for each in found]

    async def _ask(self, make: Callable[[ClusterApi], Coroutine[Any, Any, T]]) -> T:
        return await self._runner.run(lambda desk: make(desk.api))


class AsyncCluster:
    """A main node and what it leads. Made by `Cluster.asyncio` and `Cluster.twisted`; to be used with `async with`."""

    def __init__(self, runner: Runner, options: TaskOptions | None = None) -> None:
        self._runner = runner
        self._options = options or TaskOptions()

    async def __aenter__(self) -> AsyncCluster:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Tasks go on."""
        await self._runner.close()

    def with_options(self, **options: Any) -> AsyncCluster:
        """The same cluster, whose tasks are submitted with these options: see `TaskOptions`."""
        return AsyncCluster(self._runner, self._options.merged(options))

    async def submit(self, what: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> AsyncTask:
        """Have a function called on a device, or a task of a type run; it is on the main's disk afterwards."""
        return (await self.submit_documents([task_document(what, args, kwargs, self._options)]))[0]

    async def submit_documents(self, documents: Iterable[Mapping[str, Any]]) -> list[AsyncTask]:
        """Submit task documents, many in one request."""
        many = list(documents)
        task_ids, mark = await self._runner.run(lambda desk: desk.submit(many))
        return [AsyncTask(task_id, self._runner, mark) for task_id in task_ids]

    async def map(
        self, function: Callable[..., Any], *iterables: Iterable[Any], chunksize: int = 1
    ) -> AsyncIterator[Any]:
        """Values of the function over the iterables, in order: `async for value in cluster.map(f, items)`."""
        calls = list(zip(*iterables, strict=False))
        options = self._options
        if chunksize > 1:
            tasks = await self.submit_documents(in_chunks(function, calls, chunksize, options))
        else:
            tasks = await self.submit_documents(task_document(function, call, {}, options) for call in calls)
        coming = _ended(self._runner, tasks, None)
        for task in tasks:
            while task._outcome is None:
                await coming.__anext__()
            value = await task.result()
            if chunksize == 1:
                yield value
                continue
            for each in values_of_chunk(value):
                yield each

    async def wait(
        self, tasks: Iterable[AsyncTask], timeout: float | None = None
    ) -> tuple[set[AsyncTask], set[AsyncTask]]:
        """(those that have ended, the others), once all have ended or the time is over."""
        left = set(tasks)
        done = {task async for task in _ended(self._runner, left, timeout)}
        return done, left - done

    async def as_completed(self, tasks: Iterable[AsyncTask], timeout: float | None = None) -> AsyncIterator[AsyncTask]:
        """Each task once it has ended, the first first. WaitTimeout if not all have in time."""
        left = set(tasks)
        async for task in _ended(self._runner, left.copy(), timeout):
            left.discard(task)
            yield task
        if left:
            raise WaitTimeout(f"{len(left)} tasks have not ended after {timeout:g} s")

    async def gather(self, *tasks: AsyncTask, return_exceptions: bool = False) -> list[Any]:
        """The results in the order of the tasks; with `return_exceptions`, what they raise stands in their place."""
        async for task in _ended(self._runner, tasks, None):
            if not return_exceptions:
                await task.result()
        return [await _result_or_error(task) if return_exceptions else await task.result() for task in tasks]

    async def task(self, task_id: str) -> AsyncTask:
        """The task with that id, or the only one whose id begins so."""
        return AsyncTask((await self._ask(lambda api: api.task(task_id)))["task_id"], self._runner)

    async def tasks(self, *, limit: int | None = 100, **filters: str | None) -> list[Document]:
        """Task documents, newest first. Filters: status, type, device, label (NAME=VALUE)."""

        async def listed(api: ClusterApi) -> list[Document]:
            return [each async for each in api.tasks(limit=limit, **filters)]

        return await self._ask(listed)

    async def devices(self) -> list[Document]:
        """The devices."""
        return await self._ask(lambda api: api.devices())

    async def status(self) -> Document:
        """State, version, uptime, counts of devices and tasks, slots, throughput."""
        return await self._ask(lambda api: api.cluster_status())

    async def upload(self, path: str | Path) -> Document:
        """Have the main keep a file: `{"sha256", "size_bytes"}`."""
        return await self._ask(lambda api: api.upload_file(path))

    async def _ask(self, make: Callable[[ClusterApi], Coroutine[Any, Any, T]]) -> T:
        return await self._runner.run(lambda desk: make(desk.api))


async def _result_or_error(task: AsyncTask) -> Any:
    try:
        return await task.result()
    except Exception as error:
        return error


async def _ended(runner: Runner, tasks: Iterable[AsyncTask], timeout: float | None) -> AsyncIterator[AsyncTask]:
    """Each task once it has ended; after `timeout` seconds no more. All are waited for together."""
    left: dict[str, list[AsyncTask]] = {}
    marks = set()
    for task in tasks:
        if task._outcome is None:
            left.setdefault(task.id, []).append(task)
            marks.add(task._mark)
        else:
            yield task
    if not left:
        return
    mark = marks.pop() if len(marks) == 1 else None
    until = None if timeout is None else monotonic() + timeout
    harvest = await runner.run(lambda desk: desk.harvest(list(left), mark))
    try:
        while left:
            left_s = None if until is None else max(0.0, until - monotonic())
            for task_id, outcome in await runner.run(lambda _, left_s=left_s: harvest.more(left_s)):  # type: ignore[misc]
                for task in left.pop(task_id):
                    task._outcome = outcome
                    yield task
            if until is not None and monotonic() >= until:
                return
    finally:
        if left:
            runner.drop(lambda _: harvest.end())
