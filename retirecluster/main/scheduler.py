"""The domain's scheduler with a disk under it: what people and devices want of tasks, durably."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred

from retirecluster.domain.audit import ADMIN, Actor, actor_of, short
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL, State
from retirecluster.domain.scheduler import Attempt, Moment, Scheduler, Task, Turn
from retirecluster.domain.scheduler.turn import Refused
from retirecluster.domain.tasks import TaskSpec, spec_from_document
from retirecluster.main.figures import Figures
from retirecluster.main.space import Space
from retirecluster.main.task_files import TaskFiles
from retirecluster.main.task_types import OfferedTypes
from retirecluster.main.turns import Turns
from retirecluster.store import reads
from retirecluster.store.database import Database
from retirecluster.wire.messages import Message


@frozen
class Submitted:
    """The answer to a submit. `created` is False where the idempotency key was known already."""

    task_id: str
    status: str
    created: bool = True


@frozen
class ResultVerdict:
    """The answer to a result: whether it counts, and for people why not."""

    task_id: str
    epoch: int | None
    accepted: bool
    reason: str = ""


@define(eq=False)
class TaskScheduler:
    """Submits, results, cancels: each is decided at once and answered when it is on disk."""

    scheduler: Scheduler
    database: Database
    turns: Turns
    moment: Callable[[], Moment]
    space: Space
    files: TaskFiles
    figures: Figures
    accepting: bool = True
    _taken_keys: dict[str, list[Deferred[None]]] = field(factory=dict)
    """Idempotency keys of submits under way, with those who wait for each to be over."""
    _ends: dict[str, list[Deferred[None]]] = field(factory=dict)

    # -- people

    async def submit_tasks(self, specs: Sequence[TaskSpec], by: Actor = ADMIN) -> list[Submitted]:
        """Take in tasks, all or none; returns when they are on disk. `by` is who tries tasks again (`retry_of`).

        Raises ClusterError: shutting_down, queue_full, unknown_type, idempotency_conflict, no_space, store_busy, and
        bad_field for inputs that are not here.
        """
        self._check_open(specs)
        keys = sorted({spec.idempotency_key for spec in specs if spec.idempotency_key})
        if not keys:
            await self.files.require_inputs(specs)
            return await self._submit(specs, {}, by)
        await self._take_keys(keys)
        try:
            known = await self.database.read(reads.by_key_txn, keys)
            await self.files.require_inputs([spec for spec in specs if spec.idempotency_key not in known])
            return await self._submit(specs, known, by)
        finally:
            # Once what was decided is on disk, however long that takes, the keys are found there.
            self.turns.committed().addBoth(self._give_keys_back, keys)

    async def _submit(
        self, specs: Sequence[TaskSpec], known: Mapping[str, tuple[str, str | None]], by: Actor
    ) -> list[Submitted]:
        """Submit what is not `known`: idempotency keys that tasks have, with their id and request digest."""
        fresh: dict[str, TaskSpec] = {}  # by key; a key that stands twice in a request is one task
        anonymous = [spec for spec in specs if not spec.idempotency_key]
        for spec in specs:
            if spec.idempotency_key:
                before = known.get(spec.idempotency_key)
                first = fresh.setdefault(spec.idempotency_key, spec) if before is None else None
                digest = before[1] if before is not None else first.request_digest if first else None
                _check_same(spec, digest)
        self._check_open(specs)
        tasks = self.scheduler.submit([*anonymous, *fresh.values()], self.moment())
        made = dict(zip(fresh, tasks[len(anonymous) :], strict=True))
        for spec, task in zip([*anonymous, *fresh.values()], tasks, strict=True):
            if spec.retry_of:
                self._audit(by, "task.retry", spec.retry_of, task_id=task.task_id)
        try:
            await self.turns.answered()
        except ClusterError:
            self._take_back(tasks[: len(anonymous)])
            raise
        rest = iter(tasks[: len(anonymous)])
        return [_submitted(spec, rest, made, known) for spec in specs]

    async def _take_keys(self, keys: list[str]) -> None:
        """Have these keys to oneself: of two submits with one key, the second sees what the first has done."""
        while taken := [key for key in keys if key in self._taken_keys]:
            waiting: Deferred[None] = Deferred()
            self._taken_keys[taken[0]].append(waiting)
            await waiting
        self._taken_keys.update({key: [] for key in keys})

    def _give_keys_back(self, _: object, keys: list[str]) -> None:
        for waiting in [each for key in keys for each in self._taken_keys.pop(key)]:
            waiting.callback(None)

    def _take_back(self, tasks: list[Task]) -> None:
        """Nobody was told of these tasks: whoever submitted them does it again, and they must not run twice.

        Tasks with an idempotency key stay: the same key again is answered with the same task.
        """
        for task in tasks:
            if self.scheduler.task(task.task_id) is task:
                self.scheduler.tasks.cancel(task, self.moment(), "its submission was not acknowledged")

    async def retry(self, task_id: str, by: Actor) -> Submitted:
        """Submit a task that has ended once more, as a new task. Raises ClusterError: not_found, conflict."""
        found = await self.database.read(reads.resubmission_txn, task_id)
        if found is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        state, document = found
        if State(state) not in FINAL:
            raise ClusterError("conflict", f"{task_id} is {state}: only a task that has ended can be tried again")
        spec = evolve(spec_from_document(document, submitter=by.name), retry_of=task_id)
        return (await self.submit_tasks([spec], by))[0]

    async def cancel_task(self, task_id: str, reason: str, by: Actor) -> str:
        """Cancel a task; returns its state now. A task that has ended is left as it is: conflict."""
        task = await self._live_task(task_id, "cancelled")
        self.scheduler.tasks.cancel(task, self.moment(), reason)
        self._audit(by, "task.cancel", task_id, status=task.state.value, reason=reason)
        await self.turns.answered()
        return task.state.value

    async def hold_task(self, task_id: str, reason: str, by: Actor) -> str:
        """Hold a waiting task back; returns its state now."""
        task = await self._live_task(task_id, "held")
        self.scheduler.tasks.hold(task, self.moment(), reason)
        self._audit(by, "task.hold", task_id, status=task.state.value, reason=reason)
        await self.turns.answered()
        return task.state.value

    async def release_task(self, task_id: str, by: Actor) -> str:
        """Let a held task go on; returns its state now."""
        task = await self._live_task(task_id, "released")
        self.scheduler.tasks.release(task, self.moment())
        self._audit(by, "task.release", task_id, status=task.state.value)
        await self.turns.answered()
        return task.state.value

    def ended(self, task_id: str) -> Deferred[None]:
        """Fires when the task, which must not be final yet, has ended and that is on disk. May be cancelled."""
        waiting: Deferred[None] = Deferred(lambda cancelled: self._no_longer_waits(task_id, cancelled))
        self._ends.setdefault(task_id, []).append(waiting)
        return waiting

    def _no_longer_waits(self, task_id: str, waiting: Deferred[None]) -> None:
        others = [each for each in self._ends.pop(task_id, []) if each is not waiting]
        if others:
            self._ends[task_id] = others

    # -- devices

    def current(self, device_id: str, message: Message) -> tuple[Task, Attempt]:
        """The attempt that a device's message is about. Raises ClusterError."""
        return self.scheduler.attempts.current(device_id, message.data["task_id"], message.data.get("epoch"))

    async def handle_task_completion(self, device_id: str, message: Message) -> ResultVerdict:
        """Take in a result; returns when it is on disk, or when it is clear that it does not count."""
        message = await self.files.check_result(message)
        data = message.data
        try:
            task, attempt = self.current(device_id, message)
        except ClusterError as error:
            return await self._late_result(device_id, message, error)
        epoch = attempt.epoch
        self.scheduler.attempts.result(task, attempt, _result_document(data, epoch), self.moment())
        await self.turns.committed()
        return ResultVerdict(task.task_id, epoch, True)

    async def _late_result(self, device_id: str, message: Message, error: ClusterError) -> ResultVerdict:
        """The attempt is not current: the same result again is fine, anything else is refused."""
        task_id, epoch = message.data["task_id"], message.data.get("epoch")
        await self.turns.committed()  # what was just decided about it is visible to the read
        found = await self.database.read(reads.ended_attempt_txn, task_id, epoch)
        if found is None:
            return await self._refuse(device_id, message, "not_found", f"there is no task {task_id}")
        holder, _, known_epoch, result_epoch, text = found
        if holder == device_id and result_epoch == known_epoch and text is not None:
            if text == reads.result_text(_result_document(message.data, known_epoch)):
                return ResultVerdict(task_id, known_epoch, True)
            reason = "another result of this attempt is on record"
            return await self._refuse(device_id, message, "result_conflict", reason)
        code = "stale_attempt" if error.code == "not_found" else error.code
        return await self._refuse(device_id, message, code, error.message)

    async def _refuse(self, device_id: str, message: Message, kind: str, reason: str) -> ResultVerdict:
        """A result that does not count is kept aside before the device, which then forgets it, is told."""
        data = message.data
        task_id, epoch = data["task_id"], data.get("epoch")
        document = _result_document(data, epoch)
        refused = Refused(self.moment().wall_s, task_id, epoch, device_id, kind, reason, document)
        ledger, actor = self.scheduler.ledger, actor_of(device_id, "")
        ledger.turn.refused.append(refused)
        self.figures.refused_results[kind] += 1
        detail = {"kind": kind, "epoch": epoch, "status": data["status"], "reason": short(reason)}
        ledger.audit_refusal(self.moment(), actor, "result.refused", task_id, **detail)
        await self.turns.committed()
        return ResultVerdict(task_id, epoch, False, reason)

    def _audit(self, by: Actor, action: str, subject: str, **detail: Any) -> None:
        self.scheduler.ledger.audit(self.moment(), by, action, subject, **detail)

    # -- after each turn

    def turn_done(self, turn: Turn) -> None:
        """Tell those who wait for the end of tasks."""
        for task in turn.ended:
            for waiting in self._ends.pop(task.task_id, []):
                waiting.callback(None)

    # -- inside

    def _check_open(self, specs: Sequence[TaskSpec]) -> None:
        if not self.accepting:
            raise ClusterError("shutting_down")
        self.space.check()
        self.turns.check_free()
        self.types.check(specs)

    @property
    def types(self) -> OfferedTypes:
        """The task types that there are now."""
        return OfferedTypes(self.scheduler.devices)

    async def _live_task(self, task_id: str, wish: str) -> Task:
        task = self.scheduler.task(task_id)
        if task is not None:
            return task
        document = await self.database.read(reads.task_txn, task_id)
        if document is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        raise ClusterError("conflict", f"{task_id} is {document['status']} already and cannot be {wish}")


def _check_same(spec: TaskSpec, digest: str | None) -> None:
    if digest != spec.request_digest:
        raise ClusterError(
            "idempotency_conflict",
            f"idempotency_key {spec.idempotency_key!a} came before with another task: use a new key",
            field="idempotency_key",
        )


def _submitted(
    spec: TaskSpec, rest: Any, made: dict[str, Task], known: Mapping[str, tuple[str, str | None]]
) -> Submitted:
    key = spec.idempotency_key
    state = State.BLOCKED.value if spec.options.verify > 1 else State.QUEUED.value
    if not key:
        return Submitted(next(rest).task_id, state)
    if key in made:
        return Submitted(made[key].task_id, state)
    return Submitted(known[key][0], state, created=False)


def _result_document(data: Any, epoch: int | None) -> dict[str, Any]:
    """A result as it is kept: with its epoch, and only what the protocol knows."""
    kept = ("status", "execution_time", "result", "error", "artifacts")
    return {"epoch": epoch} | {name: data[name] for name in kept if data.get(name) is not None}
