"""The keeper of tasks' folders: makes them with their inputs before a task runs, takes the outputs after it."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.files import inputs_of
from retirecluster.wire.codec import MAX_LINE_BYTES, encode_line
from retirecluster.worker.assignment import Assignment
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.executor import TaskFailure
from retirecluster.worker.fences import Fences
from retirecluster.worker.files.cache import FileCache, NoRoomError, check_room, default_bytes
from retirecluster.worker.files.fetching import KIND, Fetcher, Session
from retirecluster.worker.files.staging import (
    CAN_STAGE,
    Collected,
    Collector,
    DamagedError,
    OverQuotaError,
    make_folder,
    remove_folder,
)
from retirecluster.worker.files.uploads import Done, Uploads
from retirecluster.worker.journal import Key
from retirecluster.worker.keys import Keys
from retirecluster.worker.runner.limits import PROGRESS_FILE

if TYPE_CHECKING:
    from retirecluster.transfer import FileDoor, InThread

PREFIX = "files-"
"""What the names of these folders begin with, beside the runners' own."""
LEVELS = 4
ROOM_BYTES = 16_384
"""What the rest of a result's line may need."""
Result = dict[str, Any]
OpenDoor = Callable[[str, int, str], "FileDoor"]
"""Makes a door to a host and port with a token."""


@define(eq=False)
class TaskFolders:
    """Folders of attempts that bring or leave files, where `fences` has them; and the way of files to and fro."""

    fences: Fences
    cache: FileCache
    session: Session
    fetcher: Fetcher
    uploads: Uploads
    in_thread: InThread
    open_door: OpenDoor
    max_output_bytes: int
    log = Logger()
    _numbers: itertools.count[int] = field(factory=itertools.count)
    _preparing: dict[Key, Deferred[str]] = field(factory=dict)
    _removing: set[Deferred[None]] = field(factory=set)

    def open(self) -> None:
        """Take over the cache, and remove folders of an earlier life. Blocking, at start."""
        self.cache.open()
        for place in {self.fences.fence(level).folder for level in range(LEVELS)}:
            for left in place.glob(f"{PREFIX}*"):
                remove_folder(left)

    # -- the session

    def session_opened(self, host: str, door: Mapping[str, Any] | None) -> None:
        """The main was joined at `host`, and says where its files are; None from one that has none."""
        self._close_door()
        self.session.opened(None if door is None else partial(self.open_door, host, door["port"], door["token"]))

    def session_closed(self) -> None:
        """The session is over: uploads stop, fetches wait for the next one."""
        self.uploads.stop()
        self._close_door()

    def _close_door(self) -> None:
        door = self.session.closed()
        if door is not None:
            closing = ensureDeferred(door.close())
            self._removing.add(closing)
            closing.addBoth(self._over, closing)

    async def close(self) -> None:
        """Return once nothing of this is under way."""
        self.session_closed()
        for preparing in list(self._preparing.values()):
            preparing.cancel()
        for removing in list(self._removing):
            await removing

    def _over(self, result: Any, work: Deferred[None]) -> None:
        self._removing.discard(work)
        if isinstance(result, Failure):
            self.log.failure("cleaning up failed", result)

    # -- before

    def prepare(self, assignment: Assignment, level: int) -> Awaitable[str | None] | None:
        """The folder of an attempt that has files; None for others. See the executor's `FolderKeeper`."""
        if not assignment.files:
            return None
        if not CAN_STAGE:
            raise TaskFailure(KIND, "this device's system keeps no files of tasks; another device may")
        preparing = ensureDeferred(self._prepare(assignment, level))
        if not preparing.called:
            self._preparing[assignment.key] = preparing
            preparing.addBoth(self._prepared, assignment.key)
        return preparing

    def abandon(self, assignment: Assignment) -> None:
        """It is not wanted any more while its folder is made."""
        preparing = self._preparing.get(assignment.key)
        if preparing is not None:
            preparing.cancel()

    def _prepared(self, result: Any, key: Key) -> Any:
        self._preparing.pop(key, None)
        return result

    async def _prepare(self, assignment: Assignment, level: int) -> str:
        inputs = inputs_of(assignment.files)
        digests = sorted({each.sha256 for each in inputs})
        self.cache.pin(digests)
        try:
            for _ in range(2):
                await _all(self.fetcher.fetch(digest) for digest in digests)
                place = await self.in_thread(self.fences.folder_of, level)
                folder = place / f"{PREFIX}{next(self._numbers)}"
                try:
                    size = sum(self.cache.path(each.sha256).stat().st_size for each in inputs)
                    self.cache.make_room(size)
                    check_room(place, size)
                    await self.in_thread(make_folder, folder, inputs, self.cache.path, self.fences.owner_of(level))
                except BaseException as error:
                    self._remove(folder)
                    if not isinstance(error, DamagedError):
                        raise
                    self.log.warn("{why}: it is fetched again", why=str(error))
                    self.cache.discard(error.digest)
                else:
                    return str(folder)
            raise TaskFailure(KIND, "its inputs are changed in the device's cache as soon as they are there")
        except NoRoomError as error:
            raise TaskFailure(KIND, f"no room for its files: {error}") from None
        except OSError as error:
            raise TaskFailure(KIND, f"its folder cannot be made: {error.strerror}") from None
        finally:
            self.cache.unpin(digests)

    # -- after

    def collect(self, assignment: Assignment, data: Result) -> Awaitable[Result] | None:
        """Take what is to be kept of an attempt whose processes are gone. See the executor's `FolderKeeper`."""
        if assignment.folder is None:
            return None
        return self._collect(assignment, Path(assignment.folder), data)

    async def _collect(self, assignment: Assignment, folder: Path, data: Result) -> Result:
        try:
            patterns = assignment.files.get("outputs") or ()
            if not patterns or data["status"] == "cancelled":
                return data
            private = frozenset({PROGRESS_FILE})
            collector = Collector(folder, self.cache.folder, self.max_output_bytes, assignment.at_most_once, private)
            try:
                found: Collected = await self.in_thread(collector.collect, patterns)
            except OverQuotaError as error:
                return _failed(data, str(error), False)
            except OSError as error:
                return _failed(data, f"what it left cannot be kept on the device: {error.strerror}", True)
            return self._with_outputs(assignment.key, data, found)
        finally:
            self._remove(folder)

    def _with_outputs(self, key: Key, data: Result, found: Collected) -> Result:
        if found.outputs:
            data["artifacts"] = [
                {"name": each.name, "sha256": each.sha256, "size_bytes": each.size_bytes} for each in found.outputs
            ]
            self.uploads.keep(key, data)
            for each in found.outputs:
                self.cache.added(each.sha256, each.size_bytes)
        if found.skipped:
            data["result"] = data.get("result") or {}
            data["result"]["skipped_files"] = found.skipped
        return fitting(data)

    def _remove(self, folder: Path) -> None:
        removing: Deferred[None] = ensureDeferred(self._remove_it(folder))
        if not removing.called:
            self._removing.add(removing)
        removing.addBoth(self._over, removing)

    async def _remove_it(self, folder: Path) -> None:
        await self.in_thread(remove_folder, folder)

    # -- results

    def keep(self, key: Key, data: Mapping[str, Any]) -> None:
        """A result from the journal: its files stay until it is acknowledged."""
        self.uploads.keep(key, data)

    def release(self, key: Key) -> None:
        """A result is acknowledged, or not wanted."""
        self.uploads.release(key)

    def send(self, key: Key, data: Mapping[str, Any], done: Done) -> None:
        """Upload a result's files, then call `done`."""
        self.uploads.send(key, data, done)


