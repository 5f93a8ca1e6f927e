"""Keeps the devices' histories over restarts: read at start, written every few hours and at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.history import History
from retirecluster.domain.scheduler import Moment
from retirecluster.store import history as store

log = Logger()
EVERY_S = 6 * 3600.0
"""A crash costs this much of the graphs at most, and flash is spared."""


@define(eq=False)
class HistoryFile:
    """The file of one `History`."""

    history: History
    path: Path
    clock: IReactorTime
    moment: Callable[[], Moment]
    in_thread: Callable[..., Awaitable[Any]]
    _loop: LoopingCall | None = None

    def restore(self) -> None:
        """Read what an earlier life kept. Blocking; a file that cannot be used is left out, and said."""
        now = self.moment()
        try:
            found = store.decode(self.path.read_bytes(), now.mono_s, now.wall_s)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            log.warn("the devices' histories begin anew: {path}: {why}", path=self.path, why=str(error))
        else:
            self.history.devices, self.history.beginning_s = found.devices, found.beginning_s

    def start(self) -> None:
        """Write it every few hours from now on."""
        self._loop = LoopingCall(self._save_soon)
        self._loop.clock = self.clock
        self._loop.start(EVERY_S, now=False)

    def stop(self) -> None:
        """Write it for the last time. Blocking."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        try:
            store.save(self.path, self._parts())
        except OSError as error:
            log.warn("the devices' histories are not kept: {path}: {why}", path=self.path, why=error.strerror)

    def _parts(self) -> list[bytes]:
        now = self.moment()
        return list(store.encode(self.history, now.mono_s, now.wall_s))

    def _save_soon(self) -> Deferred[None]:
        # A LoopingCall whose function fails stops for good.
        return ensureDeferred(self._save()).addErrback(self._not_saved)

    async def _save(self) -> None:
        await self.in_thread(store.save, self.path, self._parts())

    def _not_saved(self, failure: Failure) -> None:
        log.warn("the devices' histories are not kept: {why}", why=failure.getErrorMessage())
