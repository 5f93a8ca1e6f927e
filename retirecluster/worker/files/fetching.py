"""Contents from the main into the cache: each once, however many attempts ask; broken connections are gone on with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.worker.executor import TaskFailure
from retirecluster.worker.files.cache import FileCache, NoRoomError
from retirecluster.worker.files.memory import give_back

if TYPE_CHECKING:
    from retirecluster.transfer import FileDoor, InThread, PartFile

KIND = "files"
AT_ONCE = 4
TRIES = 6
"""Tries in a row that bring nothing, after which a fetch is given up. One that brings something counts anew."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
_NETWORK = frozenset({"unreachable", "too_many_connections", "store_busy", "shutting_down", "rate_limited", "internal"})


@define(eq=False)
class Session:
    """The way to the main's files while a session lasts."""

    reactor: Any
    _open: Callable[[], FileDoor] | None = None
    _door: FileDoor | None = None
    _waiting: list[Deferred[None]] = field(factory=list)

    @property
    def door(self) -> FileDoor | None:
        """Opened when it is first needed; None while there is none."""
        if self._door is None and self._open is not None:
            self._door = self._open()
        return self._door

    def opened(self, open_door: Callable[[], FileDoor] | None) -> None:
        """A session began; None: with a main that has no files."""
        self._open, self._door = open_door, None
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def closed(self) -> FileDoor | None:
        """The session is over; the door that is to be closed, if it was opened."""
        door, self._open, self._door = self._door, None, None
        return door

    async def within(self, seconds: float) -> FileDoor | None:
        """The door, waited for if there is none now; None if none opens in that time."""
        if self.door is None:
            waiting: Deferred[None] = Deferred(self._waiting.remove)
            self._waiting.append(waiting)
            call = self.reactor.callLater(seconds, waiting.cancel)
            try:
                await waiting
            except CancelledError:
                if call.active():  # not the time, but whoever waits
                    raise
            finally:
                if call.active():
                    call.cancel()
        return self.door


@define(eq=False)
class Fetcher:
    """Fetches contents. `within_s` is how long a main that is away is waited for, each time."""

    session: Session
    cache: FileCache
    in_thread: InThread
    random: Random
    within_s: float = 60.0
    log = Logger()
    _coming: dict[str, _Coming] = field(factory=dict)
    _limit: DeferredSemaphore = field(factory=lambda: DeferredSemaphore(AT_ONCE))

    async def fetch(self, digest: str) -> None:
        """See that a content is in the cache. Raises TaskFailure; may be cancelled, which ends a fetch nobody wants."""
        if self.cache.has(digest):
            return
        coming = self._coming.get(digest)
        if coming is None:
            coming = self._coming[digest] = _Coming()
            coming.work = ensureDeferred(self._fetch(digest)).addBoth(self._over, digest)
        await coming.wait()

    def _over(self, result: object, digest: str) -> None:
        self._coming.pop(digest).over(result)
        if not self._coming:
            give_back()

    async def _fetch(self, digest: str) -> None:
        from retirecluster.transfer import PartFile

        async with self._limit:
            part = PartFile(self.cache.parts / digest)
            try:
                await self.in_thread(part.open)
                await self._bring(digest, part)
                if part.digest() != digest:
                    await self.in_thread(part.restart)
                    raise TaskFailure(KIND, f"what the main sent as {digest} has another SHA-256")
                await self.in_thread(part.path.replace, self.cache.path(digest))
                self.cache.added(digest, part.length)
            except NoRoomError as error:
                raise TaskFailure(KIND, f"no room for its files: {error}") from None
            except OSError as error:
                raise TaskFailure(KIND, f"its files cannot be written: {error.strerror}") from None
            finally:
                part.close()

    async def _bring(self, digest: str, part: PartFile) -> None:
        """Fetch to the end, try after try."""
        failed = 0
        while True:
            before = part.length
            door = await self.session.within(self.within_s)
            error = ClusterError("unreachable", "the main cannot be reached")
            if door is not None:
                try:
                    return await door.fetch(f"/api/v1/files/{digest}", part, room=self.cache.make_room)
                except ClusterError as raised:
                    error = raised
            failed = 1 if part.length > before else failed + 1
            if not self._again(error, door) or failed >= TRIES:
                raise _failure(digest, error)
            self.log.info("fetching {digest} is tried again: {why}", digest=digest, why=error.message)
            pause_s = min(FIRST_PAUSE_S * 2**failed, LONGEST_PAUSE_S)
            await deferLater(self.session.reactor, self.random.uniform(pause_s / 2, pause_s))

    def _again(self, error: ClusterError, door: FileDoor | None) -> bool:
        """Whether it may go better the next time: a token is void as soon as its session ends."""
        return error.code in _NETWORK or (error.code in ("unauthorized", "forbidden") and self.session.door is not door)


def _failure(digest: str, error: ClusterError) -> TaskFailure:
    if error.code == "not_found":
        return TaskFailure(KIND, f"the main does not have its input {digest} any more", retryable=False)
    return TaskFailure(KIND, f"its input {digest} could not be fetched: {error.message}")


@define(eq=False)
class _Coming:
    """A fetch under way, and those who wait for it."""

    work: Deferred[Any] | None = None
    waiting: list[Deferred[None]] = field(factory=list)

    async def wait(self) -> None:
        waiter: Deferred[None] = Deferred(self._leave)
        self.waiting.append(waiter)
        await waiter

    def _leave(self, waiter: Deferred[None]) -> None:
        with suppress(ValueError):
            self.waiting.remove(waiter)
        if not self.waiting and self.work is not None:
            self.work.cancel()

    def over(self, result: object) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            if isinstance(result, Failure):
                each.errback(Failure(result.value))
            else:
                each.callback(None)
