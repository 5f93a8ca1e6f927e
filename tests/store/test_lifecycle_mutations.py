"""Taking out any single rule of the lifecycle makes the model test fail: each mutation here must be found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from retirecluster.domain import fencing
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import attempts, core, fleet, ledger, picture, placement, tail, tasks, verifications
from retirecluster.main import registry
from retirecluster.main.scheduler import TaskScheduler
from retirecluster.main.server import ClusterServer
from retirecluster.store import reads
from tests.store.simulated_worker import SimulatedWorker
from tests.store.simulation import InlineDatabase
from tests.store.test_lifecycle_model import Lifecycle

THOROUGH = settings(
    max_examples=1000,
    stateful_step_count=50,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    verbosity=Verbosity.quiet,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
Patch = Callable[[pytest.MonkeyPatch], None]


def without_epoch_check(patch: pytest.MonkeyPatch) -> None:
    def current(self: Any, device_id: str, task_id: str, epoch: int | None) -> Any:
        task = self.ledger.tasks.get(task_id)
        if task is None or task.attempt is None:
            raise ClusterError("not_found")
        return task, task.attempt

    patch.setattr(attempts.AttemptEvents, "current", current)


def epochs_start_again(patch: pytest.MonkeyPatch) -> None:
    real = attempts.AttemptEvents.grant

    def grant(self: Any, task: Any, device: Any, now: Any) -> None:
        task.epoch = min(task.epoch, 0)
        real(self, task, device, now)

    patch.setattr(attempts.AttemptEvents, "grant", grant)


def register_forgets_the_journal(patch: pytest.MonkeyPatch) -> None:
    def settle(self: Any, device: Any, claims: Any, now: Any) -> Any:
        return core.Registration(device.session_no, [], list(claims))

    patch.setattr(core.Scheduler, "_settle", settle)


def at_most_once_is_run_again(patch: pytest.MonkeyPatch) -> None:
    from retirecluster.domain.tasks import Options

    patch.setattr(Options, "at_most_once", property(lambda self: False))


def written_after_it_is_acknowledged(patch: pytest.MonkeyPatch) -> None:
    real = InlineDatabase._put

    def put(self: Any, writes: Any) -> None:
        self.written()
        late, self.late = self.late, writes
        if late is not None:
            real(self, late)

    patch.setattr(InlineDatabase, "late", None, raising=False)
    patch.setattr(InlineDatabase, "_put", put)


def sessions_are_not_compared_by_the_main(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registry, "is_current", lambda device, session_no: device is not None)


def sessions_are_not_compared_by_the_worker(patch: pytest.MonkeyPatch) -> None:
    real = fencing.reception
    patch.setattr(fencing, "reception", lambda key, of, now, known: real(key, now or of, now or of, known))


def a_worker_forgets_which_attempts_it_knew(patch: pytest.MonkeyPatch) -> None:
    real = fencing.reception
    patch.setattr(fencing, "reception", lambda key, of, now, known: real(key, of, now, ()))


def a_worker_that_hears_nothing_runs_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fencing, "lease_end", lambda asked_at_s, lease_s: fencing.LeaseEnd(asked_at_s + 1e9, 0.0))


def a_worker_counts_its_lease_from_the_answer(patch: pytest.MonkeyPatch) -> None:
    """It may be long under way."""
    real = SimulatedWorker._hears_now

    def hears(self: Any, link: Any, name: str, message: Any) -> None:
        self.asked_at_s = {beat: self.clock_s() for beat in self.asked_at_s}
        real(self, link, name, message)

    patch.setattr(SimulatedWorker, "_hears_now", hears)


def keys_are_not_reserved(patch: pytest.MonkeyPatch) -> None:
    async def take(self: Any, keys: Any) -> None:
        self._taken_keys.update({key: [] for key in keys})

    patch.setattr(TaskScheduler, "_take_keys", take)
    patch.setattr(TaskScheduler, "_give_keys_back", lambda self, _, keys: None)


def keys_are_not_looked_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "by_key_txn", lambda cursor, keys: {})


def bodies_of_a_key_are_not_compared(patch: pytest.MonkeyPatch) -> None:
    from retirecluster.main import scheduler

    patch.setattr(scheduler, "_check_same", lambda spec, digest: None)


def cancels_are_not_delivered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ClusterServer, "_send_stop", lambda self, effect: None)


def cancels_are_not_repeated_after_a_reconnect(patch: pytest.MonkeyPatch) -> None:
    def resume(self: Any, device: Any, task: Any, attempt: Any, claim: str, now: Any) -> None:
        attempt.session_no, attempt.renewed_mono_s = device.session_no, now.mono_s

    patch.setattr(core.Scheduler, "_resume", resume)


def a_task_that_kills_workers_is_never_held(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempts, "CRASHES_TO_HOLD", 10**9)


def held_tasks_stay_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    def hold(self: Any, task: Any, now: Any, reason: str) -> None:
        if task.state in (State.QUEUED, State.RETRYING):
            self.ledger.step("hold", task, State.HELD, now, reason)

    patch.setattr(tasks.TaskEvents, "hold", hold)


def deadlines_pass_unnoticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks.TaskEvents, "deadline", lambda self, task_id, now: None)


def priorities_do_not_count(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks, "PRIORITY_BOOST_S", 0.0)


def the_last_come_is_the_first(patch: pytest.MonkeyPatch) -> None:
    real = placement.RequirementClass.push

    def push(self: Any, task: Any) -> None:
        order_s, task.order_s = task.order_s, -task.order_s
        real(self, task)
        task.order_s = order_s

    patch.setattr(placement.RequirementClass, "push", push)


def cores_are_not_reserved(patch: pytest.MonkeyPatch) -> None:
    real = fleet.Fleet.take

    def take(self: Any, device: Any, task: Any, attempt: Any) -> None:
        before = device.reserved_cores
        real(self, device, task, attempt)
        device.reserved_cores = before

    patch.setattr(fleet.Fleet, "take", take)


def what_is_handed_back_is_not_queued(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(attempts.AttemptEvents, "refused", lambda self, task, attempt, now, reason: None)


def a_device_that_hands_back_is_given_more_at_once(patch: pytest.MonkeyPatch) -> None:
    real = attempts.AttemptEvents.refused

    def refused(self: Any, task: Any, attempt: Any, now: Any, reason: str) -> None:
        device = self.fleet.devices[attempt.device_id]
        mean_s = device.mean_s
        real(self, task, attempt, now, reason)
        device.mean_s = mean_s

    patch.setattr(attempts.AttemptEvents, "refused", refused)


def tasks_move_on_while_they_may_still_run(patch: pytest.MonkeyPatch) -> None:
    """A second run at the same time is not excluded when a connection closes."""
    patch.setattr(core, "KEEP", "stop")


def removed_devices_lose_what_must_not_run_twice(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core, "STOP", "never")


def sessions_of_removed_devices_begin_again(patch: pytest.MonkeyPatch) -> None:
    real = core.Scheduler.remove

    def remove(self: Any, device: Any, now: Any) -> None:
        real(self, device, now)
        self.fleet.removed.clear()

    patch.setattr(core.Scheduler, "remove", remove)


def failed_tasks_are_tried_again_though_once_was_asked_for(patch: pytest.MonkeyPatch) -> None:
    real = attempts.AttemptEvents.result

    def result(self: Any, task: Any, attempt: Any, document: Any, now: Any) -> None:
        options, task.options = task.options, evolve(task.options, delivery="at_least_once")
        real(self, task, attempt, document, now)
        task.options = options

    patch.setattr(attempts.AttemptEvents, "result", result)


def the_same_result_again_is_a_conflict(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "result_text", lambda document: "something else")


def deaths_are_not_charged(patch: pytest.MonkeyPatch) -> None:
    real = attempts.AttemptEvents.died

    def died(self: Any, task: Any, now: Any, reason: str) -> None:
        real(self, task, now, reason)
        task.charged -= 1

    patch.setattr(attempts.AttemptEvents, "died", died)


def acknowledged_before_it_is_decided_to_be_kept(patch: pytest.MonkeyPatch) -> None:
    """Replies leave before the commit."""
    from retirecluster.main.turns import Turns, _tell

    real = Turns._write

    def write(self: Any, turn: Any, writes: Any, waiters: Any) -> None:
        _tell(waiters)
        real(self, turn, writes, [])

    patch.setattr(Turns, "_write", write)


def assignments_leave_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    from retirecluster.main.turns import Turns

    real = Turns._write

    def write(self: Any, turn: Any, writes: Any, waiters: Any) -> None:
        self.deliver(turn, writes)
        turn.effects.clear()
        real(self, turn, writes, waiters)

    patch.setattr(Turns, "_write", write)


def device_books_are_not_cleared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet.Fleet, "free", lambda self, device_id, task: None)


def capacity_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(picture.Device, "fits_now", lambda self, cores, memory_bytes, task_type: True)


def leases_never_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core.Scheduler, "_check_lease", lambda self, device, task, now: None)


def retries_are_not_counted(patch: pytest.MonkeyPatch) -> None:
    real = ledger.Ledger.close_attempt

    def close(self: Any, task: Any, outcome: str, now: Any, *, charged: bool, reason: str = "") -> Any:
        attempt = real(self, task, outcome, now, charged=charged, reason=reason)
        task.charged = 0
        return attempt

    patch.setattr(ledger.Ledger, "close_attempt", close)


def backoff_timer_is_lost_at_restart(patch: pytest.MonkeyPatch) -> None:
    real = core.Scheduler.restore_task

    def restore(self: Any, task: Any, attempt: Any, now: Any) -> None:
        before = list(self.timers.heap)
        real(self, task, attempt, now)
        self.timers.heap[:] = [timer for timer in self.timers.heap if timer in before or timer.kind != "backoff"]

    patch.setattr(core.Scheduler, "restore_task", restore)


def cancelled_tasks_stay_queued(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tasks.TaskEvents, "_leave_queue", lambda self, task: None)


def freed_devices_make_no_offer(patch: pytest.MonkeyPatch) -> None:
    def changed(self: Any, device: Any) -> None:
        device.version += 1

    patch.setattr(placement.Queues, "device_changed", changed)


def steps_are_not_written(patch: pytest.MonkeyPatch) -> None:
    real = ledger.Ledger.step

    def step(self: Any, event: str, task: Any, target: State, now: Any, reason: str = "") -> None:
        real(self, event, task, target, now, reason)
        if event == "started":
            self.turn.tasks.pop(task.seq, None)

    patch.setattr(ledger.Ledger, "step", step)


def events_are_numbered_from_memory_alone(patch: pytest.MonkeyPatch) -> None:
    real = InlineDatabase.restore

    def restore(self: Any, scheduler: Any, now: Any) -> None:
        real(self, scheduler, now)
        scheduler.ledger.last_event_no += 1

    patch.setattr(InlineDatabase, "restore", restore)


def copies_may_run_where_the_first_one_did(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verifications.Verification, "used", frozenset())


def a_restart_forgets_what_is_being_verified(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(verifications.Verifications, "restored", lambda self, task, copies: None)


def any_two_results_agree(patch: pytest.MonkeyPatch) -> None:
    def decide(self: Any, verification: Any, last: Any, now: Any) -> None:
        done = verification.done
        if len(done) == 2:
            self._finish(verification, "agreed", "", now, done[0].seq)
        else:
            real(self, verification, last, now)

    real = verifications.Verifications._decide
    patch.setattr(verifications.Verifications, "_decide", decide)


def waits_for_a_faster_device_have_no_timer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tail.Tail, "take_begun", lambda self: [])


def waits_for_a_faster_device_outlive_it(patch: pytest.MonkeyPatch) -> None:
    real = placement.Queues.device_changed

    def changed(self: Any, device: Any) -> None:
        waits, self.tail.waits = self.tail.waits, {}
        real(self, device)
        self.tail.waits = waits

    patch.setattr(placement.Queues, "device_changed", changed)


MUTATIONS: list[Patch] = [
    without_epoch_check,
    epochs_start_again,
    register_forgets_the_journal,
    at_most_once_is_run_again,
    written_after_it_is_acknowledged,
    sessions_are_not_compared_by_the_main,
    sessions_are_not_compared_by_the_worker,
    a_worker_forgets_which_attempts_it_knew,
    a_worker_that_hears_nothing_runs_on,
    a_worker_counts_its_lease_from_the_answer,
    keys_are_not_reserved,
    keys_are_not_looked_up,
    bodies_of_a_key_are_not_compared,
    cancels_are_not_delivered,
    cancels_are_not_repeated_after_a_reconnect,
    a_task_that_kills_workers_is_never_held,
    held_tasks_stay_in_the_queue,
    deadlines_pass_unnoticed,
    priorities_do_not_count,
    the_last_come_is_the_first,
    cores_are_not_reserved,
    what_is_handed_back_is_not_queued,
    a_device_that_hands_back_is_given_more_at_once,
    tasks_move_on_while_they_may_still_run,
    removed_devices_lose_what_must_not_run_twice,
    sessions_of_removed_devices_begin_again,
    failed_tasks_are_tried_again_though_once_was_asked_for,
    the_same_result_again_is_a_conflict,
    deaths_are_not_charged,
    acknowledged_before_it_is_decided_to_be_kept,
    assignments_leave_before_the_commit,
    device_books_are_not_cleared,
    capacity_is_not_checked,
    leases_never_end,
    retries_are_not_counted,
    backoff_timer_is_lost_at_restart,
    cancelled_tasks_stay_queued,
    freed_devices_make_no_offer,
    steps_are_not_written,
    events_are_numbered_from_memory_alone,
    copies_may_run_where_the_first_one_did,
    a_restart_forgets_what_is_being_verified,
    any_two_results_agree,
    waits_for_a_faster_device_have_no_timer,
    waits_for_a_faster_device_outlive_it,
]
LONG = (
    without_epoch_check,
    a_worker_forgets_which_attempts_it_knew,
    bodies_of_a_key_are_not_compared,
    deadlines_pass_unnoticed,
    tasks_move_on_while_they_may_still_run,
    failed_tasks_are_tried_again_though_once_was_asked_for,
    the_same_result_again_is_a_conflict,
    assignments_leave_before_the_commit,
    a_worker_counts_its_lease_from_the_answer,
    any_two_results_agree,
    copies_may_run_where_the_first_one_did,
    at_most_once_is_run_again,
    cores_are_not_reserved,
)
"""Found after more than a few seconds."""


@pytest.mark.parametrize(
    "mutation",
    [pytest.param(each, marks=pytest.mark.slow if each in LONG else ()) for each in MUTATIONS],
    ids=lambda mutation: mutation.__name__,
)
def test_the_model_notices(mutation: Patch, monkeypatch: pytest.MonkeyPatch, logged_failures: Any) -> None:
    mutation(monkeypatch)
    try:
        run_state_machine_as_test(Lifecycle, settings=THOROUGH)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    else:
        found = ""
    logged_failures.flush()  # some mutations make the main fail, which it logs
    assert found, "nothing noticed that this rule is gone"
