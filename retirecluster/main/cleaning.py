"""Retention: what is old enough is removed from the database, a little at a time."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.main.file_store import FileStore
from retirecluster.main.space import Reserve
from retirecluster.main.strangers import Strangers
from retirecluster.store import cleanup
from retirecluster.store.database import Database

log = Logger()
FIRST_AFTER_S = 60.0
EVERY_S = 3600.0
PAUSE_S = 0.02
"""Between two batches, so that turns come first."""
DAY_S = 86_400.0
AUDIT_KEPT = 100_000
"""Rows of the audit trail that are kept: the newest. Refusals fill that in three weeks at the earliest."""


@define(eq=False)
class Cleaner:
    """Cleans up once an hour, and a minute after the start. A round that fails is logged, and the next one comes."""

    scheduler: Scheduler
    database: Database
    reserve: Reserve
    files: FileStore
    strangers: Strangers
    keep_tasks_s: float
    keep_events: int
    clock: IReactorTime
    moment: Callable[[], Moment]
    removed_rows: int = 0
    errors: int = 0
    _loop: LoopingCall | None = None
    _first: IDelayedCall | None = None
    _stopped: bool = field(default=False)
    _last_mono_s: float | None = None
    """When retention was last looked at, in this life."""
    _pausing: Deferred[None] | None = None

    def start(self) -> None:
        """The first round is a minute from now."""
        self._last_mono_s = self.moment().mono_s
        self._loop = LoopingCall(self._round)
        self._loop.clock = self.clock
        self._first = self.clock.callLater(FIRST_AFTER_S, self._loop.start, EVERY_S)

    def stop(self) -> None:
        """No more rounds; one that is under way ends with its current batch."""
        self._stopped = True
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._pausing is not None:
            self._pausing.cancel()

    def _round(self) -> Deferred[int | None]:
        # A LoopingCall whose function fails stops for good.
        return ensureDeferred(self.clean()).addErrback(self._report)

    def _report(self, failure: Failure) -> None:
        if not self._stopped and not failure.check(CancelledError):
            self.errors += 1
            log.failure("a clean-up failed", failure)

    async def clean(self) -> int:
        """One round; how many rows were removed. Counts of final states are of tasks that are kept: they shrink."""
        retention_at = await self._retention_at()
        before_at = retention_at - self.keep_tasks_s
        self.strangers.forget(retention_at)
        removed = await self._batches(cleanup.forget_tasks_txn, before_at)
        removed += await self._batches(cleanup.forget_events_txn, self.keep_events)
        removed += await self._batches(cleanup.forget_refused_txn, before_at)
        removed += await self._batches(cleanup.forget_audit_txn, AUDIT_KEPT)
        if not self._stopped:
            await self.files.clean()
            await self.database.checkpoint()
        if removed:
            log.info("clean-up: {rows} rows removed", rows=removed)
        self.removed_rows += removed
        self.reserve.make()
        return removed

    async def _retention_at(self) -> float:
        """The clock of retention: the wall clock, except that it goes on no faster than the main has run.

        A wall clock that jumps ahead would remove everything; this one then goes on from where it was.
        """
        now = self.moment()
        ran_s = 0.0 if self._last_mono_s is None else now.mono_s - self._last_mono_s
        retention_at = await self.database.change(cleanup.advance_retention_txn, now.wall_s, ran_s)
        self._last_mono_s = now.mono_s
        return retention_at

    async def _batches(self, forget: Callable[..., cleanup.Forgotten], limit: float) -> int:
        removed, more = 0, True
        while more and not self._stopped:
            batch = await self.database.change(forget, limit)
            self.scheduler.ledger.forget(batch.tasks)
            removed, more = removed + batch.rows, batch.more
            if more:
                await self._pause()
        return removed

    async def _pause(self) -> None:
        self._pausing = Deferred(lambda _: call.cancel())
        call = self.clock.callLater(PAUSE_S, self._pausing.callback, None)
        try:
            await self._pausing
        finally:
            self._pausing = None
