"""Results on their way: each is kept until the main has it, and sent again after every registration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain import failpoints
from retirecluster.worker.journal import Journal, Key

DELIVERED_WITHIN_S = 5.0
"""How long a worker that stops waits for the main to take the last results; later ones wait for its next life."""


class ResultFiles(Protocol):
    """The way of tasks' files to and from the main."""

    def open(self) -> None:
        """Take over what an earlier life left. Before anything else."""

    async def close(self) -> None:
        """Return once nothing is under way any more."""

    def session_opened(self, host: str, door: Mapping[str, Any] | None) -> None:
        """A session begins; `door` is what register_ack says of files."""

    def session_closed(self) -> None: ...

    def keep(self, key: Key, data: Mapping[str, Any]) -> None:
        """A result is spooled: the files that it names stay on the device."""

    def release(self, key: Key) -> None:
        """A result is spooled no longer."""

    def send(self, key: Key, data: Mapping[str, Any], done: Callable[[Key, dict[str, Any] | None], None]) -> None:
        """Upload the files of a result, then call `done`; with other data where they cannot be kept."""


@define(eq=False)
class Spool:
    """The results of one worker that the main may not have yet.

    `say` sends a message if there is a line, `record` does one write to the journal and bears its failure.
    `files` is set once, by whoever wires the worker.
    """

    reactor: IReactorTime
    journal: Journal
    say: Callable[[str, Mapping[str, Any]], None]
    record: Callable[[Callable[[], None]], None]
    reached: failpoints.Reached
    files: ResultFiles | None = None
    results: dict[Key, dict[str, Any]] = field(factory=dict, init=False)
    """The data of each `task_result` message."""
    log = Logger()
    _syncing: dict[Key, Deferred[None]] = field(factory=dict, init=False)
    _emptied: Deferred[None] | None = field(default=None, init=False)
    """Fires when nothing is left to deliver, for a worker that is about to leave."""

    def remember(self, key: Key, result: dict[str, Any]) -> None:
        """Take over a result that the journal of an earlier life holds."""
        self.results[key] = result
        if self.files is not None:
            self.files.keep(key, result)

    def add(self, key: Key, data: dict[str, Any], sync: bool) -> None:
        """An attempt has ended: keep its result and send it; with `sync` only once it is on the disk."""
        self.results[key] = data
        self.record(lambda: self.journal.result(key, data))
        if sync:
            sending = ensureDeferred(self._send_synced(key))
            if not sending.called:
                self._syncing[key] = sending.addBoth(self._synced, key)
        else:
            self._send(key)

    async def _send_synced(self, key: Key) -> None:
        """A result that must never be produced again is on the disk before it is sent."""
        try:
            await self.journal.sync()
        except OSError as error:  # the main can still take it: then nobody needs the copy here
            self.log.error("the journal cannot be synced: {why}", why=str(error))
        self._send(key)

    def _synced(self, result: object, key: Key) -> None:
        del self._syncing[key]
        if isinstance(result, Failure):
            self.log.failure("the result of {task} could not be sent", result, task=key[0])

    def _send(self, key: Key) -> None:
        self.reached(failpoints.AFTER_SPOOL)
        self._deliver(key)

    def deliver_all(self) -> None:
        """A session begins: send everything that waits."""
        for key in list(self.results):
            self._deliver(key)

    def _deliver(self, key: Key) -> None:
        """Say how an attempt ended, once the main has the files that it left."""
        data = self.results.get(key)
        if data is None:
            return
        if self.files is not None and data.get("artifacts"):
            self.files.send(key, data, self._uploaded)
        else:
            self.say("task_result", data)

    def _uploaded(self, key: Key, changed: dict[str, Any] | None) -> None:
        if key not in self.results:
            return
        if changed is not None:
            self.results[key] = changed
            self.record(lambda: self.journal.result(key, changed))
        self.reached(failpoints.AFTER_UPLOAD)
        self.say("task_result", self.results[key])

    def acknowledged(self, task_id: str, epoch: int | None) -> None:
        """The main has the result of this attempt (None: of any of the task), or wants it no more."""
        self.reached(failpoints.AFTER_SENT)
        for key in [key for key in self.results if key[0] == task_id and epoch in (None, key[1])]:
            self.forget(key)

    def forget(self, key: Key) -> None:
        """Nobody needs anything of this attempt any more: neither a result nor what the journal says of it."""
        self.results.pop(key, None)
        if not self.results:
            self.no_more_to_deliver()
        if self.files is not None:
            self.files.release(key)
        self.record(lambda: self.journal.gone(key))

    # The end

    async def synced(self) -> None:
        """Return once no result waits for the disk."""
        for sending in list(self._syncing.values()):
            await sending

    async def delivered(self) -> None:
        """Return once the main has every result, with its files; or when that takes too long, or the line is gone."""
        if self.results:
            self._emptied = Deferred()
            self._emptied.addTimeout(DELIVERED_WITHIN_S, self.reactor, onTimeoutCancel=lambda *_: None)
            await self._emptied

    def no_more_to_deliver(self) -> None:
        """Everything is there, or the line is gone: nobody has to wait."""
        if self._emptied is not None and not self._emptied.called:
            self._emptied.callback(None)
