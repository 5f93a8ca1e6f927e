"""The life of a worker: its parts are started in one order, and end in another."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from retirecluster.daemon import Reporter
from retirecluster.worker.agent import Agent
from retirecluster.worker.connection import Registrar
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.fences import Fences
from retirecluster.worker.idle_sleep import IdleSleep
from retirecluster.worker.leftovers import kill_leftovers

CLEAN_CHECKPOINTS_S = 6 * 3600.0


@define(eq=False)
class WorkerService(Service):
    """Starts and stops the parts in the right order."""

    folder: DataFolder
    agent: Agent
    registrar: Registrar
    client: ClientService
    drain_s: float
    boot_s: Callable[[], float]
    fences: Fences | None = None
    sleep: IdleSleep | None = None
    reporter: Reporter | None = None
    log = Logger()
    _stopping: Deferred[None] | None = field(default=None, init=False)
    _cleaning: IDelayedCall | None = field(default=None, init=False)

    def startService(self) -> None:
        Service.startService(self)
        self.folder.sign()
        found = self.agent.journal.open()
        killed = kill_leftovers(found.values(), self.boot_s())
        if self.fences is not None:
            self.fences.kill_leftovers()
        if killed:
            self.log.warn("{count} processes of an earlier life were killed", count=len(killed))
        if self.agent.spool.files is not None:
            self.agent.spool.files.open()
        self.agent.remember(found)
        self.agent.executor.start()
        self._clean_checkpoints()
        if self.registrar.comfort is not None:
            self.registrar.comfort.start()
        if self.sleep is not None:
            self.sleep.start()
        self.client.startService()
        if self.reporter is not None:
            self.reporter.start()

    def in_short(self) -> str:
        """Its state in a line, as `phone: in touch with the main, 3 tasks`."""
        line, count = self.registrar.connection, len(self.agent.held())
        where = "in touch with the main" if line is not None and line.session_no is not None else "looking for the main"
        return f"{self.registrar.device_id}: {where}, {count} task{'s' * (count != 1)}"

    def _clean_checkpoints(self) -> None:
        """Now and every few hours: what is old goes, and the oldest of what is too much."""
        checkpoints = self.agent.executor.checkpoints
        if checkpoints is not None:
            checkpoints.clean().addErrback(lambda failure: self.log.failure("checkpoints are not cleaned", failure))
            self._cleaning = self.agent.reactor.callLater(CLEAN_CHECKPOINTS_S, self._clean_checkpoints)

    def stopService(self) -> Deferred[None]:
        if self._cleaning is not None:
            self._cleaning.cancel()
            self._cleaning = None
        Service.stopService(self)
        if self.reporter is not None:
            self.reporter.stopping()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self.registrar.comfort is not None:
            self.registrar.comfort.stop()
        if self.sleep is not None:
            self.sleep.stop()
        delivered = await self.agent.shut_down(self.drain_s)
        if self.registrar.connection is not None:
            self.registrar.connection.leave("worker stopped", returning=not delivered)
        await self.client.stopService()
        await self.agent.executor.stop()
        if self.fences is not None:
            self.fences.tidy()
        if self.agent.spool.files is not None:
            await self.agent.spool.files.close()
        self.agent.journal.close()
        self.folder.close()