async def _all(works: Any) -> None:
    """Wait for all; the first that fails ends the others."""
    gathered = gatherResults([ensureDeferred(work) for work in works], consumeErrors=True)
    try:
        await gathered
    except Exception as error:
        first = getattr(error, "subFailure", None)
        gathered.cancel()
        raise first.value if first is not None else error from None


def _failed(data: Result, why: str, retryable: bool) -> Result:
    """The result of an attempt whose outputs cannot be kept. One that failed keeps its own reason."""
    if data["status"] != "completed":
        return data
    return data | {"status": "failed", "error": {"kind": KIND, "message": why, "retryable": retryable}}


def fitting(data: Result) -> Result:
    """A result that fits one line: first the notes on what was skipped go, then the beginning of the output."""
    result = data.get("result")
    excess = len(encode_line(data)) - (MAX_LINE_BYTES - ROOM_BYTES)
    if excess <= 0 or not isinstance(result, dict):
        return data
    result.pop("skipped_files", None)
    for name in ("stderr", "output"):
        excess = len(encode_line(data)) - (MAX_LINE_BYTES - ROOM_BYTES)
        if excess > 0 and isinstance(result.get(name), str):
            # Each character is at least one byte of the line.
            result[name] = result[name][excess:]
            result["truncated"] = True
    return data


def task_folders(settings: Mapping[str, Any], folder: DataFolder, fences: Fences, reactor: Any) -> TaskFolders:
    """Everything about files, wired for one worker."""

    def in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)

    def open_door(host: str, port: int, token: str) -> FileDoor:
        # Here and not above: HTTP takes memory that a worker without files does not need.
        from retirecluster.transfer import FileDoor

        where, keys = f"[{host}]" if ":" in host else host, Keys(folder.path)
        # The main knows itself by this name, whatever name or address leads to it from here.
        headers = {"Host": "localhost", "Authorization": f"Bearer {token}"}
        if not keys.here:
            return FileDoor(reactor, f"http://{where}:{port}", headers, in_thread)
        return FileDoor(reactor, f"https://{where}:{port}", headers, in_thread, keys.identity().context())

    session, random = Session(reactor), Random()
    size = settings["cache_bytes"]
    cache = FileCache(folder.cache, default_bytes(folder.path) if size is None else size)
    fetcher = Fetcher(session, cache, in_thread, random)
    uploads = Uploads(session, cache, random)
    most = settings["max_output_files_bytes"]
    return TaskFolders(fences, cache, session, fetcher, uploads, in_thread, open_door, most)
