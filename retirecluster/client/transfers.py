"""Files to and from a main, for `ClusterApi`: uploads before a submit, downloads of what tasks brought and left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool

from retirecluster.client.local_files import digest_of, exists, is_same, place_for, put_in_place
from retirecluster.domain.errors import ClusterError
from retirecluster.transfer import FileDoor, PartFile, Progress

Document = dict[str, Any]
TRIES = 8
"""Tries in a row that bring nothing, after which a broken connection is given up."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
_BROKEN = frozenset({"unreachable", "too_many_connections", "store_busy", "shutting_down", "rate_limited"})


class Transfers:
    """Files of one main. `headers` carry the token. close() it after use."""

    def __init__(
        self, reactor: Any, server: str, headers: Mapping[str, str], context: SSLContext | None = None
    ) -> None:
        self._reactor = reactor
        self._door = FileDoor(reactor, server, headers, self._in_thread, context)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._door.close()

    def _in_thread(self, function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *arguments)

    async def upload(self, path: Path, progress: Progress | None = None) -> Document:
        """Have the main hold the content of a file: `{"sha256", "size_bytes"}`. What it has already is not sent."""
        digest, size = await self._in_thread(digest_of, path)

        async def send(told: Progress) -> None:
            await self._door.send(digest, path, None, told)

        await self._again(send, progress)
        return {"sha256": digest, "size_bytes": size}

    async def with_uploads(self, task: Mapping[str, Any], progress: Callable[[str, int, int], None] | None) -> Document:
        """A task document whose inputs that have a `path` were uploaded, and have a `sha256` in its place."""
        files = task.get("files")
        inputs = files.get("inputs") if isinstance(files, Mapping) else None
        if not isinstance(inputs, list) or not any(isinstance(each, Mapping) and "path" in each for each in inputs):
            return dict(task)
        assert isinstance(files, Mapping)
        uploaded = [await self._uploaded(each, progress) for each in inputs]
        return {**task, "files": {**files, "inputs": uploaded}}

    async def _uploaded(self, each: Mapping[str, Any], progress: Callable[[str, int, int], None] | None) -> Document:
        if "path" not in each:
            return dict(each)
        path = Path(each["path"])
        told = None if progress is None else lambda done, whole: progress(str(each.get("name") or path), done, whole)
        found = await self.upload(path, told)
        kept = {name: value for name, value in each.items() if name != "path"}
        return {"name": path.name, **kept, "sha256": found["sha256"]}

    async def download(
        self, task_id: str, file: Mapping[str, Any], folder: Path, *, force: bool, progress: Progress | None = None
    ) -> bool:
        """Bring one of a task's files below `folder`; False if that content is there already.

        `file` is one of the documents that the main lists. An interrupted download goes on where it stopped. Raises
        ClusterError.
        """
        digest, size = file["sha256"], file["size_bytes"]
        target = place_for(folder, file["name"])
        if await self._in_thread(is_same, target, digest, size):
            return False
        if not force and (target.exists() or target.is_symlink()):
            raise exists(target)
        part = PartFile(target.with_name(f".{digest[:24]}.part"))
        try:
            await self._in_thread(part.open)
            await self._fetch(f"/api/v1/tasks/{quote(task_id)}/files/{quote(file['name'])}", part, size, progress)
            if part.digest() != digest:
                await self._in_thread(part.path.unlink)
                raise ClusterError("conflict", f"what came as {file['name']} is not what the task left: get it again")
        finally:
            part.close()
        await self._in_thread(lambda: put_in_place(part.path, target, force=force))
        return True

    async def _fetch(self, path: str, part: PartFile, size: int, progress: Progress | None) -> None:
        async def fetch(told: Progress) -> None:
            if part.length < size or not size:
                await self._door.fetch(path, part, told)

        await self._again(fetch, progress)

    async def _again(self, act: Callable[[Progress], Any], progress: Progress | None) -> None:
        """Do it, and after a break go on: as often as it takes while something comes through."""
        failed, through = 0, 0

        def told(done: int, whole: int) -> None:
            nonlocal failed, through
            if done > through:
                failed, through = 0, done
            if progress is not None:
                progress(done, whole)

        while True:
            try:
                await act(told)
                return
            except ClusterError as error:
                failed += 1
                if error.code not in _BROKEN or failed >= TRIES:
                    raise
            await deferLater(self._reactor, min(FIRST_PAUSE_S * 2**failed, LONGEST_PAUSE_S))
