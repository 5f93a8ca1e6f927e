"""Taking out any single rule of the lifecycle makes the model test fail: each mutation here must be found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import run_state_machine_as_test

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import attempts, core, fleet, ledger, picture, placement, tasks
from tests.store import disk
from tests.store.test_lifecycle_model import Lifecycle

THOROUGH = settings(
    max_examples=1000,
    stateful_step_count=50,
    deadline=None,
    database=None,
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
    real = disk.Disk.write

    def write(self: Any, turn: Any, running_s: float) -> None:
        late, self.late = getattr(self, "late", None), (turn, running_s)
        if late is not None:
            real(self, *late)

    patch.setattr(disk.Disk, "write", write)


def device_books_are_not_cleared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fleet.Fleet, "free", lambda self, device_id, task: None)


def capacity_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(picture.Device, "fits_now", lambda self, cores, memory_bytes, task_type: True)


def leases_never_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(core.Scheduler, "_check_lease", lambda self, device, task, now: None)
    patch.setattr(core.Scheduler, "_settle", lambda self, d, c, n: core.Registration(d.session_no, [], list(c)))


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
        self.timers.heap[:] = before

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
    real = disk.Disk.restored

    def restored(self: Any, *arguments: Any) -> Any:
        scheduler = real(self, *arguments)
        scheduler.ledger.last_event_no += 1
        return scheduler

    patch.setattr(disk.Disk, "restored", restored)


MUTATIONS: list[Patch] = [
    without_epoch_check,
    epochs_start_again,
    register_forgets_the_journal,
    at_most_once_is_run_again,
    written_after_it_is_acknowledged,
    device_books_are_not_cleared,
    capacity_is_not_checked,
    leases_never_end,
    retries_are_not_counted,
    backoff_timer_is_lost_at_restart,
    cancelled_tasks_stay_queued,
    freed_devices_make_no_offer,
    steps_are_not_written,
    events_are_numbered_from_memory_alone,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_the_model_notices(mutation: Patch, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    mutation(monkeypatch)
    with pytest.raises(BaseException) as caught:
        run_state_machine_as_test(Lifecycle, settings=THOROUGH)
    assert not isinstance(caught.value, KeyboardInterrupt)
