"""Suspect devices: three deaths in a row on different tasks, a probe, and what clears them."""

from __future__ import annotations

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Assign, Task
from tests.domain.test_placement import Bed

DOCUMENT = {"device_info": {}, "hardware_specs": {"cpu_cores": 4}, "slots": 2, "attempts": []}


def die(bed: Bed, *tasks: Task) -> None:
    """The worker dies while it runs these, and comes back."""
    claims = {(task.task_id, task.epoch): "died" for task in tasks}
    device = bed.scheduler.devices["a"]
    bed.scheduler.disconnected(device, bed.now, "killed", closed=True)
    bed.scheduler.register(profile_from_register("a", DOCUMENT), DOCUMENT, claims, bed.now)


def run(bed: Bed, count: int = 1) -> list[Task]:
    tasks = bed.submit(count, max_retries=10)
    granted = [effect.task for effect in bed.scheduler.take_turn(bed.now).effects if isinstance(effect, Assign)]
    for task in granted:
        assert task.attempt is not None
        bed.scheduler.attempts.started(task, task.attempt, bed.now)
    assert granted == tasks
    return tasks


def suspect_bed() -> Bed:
    bed = Bed()
    bed.device("a", slots=2)
    for _ in range(3):
        die(bed, *run(bed))
    return bed


def probe_of(bed: Bed) -> Task:
    task = bed.scheduler.task(bed.scheduler.devices["a"].probe_task_id or "")
    assert task is not None and task.name == "probe"
    return task


def test_one_death_with_many_tasks_is_one_death() -> None:
    bed = Bed()
    bed.device("a", slots=2)
    die(bed, *run(bed, 2))
    assert len(bed.scheduler.devices["a"].deaths) == 1


def test_a_success_in_between_starts_the_count_again() -> None:
    bed = Bed()
    bed.device("a", slots=2)
    for _ in range(2):
        die(bed, *run(bed))
    [fine] = run(bed)
    bed.end(fine)
    bed.scheduler.take_turn(bed.now)
    assert bed.scheduler.devices["a"].deaths == []


def test_a_suspect_device_gets_a_probe_and_nothing_else() -> None:
    bed = suspect_bed()
    device = bed.scheduler.devices["a"]
    assert device.status == "suspect" and "3 tasks in a row" in device.reason
    bed.submit(5)
    granted = bed.grants()
    assert granted == [(probe_of(bed).task_id, "a")]
    bed.end(probe_of(bed))
    assert len(bed.grants()) == 2 and device.status == "online"


def test_a_failed_probe_is_repeated_later() -> None:
    bed = suspect_bed()
    bed.grants()
    first = probe_of(bed)
    assert first.attempt is not None
    bed.scheduler.attempts.result(first, first.attempt, {"status": "failed", "epoch": 1}, bed.now)
    assert bed.grants() == []
    bed.mono_s += 6
    bed.scheduler.run_timers(bed.now)
    assert bed.grants() == [(probe_of(bed).task_id, "a")] and probe_of(bed) is not first


def test_a_probe_that_was_lost_is_granted_again() -> None:
    bed = suspect_bed()
    bed.grants()
    probe = probe_of(bed)
    device = bed.scheduler.devices["a"]
    bed.scheduler.disconnected(device, bed.now, "gone", closed=True)
    bed.mono_s += 2
    bed.scheduler.run_timers(bed.now)
    assert probe.state is State.QUEUED
    bed.scheduler.register(profile_from_register("a", DOCUMENT), DOCUMENT, {}, bed.now)
    assert bed.grants() == [(probe.task_id, "a")] and probe.epoch == 2


def test_a_person_can_clear_it() -> None:
    bed = suspect_bed()
    bed.submit()
    bed.grants()
    bed.scheduler.probes.forgive(bed.scheduler.devices["a"], bed.now)
    assert bed.scheduler.devices["a"].status == "online" and len(bed.grants()) == 1
