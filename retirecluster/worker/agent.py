"""The worker's duties, connected or not: take tasks or refuse them, keep the journal, report until heard.

The connection is an `Uplink` that comes and goes; what has to reach the main is in the journal, and sent again
after each registration until it is acknowledged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from retirecluster.domain import failpoints
from retirecluster.domain.fencing import Reception, lease_end, reception
from retirecluster.worker import outcome
from retirecluster.worker.assignment import Assignment, payload_errors, read_assignment
from retirecluster.worker.executor import RUNNING, TaskExecutor
from retirecluster.worker.fences import PLAIN, Proof
from retirecluster.worker.journal import RESULT, Journal, Key, Remembered
from retirecluster.worker.plugins import Plugins
from retirecluster.worker.spool import Spool

SEEN_ATTEMPTS = 10_000
MAX_CLAIMS = 10_000
"""As many as one register message may list."""
PREFETCH = 32
PATIENCE_S = 0.5
"""How long an attempt waits for a slot here while the main could give it to another device."""
SHUTTING_DOWN = "worker shutting down"


class Uplink(Protocol):
    """A registered connection."""

    def say(self, message_type: str, data: Mapping[str, Any]) -> None: ...


@define(eq=False)
class Agent:
    """One worker.

    `boot_s` tells the seconds since the device started, by which processes are recognised later; `utc` the time
    of day as the wire writes it.
    """

    reactor: IReactorTime
    executor: TaskExecutor
    journal: Journal
    task_types: frozenset[str]
    boot_s: Callable[[], float]
    utc: Callable[[], str]
    reached: failpoints.Reached = failpoints.unarmed
    isolation: Proof = field(factory=lambda: Proof(PLAIN))
    plugins: Plugins = field(factory=Plugins)
    log = Logger()
    draining: bool = field(default=False, init=False)
    paused: str = field(default="", init=False)
    """Why its owner's policy lets it take nothing; empty if it does."""
    uplink: Uplink | None = field(default=None, init=False)
    session_no: int | None = field(default=None, init=False)
    last_activity: str = field(default="", init=False)
    spool: Spool = field(init=False)
    _died: list[Key] = field(factory=list, init=False)
    _seen: OrderedDict[Key, None] = field(factory=OrderedDict, init=False)
    _lease: IDelayedCall | None = field(default=None, init=False)
    _patience: IDelayedCall | None = field(default=None, init=False)

    @spool.default
    def _new_spool(self) -> Spool:
        return Spool(self.reactor, self.journal, self._say, self._record, self.reached)

    def remember(self, found: Mapping[Key, Remembered]) -> None:
        """Take over what the journal of an earlier life holds."""
        for key, each in found.items():
            self._see(key)
            if each.state == RESULT and each.result is not None:
                self.spool.remember(key, each.result)
            else:
                self._died.append(key)

    # What the main asks

    def assign(self, task: Mapping[str, Any], session_no: int) -> None:
        """Take an attempt that came in that session, refuse it, or ignore it. Raises ClusterError."""
        assignment = read_assignment(task)
        received = reception(assignment.key, session_no, self.session_no, self._seen)
        if received is not Reception.TAKE:
            self.log.info("attempt {attempt} is ignored: {why}", attempt=assignment, why=received.value)
            return
        self._see(assignment.key)
        reason = self._why_not(assignment)
        if reason:
            return self._refuse(assignment, reason)
        wrong = payload_errors(assignment) or self.plugins.payload_errors(assignment.task_type, assignment.payload)
        if wrong:
            return self.task_finished(assignment, outcome.failure_data(assignment, "payload", wrong, False))
        try:
            self.journal.accepted(assignment.key)
        except OSError as error:
            return self._refuse(assignment, f"the journal cannot be written: {error.strerror}")
        self.reached(failpoints.AFTER_ACCEPT)
        self.executor.execute_task(assignment)
        self._be_patient()

    def _be_patient(self) -> None:
        """Short tasks are queued here; if they turn out to wait behind a long one, they go back to the main."""
        if self._patience is None and self.executor.waiting:
            self._patience = self.reactor.callLater(PATIENCE_S, self._lose_patience, self.executor.waiting_keys())

    def _lose_patience(self, waited: set[Key]) -> None:
        self._patience = None
        if waited & self.executor.waiting_keys():
            for assignment in self.executor.hand_back_waiting():
                self._hand_back(assignment, "it waits behind a long task here")
        self._be_patient()

    def _why_not(self, assignment: Assignment) -> str:
        if self.draining:
            return "the worker is draining"
        if self.paused:
            return f"paused: {self.paused}"
        if assignment.task_type not in self.task_types:
            offered = ", ".join(sorted(self.task_types))
            return f"task type {assignment.task_type} is not offered here; offered are {offered}"
        if assignment.isolation > self.isolation.level:
            return self.isolation.why_not(assignment.isolation)
        if self.executor.waiting >= PREFETCH + self.executor.slots:
            return "the worker's queue is full"
        return ""

    def _refuse(self, assignment: Assignment, reason: str) -> None:
        # Still remembered as seen: the main has closed this epoch, and should it come again, it comes late.
        self._say("task_refused", {"task_id": assignment.task_id, "epoch": assignment.epoch, "reason": reason})

    def cancel(self, task_id: str, epoch: int | None, reason: str) -> None:
        """Stop an attempt; its result says cancelled. One that is not here was never started, or has ended."""
        if self.executor.cancel_task(task_id, epoch, reason) or epoch is None:
            return
        if (task_id, epoch) not in self._seen:
            self._see((task_id, epoch))  # should it come yet, it is not wanted any more
            self._say("task_refused", {"task_id": task_id, "epoch": epoch, "reason": "it is not on this device"})

    def acknowledged(self, task_id: str, epoch: int | None) -> None:
        """The main has the result, or wants it no more."""
        self.spool.acknowledged(task_id, epoch)

    def task_over(self, task_id: str) -> None:
        """No attempt of the task follows: what was kept for one goes."""
        if self.executor.checkpoints is not None:
            self.executor.checkpoints.forget(task_id)

    def drain(self, reason: str) -> None:
        """Take no new attempts and hand back those that wait."""
        self.draining = True
        for assignment in self.executor.hand_back_waiting():
            self._hand_back(assignment, reason)

    def undrain(self) -> None:
        self.draining = False

    def pause(self, reason: str, running: str) -> None:
        """The owner's policy lets it take nothing new; what waits here goes back, and what runs does as `running` says.

        What is to be handed back stops where it stands; the main, which hears of it, takes it away.
        """
        self.paused = reason
        for assignment in self.executor.hand_back_waiting():
            self._hand_back(assignment, f"paused: {reason}"[:1000])
        self.executor.suspend(running != "continue")

    def unpause(self) -> None:
        """It takes attempts again, and what was stopped goes on."""
        self.paused = ""
        self.executor.suspend(False)

    def say_availability(self, data: Mapping[str, Any]) -> None:
        """Tell the main, if it is there."""
        self._say("availability", data)

    def _hand_back(self, assignment: Assignment, reason: str) -> None:
        self._refuse(assignment, reason)
        self._record(lambda: self.journal.gone(assignment.key))

    def stop_attempts(self, attempts: Iterable[Mapping[str, Any]]) -> None:
        """Attempts that are not current: kill and forget them."""
        for each in attempts:
            key = (each["task_id"], each["epoch"])
            self.executor.cleanup_task_resources(*key)
            self.spool.forget(key)
            if each.get("final"):
                self.task_over(each["task_id"])

    # Registration and renewal

    def claims(self) -> list[dict[str, Any]]:
        """Every attempt that the journal holds, as a register message lists them."""
        claimed = []
        for assignment in self.executor.assignments():
            state = "running" if self.executor.state_of(assignment.key) == RUNNING else "queued"
            claimed.append(_claim(assignment.key, state))
        claimed += [_claim(key, "spooled") for key in self.spool.results]
        claimed += [_claim(key, "died") for key in self._died]
        return claimed[:MAX_CLAIMS]

    def held(self) -> list[dict[str, Any]]:
        """The attempts whose lease a heartbeat renews: those that wait or run, and those whose result is on its way."""
        keys = [assignment.key for assignment in self.executor.assignments()] + list(self.spool.results)
        return [{"task_id": key[0], "epoch": key[1]} for key in keys[:MAX_CLAIMS]]

    def registered(self, uplink: Uplink, session_no: int, stop: Iterable[Mapping[str, Any]]) -> None:
        """The main knows what was claimed: forget what it does not want, send what waits."""
        self.uplink, self.session_no = uplink, session_no
        self.stop_attempts(stop)
        died, self._died = self._died, []
        for key in died:
            self.spool.forget(key)
        self.spool.deliver_all()

    def link_lost(self) -> None:
        self.uplink = self.session_no = None
        self.spool.no_more_to_deliver()
        self.executor.resume_output()
        if self.spool.files is not None:
            self.spool.files.session_closed()

    def lease_renewed(self, asked_at: float, lease_s: float) -> None:
        """All attempts are held until `lease_s` after `asked_at` (monotonic), when the renewal was asked for."""
        if self._lease is not None and self._lease.active():
            self._lease.cancel()
        end = lease_end(asked_at, lease_s)
        left_s = end.at_s - self.reactor.seconds()
        self._lease = self.reactor.callLater(max(0.0, left_s), self._lease_over, end.grace_s)

    def _lease_over(self, grace_s: float) -> None:
        """Nobody renewed: attempts that must never run twice at a time are ended before the main gives them away."""
        for assignment in self.executor.assignments():
            if assignment.stops_alone:
                self.log.warn("no word from the main: stopping {attempt}", attempt=assignment)
                self.executor.cancel_task(*assignment.key, "the device lost the main node", grace_s)

    # What the executor reports

    def task_starting(self, assignment: Assignment) -> Awaitable[None] | None:
        self.last_activity = self.utc()
        self.journal.started(assignment.key)
        return self.journal.sync() if assignment.at_most_once else None

    def task_not_begun(self, assignment: Assignment) -> None:
        self._record(lambda: self.journal.gone(assignment.key))
        self._record(lambda: self.journal.accepted(assignment.key))
        self._be_patient()

    def task_started(self, assignment: Assignment, pid: int | None) -> None:
        self.reached(failpoints.AFTER_EXEC)
        if pid is not None:
            self._record(lambda: self.journal.process(assignment.key, pid, self.boot_s()))
        self._say("task_started", {"task_id": assignment.task_id, "epoch": assignment.epoch})

    def task_output(self, assignment: Assignment, stream: str, seq: int, data: str) -> None:
        chunk = {"task_id": assignment.task_id, "epoch": assignment.epoch, "stream": stream, "seq": seq, "data": data}
        self._say("task_output", chunk)

    def task_progress(self, assignment: Assignment, percent: float | None, message: str) -> None:
        progress = {"task_id": assignment.task_id, "epoch": assignment.epoch, "percent": percent, "message": message}
        self._say("task_progress", progress)

    def task_finished(self, assignment: Assignment, data: dict[str, Any]) -> None:
        self.last_activity = self.utc()
        self.spool.add(assignment.key, data, assignment.at_most_once)

    # The end

    async def shut_down(self, drain_s: float) -> bool:
        """Let what runs end for `drain_s` seconds; then end the rest, and hand it back once it is gone.

        True if the main has everything now; else results wait here for the next life.
        """
        self._say("drain", {"reason": SHUTTING_DOWN})
        self.drain(SHUTTING_DOWN)
        stopped: list[tuple[Assignment, bool]] = []
        deadline = self.reactor.callLater(drain_s, self._give_up, stopped)
        await self.executor.idle()
        if deadline.active():
            deadline.cancel()
        # The farewell that follows means that nothing is left here: results that are being synced go first.
        await self.spool.synced()
        if self.uplink is not None:
            await self.spool.delivered()
        for timer in (self._lease, self._patience):
            if timer is not None and timer.active():
                timer.cancel()
        self.reached(failpoints.STOPPING)
        for assignment, ran in stopped:
            self._hand_back_stopped(assignment, ran)
        return not self.spool.results

    def _give_up(self, stopped: list[tuple[Assignment, bool]]) -> None:
        """Kill what still runs. It is handed back when it is gone: sooner, it could run twice at a time."""
        for assignment in self.executor.assignments():
            stopped.append((assignment, self.executor.state_of(assignment.key) == RUNNING))
            self.executor.cleanup_task_resources(*assignment.key)

    def _hand_back_stopped(self, assignment: Assignment, ran: bool) -> None:
        # Without a line to the main the journal keeps it, and the next life reports that it died.
        if self.uplink is None:
            return
        self._refuse(assignment, SHUTTING_DOWN)
        # Should that be lost on its way, the main must not take a task that ran for one that never started.
        if not (ran and assignment.at_most_once):
            self._record(lambda: self.journal.gone(assignment.key))

    def _say(self, message_type: str, data: Mapping[str, Any]) -> None:
        if self.uplink is not None:
            self.uplink.say(message_type, data)

    def _see(self, key: Key) -> None:
        self._seen[key] = None
        while len(self._seen) > SEEN_ATTEMPTS:
            self._seen.popitem(last=False)

    def _record(self, write: Callable[[], None]) -> None:
        """Write to the journal; a full disk costs what a crash would lose, and nothing else."""
        try:
            write()
        except OSError as error:
            self.log.error("the journal cannot be written: {why}", why=str(error))


def _claim(key: Key, state: str) -> dict[str, Any]:
    return {"task_id": key[0], "epoch": key[1], "state": state}
