"""Every use case in one place, for the doors: the web, and clients over TCP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from attrs import define
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.interfaces import IReactorTime

from retirecluster import __version__
from retirecluster.domain.audit import ADMIN, Actor
from retirecluster.domain.audit_chain import BadRow, Chain
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.explain import explain, explain_copy, suspended_words, waiting_words
from retirecluster.domain.lifecycle import FINAL, WAITING, State
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.domain.scheduler.shelves import RequirementClass
from retirecluster.domain.tasks import TaskSpec
from retirecluster.domain.units import format_instant
from retirecluster.main import views
from retirecluster.main.events import EventBus
from retirecluster.main.figures import Figures
from retirecluster.main.health import Health
from retirecluster.main.heartbeat import HeartbeatMonitor
from retirecluster.main.household import Household
from retirecluster.main.outputs import OutputBoard
from retirecluster.main.registry import PING_S, DeviceRegistry
from retirecluster.main.scheduler import Submitted, TaskScheduler
from retirecluster.main.waker import Waker
from retirecluster.store import reads
from retirecluster.store.database import Database
from retirecluster.store.rows import Row
from retirecluster.store.timeline import attempts_txn

if TYPE_CHECKING:
    from retirecluster.main.admission import Admission

DEVICE_FLAGS = {
    "drain": {"draining": True},
    "undrain": {"draining": False},
    "cordon": {"cordoned": True},
    "uncordon": {"cordoned": False},
}


@define(eq=False)
class Cluster:
    """What people can do. Every method raises ClusterError with what is wrong; answers are JSON documents.

    `by` is who does it, for the audit trail.
    """

    database: Database
    scheduler: Scheduler
    desk: TaskScheduler
    registry: DeviceRegistry
    heartbeat: HeartbeatMonitor
    outputs: OutputBoard
    events: EventBus
    clock: IReactorTime
    moment: Callable[[], Moment]
    began: Moment
    settings: dict[str, Any]
    household: Household
    waker: Waker
    figures: Figures
    health_checks: Health
    admission: Admission | None = None

    def who_gets_in(self) -> Admission:
        """Who decides which devices are let in. Raises ClusterError conflict where this main knows none by TLS."""
        if self.admission is None:
            words = "this main listens without TLS, and lets in whoever reaches it; see the setting tls"
            raise ClusterError("conflict", words)
        return self.admission

    # -- the cluster

    def status(self) -> dict[str, Any]:
        """Its state in figures."""
        now = self.moment()
        status = views.cluster_status(self.scheduler, now)
        return {
            "state": self._state(status["devices"]),
            "version": __version__,
            "cluster_id": self.database.cluster_id,
            "incarnation": self.database.incarnation,
            "uptime_s": round(now.mono_s - self.began.mono_s, 3),
            "throughput_per_s": round(self.heartbeat.throughput_per_s(), 3),
            "event_no": self.events.last_no,
            "commits": self.desk.turns.commits,
            "quiet": self.household.quiet(),
            **status,
        }

    def _state(self, devices: Mapping[str, int]) -> str:
        """In words, from the number of devices of each status."""
        if not self.desk.accepting:
            return "stopping"
        if devices.get("online"):
            return "running"
        return "all devices are paused" if devices.get("paused") else "no devices online"

    def in_short(self) -> str:
        """Its state in a line, as `3 of 5 devices online, 4 tasks running, 120 to do`."""
        devices, tasks = self.scheduler.devices.values(), self.scheduler.ledger.counts
        online = sum(device.status == "online" for device in devices)
        running, waiting = tasks[State.RUNNING], sum(tasks[state] for state in WAITING)
        return f"{online} of {len(devices)} devices online, {running} tasks running, {waiting} to do"

    def health(self) -> dict[str, Any]:
        """Whether the main works: `ok` or `failing`, what is wrong, and each check with its figure."""
        return self.health_checks.document()

    # -- tasks

    async def submit(self, specs: Sequence[TaskSpec]) -> list[Submitted]:
        """Take in tasks, all or none; they are on disk when this returns."""
        return await self.desk.submit_tasks(specs)

    async def task(self, task_id: str) -> dict[str, Any]:
        """A task with its attempts, as it stands on disk; why it waits, and its progress, as of now."""
        found = await self.database.kept.task(task_id, views.instants)
        if found is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        document = dict(found)
        del document["seq"]
        self._add_live(document, {})
        record = self.scheduler.queues.records.of(task_id)
        document["placement"] = None if record is None else record.document()
        return document

    def _add_live(self, document: dict[str, Any], reasons: dict[RequirementClass, str]) -> None:
        """Add progress, and why it waits; `reasons` keeps what tasks that ask for the same have in common."""
        live = self.scheduler.task(document["task_id"])
        document["progress"] = None
        if live is None:
            return
        if live.progress is not None:
            document["progress"] = {"percent": live.progress[0], "message": live.progress[1]}
        if live.state is State.QUEUED and document["status"] == State.QUEUED.value:
            if live.queue not in reasons:
                reasons[live.queue] = waiting_words(live, self.scheduler.devices.values(), self.waker.away)
            document["reason"] = reasons[live.queue]
        elif document["status"] == State.RUNNING.value:
            document["reason"] = suspended_words(live, self.scheduler.devices) or document["reason"]

    async def wait(self, task_id: str, timeout_s: float) -> dict[str, Any]:
        """The task once it has ended, or as it stands after `timeout_s`."""
        if self.scheduler.task(task_id) is not None and timeout_s > 0:
            waiting = self.desk.ended(task_id)
            waiting.addTimeout(timeout_s, self.clock)
            with suppress(DeferredTimeout):
                await waiting
        document = await self.task(task_id)
        if self.scheduler.task(task_id) is None and State(document["status"]) not in FINAL:
            with suppress(ClusterError):  # while the database is locked it is shown as it stands on disk
                await self.desk.turns.answered()  # it ended just now, and that is on its way to the disk
            document = await self.task(task_id)
        return document

    async def tasks(self, wanted: reads.TaskFilter) -> tuple[list[dict[str, Any]], int | None]:
        """Tasks, newest first, and the `before_seq` of the next page (None on the last)."""
        found = await self.database.kept.tasks(wanted, views.instants)
        more = found[-1]["seq"] if len(found) == wanted.limit else None
        reasons: dict[RequirementClass, str] = {}
        documents = [dict(each) for each in found]
        for document in documents:
            del document["seq"]
            self._add_live(document, reasons)
        return documents, more

    async def result(self, task_id: str) -> dict[str, Any]:
        """The result of a task that has ended. Raises not_finished before."""
        found = await self.database.read(reads.result_txn, task_id)
        if found is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        state, reason, epoch, document = found
        if State(state) not in FINAL:
            raise ClusterError("not_finished", f"{task_id} is {state}; wait for its end with ?wait= on the task")
        return result_document(task_id, state, reason, epoch, document or {})

    async def results(self, task_ids: Sequence[str], max_bytes: int) -> dict[str, Any]:
        """The results of those that have ended, how the others stand, and what more than `max_bytes` left unread."""
        rows = await self.database.read(reads.results_txn, task_ids, max_bytes)
        found = [row for row in rows if row is not None]
        ended = [row for row in found if State(row[1]) in FINAL]
        live = {row[0]: self.scheduler.task(row[0]) for row in found if State(row[1]) not in FINAL}
        return {
            "results": [result_document(row[0], row[1], row[2], row[3], row[4] or {}) for row in ended],
            "unfinished": [
                {"task_id": row[0], "status": row[1] if (task := live[row[0]]) is None else task.state.value}
                for row in found
                if row[0] in live
            ],
            "unknown": [task_id for task_id, row in zip(task_ids, rows, strict=False) if row is None],
            "left": list(task_ids[len(rows) :]),
        }

    async def output(self, task_id: str, from_seq: int) -> dict[str, Any]:
        """What a task printed: pieces while it runs, the kept end of it afterwards."""
        live = self.outputs.read(task_id, from_seq)
        if live is not None:
            epoch, chunks, next_seq = live
            finished = self.scheduler.task(task_id) is None
            if finished:
                await self.desk.turns.committed()  # else its result could be asked for before it is there
            return {"task_id": task_id, "epoch": epoch, "chunks": chunks, "next_seq": next_seq, "finished": finished}
        found = await self.database.read(reads.result_txn, task_id)
        if found is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        state, _, ended_epoch, document = found
        finished = State(state) in FINAL
        chunks = final_chunks(document or {}) if finished else []
        return {
            "task_id": task_id,
            "epoch": ended_epoch,
            "chunks": chunks[from_seq if from_seq <= len(chunks) else 0 :],
            "next_seq": len(chunks),
            "finished": finished,
        }

    def why(self, task_id: str) -> dict[str, Any]:
        """Why a task that is not final waits: per device, and what would help. Raises not_found."""
        task = self.scheduler.task(task_id)
        if task is None:
            raise ClusterError("not_found", f"{task_id} is not waiting or running")
        told = explain(task, self.scheduler.devices.values(), self.waker.away, self.waker.when_woken)
        copy = self.scheduler.verifications.live_copy(task)
        return told if copy is None else explain_copy(task, self.why(copy.task_id))

    async def explain(self, task_id: str) -> dict[str, Any]:
        """`why`, also for tasks that have ended."""
        if self.scheduler.task(task_id) is not None:
            return self.why(task_id)
        document = await self.task(task_id)
        names = ("task_id", "status", "reason")
        return {name: document[name] for name in names} | {"devices": [], "hint": "", "nearest": [], "copy": None}

    async def cancel(self, task_id: str, reason: str, by: Actor = ADMIN) -> str:
        """Cancel a task; its state now."""
        return await self.desk.cancel_task(task_id, reason, by)

    async def retry(self, task_id: str, by: Actor = ADMIN) -> Submitted:
        """Submit a task that has ended once more, as a new task."""
        return await self.desk.retry(task_id, by)

    async def hold(self, task_id: str, reason: str, by: Actor = ADMIN) -> str:
        """Hold a waiting task back; its state now."""
        return await self.desk.hold_task(task_id, reason, by)

    async def release(self, task_id: str, by: Actor = ADMIN) -> str:
        """Let a held task go on; its state now."""
        return await self.desk.release_task(task_id, by)

    async def refused_results(self, task_id: str, limit: int) -> list[dict[str, Any]]:
        """Results of a task that did not count (late, of another device, in conflict), newest first."""
        found = await self.database.read(reads.refused_results_txn, task_id, limit)
        if found is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        return [views.instants(each) for each in found]

    async def ids_with_prefix(self, prefix: str) -> list[str]:
        """Ids of tasks that begin so, at most ten."""
        return await self.database.read(reads.ids_with_prefix_txn, prefix, 10)

    async def task_statistics(self) -> dict[str, Any]:
        """Counts and mean run times by task type."""
        return {"types": await self.database.read(reads.type_statistics_txn), "retries": self.scheduler.ledger.retries}

    def task_types(self) -> list[dict[str, Any]]:
        """Every task type that is built in or offered, with its payload's JSON Schema and who offers it."""
        return self.desk.types.documents()

    # -- devices

    def devices(self) -> list[dict[str, Any]]:
        """Every device, by id."""
        now = self.moment()
        known = sorted(self.scheduler.devices.items())
        return [views.device_document(device, now) for _, device in known]

    def device(self, device_id: str) -> dict[str, Any]:
        """One device with everything known of it."""
        device, now = self.registry.get(device_id), self.moment()
        found = views.device_details(device, now)
        if device.quarantine:
            found["quarantine"]["probe_in_s"] = round(self.scheduler.standing.probe_in_s(device, now), 1)
        wake = self.waker.document(self.registry.get(device_id))
        return found | {"rest": self.household.rest_of(device_id), "wake": wake}

    def history(self) -> dict[str, Any]:
        """Throughput, queue and waiting time of the last hour, in steps of ten seconds."""
        return self.heartbeat.pulse.document(self.moment())

    async def attempts(self, window_s: float, device_id: str, limit: int) -> dict[str, Any]:
        """Who ran what in the last `window_s` seconds; `complete` says whether the limit left something out."""
        if device_id:
            self.registry.get(device_id)
        since_at = self.moment().wall_s - window_s
        found = await self.database.read(attempts_txn, since_at, device_id, limit)
        shown = [views.instants(each) for each in found]
        return {"since_at": format_instant(since_at), "attempts": shown, "complete": len(found) < limit}

    def device_history(self, device_id: str, window_s: float) -> dict[str, Any]:
        """What a device reported in the last `window_s` seconds, in steps of a minute, an hour or a day."""
        self.registry.get(device_id)
        return views.history_document(device_id, window_s, self.heartbeat.history, self.moment())

    async def device_action(
        self, device_id: str, action: str, deadline_s: float | None = None, by: Actor = ADMIN
    ) -> dict[str, Any]:
        """drain, undrain, cordon or uncordon a device.

        With `deadline_s`, what a drained device still runs by then is stopped and runs elsewhere, not charged.
        """
        self.registry.update_device_status(device_id, **DEVICE_FLAGS[action])
        if action == "drain" and deadline_s is not None:
            self.scheduler.end_drain_in(self.registry.get(device_id), self.moment(), deadline_s)
        if action in ("drain", "undrain"):
            self.registry.broadcast_message(action, {"reason": "by a person"}, [device_id])
        self.audit(by, f"device.{action}", device_id, **({} if deadline_s is None else {"deadline_s": deadline_s}))
        await self.desk.turns.answered()
        return self.device(device_id)

    async def release_device(self, device_id: str, by: Actor = ADMIN) -> dict[str, Any]:
        """Believe a device again that is suspect or in quarantine. Raises ClusterError not_found, conflict."""
        device, now = self.registry.get(device_id), self.moment()
        if not device.distrusted:
            raise ClusterError("conflict", f"{device_id} is {device.status}: neither suspect nor in quarantine")
        held = {"was": "quarantined" if device.quarantine else "suspect", "reason": device.quarantine or device.reason}
        self.scheduler.probes.forgive(device, now)
        self.audit(by, "device.release", device_id, **held)
        await self.desk.turns.answered()
        return self.device(device_id)

    async def set_role(self, device_id: str, role: str, by: Actor = ADMIN) -> dict[str, Any]:
        """Give a device a role; it keeps it over restarts."""
        self.scheduler.fleet.set_role(self.registry.get(device_id), role, self.moment())
        self.audit(by, "device.role", device_id, role=role)
        await self.desk.turns.answered()
        return self.device(device_id)

    async def ping(self, device_id: str) -> dict[str, Any]:
        """Ask a device for a sign of life; the round trip in milliseconds."""
        device = self.registry.get(device_id)
        peer = self.registry.sessions.get(device_id)
        if peer is None:
            raise ClusterError("conflict", f"{device_id} is {device.status}: there is no connection to ping")
        began_s = self.clock.seconds()
        if not await peer.ping(PING_S):
            raise ClusterError("timeout", f"{device_id} did not answer within {PING_S:g} s")
        return {"device_id": device_id, "round_trip_ms": round((self.clock.seconds() - began_s) * 1000, 3)}

    async def wake(self, device_id: str, by: Actor = ADMIN) -> dict[str, Any]:
        """Wake a device that sleeps. Raises ClusterError conflict where that cannot be, rate_limited, not_found."""
        self.waker.wake(self.registry.get(device_id), by)
        await self.desk.turns.answered()
        return self.device(device_id)

    async def remove_device(self, device_id: str, by: Actor = ADMIN) -> None:
        """Take a device that is not online out of the registry."""
        self.scheduler.remove(self.registry.get(device_id), self.moment())
        self.audit(by, "device.remove", device_id)
        self.heartbeat.history.forget(device_id)
        await self.desk.turns.answered()

    # -- events

    async def events_after(self, event_no: int, subject: str, limit: int) -> list[Row]:
        """Rows of the event log after an event, oldest first."""
        return await self.database.read(reads.events_txn, event_no, subject, limit)

    def audit(self, by: Actor, action: str, subject: str, **detail: Any) -> None:
        """Write down what a person does, together with what it changes."""
        self.scheduler.ledger.audit(self.moment(), by, action, subject, **detail)

    async def audit_trail(
        self, before_no: int | None, actor: str, action: str, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Who changed what and what was refused, newest first, and the `before_no` of the next page."""
        found = await self.database.read(reads.audit_txn, before_no, actor, action, limit)
        more = found[-1]["audit_no"] if len(found) == limit else None
        return [views.instants(each) for each in found], more

    async def audit_state(self) -> tuple[Chain, BadRow | None]:
        """The ends of the audit trail's chain, and the first row that is not as it was written."""
        await self.desk.turns.committed()
        return await self.database.read(reads.audit_state_txn)

    async def first_event_no(self) -> int:
        """The oldest event that is still kept."""
        return await self.database.read(reads.first_event_no_txn)


def result_document(
    task_id: str, state: str, reason: str, epoch: int | None, document: dict[str, Any]
) -> dict[str, Any]:
    """A result as the doors show it; fields that nobody knows are null."""
    result: dict[str, Any] = document.get("result") or {}
    error = document.get("error")
    if isinstance(error, str):
        error = {"message": error}
    if error is None and state != State.COMPLETED.value:
        error = {"message": reason}
    return {
        "task_id": task_id,
        "status": state,
        "epoch": epoch,
        "output": result.get("output"),
        "stderr": result.get("stderr"),
        "truncated": result.get("truncated") or False,
        "exit_code": result.get("exit_code"),
        "execution_time": document.get("execution_time"),
        "metrics": result.get("metrics"),
        "error": error,
        "skipped_files": result.get("skipped_files") or [],
    }


def final_chunks(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The kept output of a task that has ended, in the form of live pieces."""
    result: dict[str, Any] = document.get("result") or {}
    pieces = [("stdout", result.get("output")), ("stderr", result.get("stderr"))]
    return [
        {"seq": seq, "stream": stream, "data": text}
        for seq, (stream, text) in enumerate(
            (stream, text) for stream, text in pieces if isinstance(text, str) and text
        )
    ]
