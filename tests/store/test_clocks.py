"""The scheduler under a wall clock that jumps: intervals are of the monotonic clock, order is of neither."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from attrs import define

from retirecluster.domain.devices import Presence, profile_from_register
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Assign, Moment, Scheduler, Settings, Task
from retirecluster.domain.tasks import spec_from_document
from tests.store.disk import Disk

TEN_YEARS_S = 3.2e8
LIMITS = Settings(lease_s=30.0, offline_after_s=30.0)
DEVICE = {"device_info": {"role": "worker"}, "hardware_specs": {"cpu_cores": 4, "memory_total": 2**33}, "slots": 1}


@define
class Bed:
    """A scheduler on a disk, and both clocks."""

    disk: Disk
    scheduler: Scheduler
    mono_s: float = 1000.0
    wall_s: float = 1.7e9

    @property
    def now(self) -> Moment:
        return Moment(self.mono_s, self.wall_s)

    def turn(self, seconds: float = 0.0, jump_s: float = 0.0) -> list[str]:
        """Let time pass, take a turn, write it; the ids of what was assigned."""
        self.mono_s += seconds
        self.wall_s += seconds + jump_s
        self.scheduler.silent_devices(self.now)
        self.scheduler.check_leases(self.now)
        self.scheduler.run_timers(self.now)
        turn = self.scheduler.take_turn(self.now)
        if not turn.empty:
            self.disk.write(turn, self.scheduler.tasks.running_s(self.now))
        return [effect.task.task_id for effect in turn.effects if isinstance(effect, Assign)]

    def submit(self, **fields: object) -> Task:
        return self.scheduler.submit([spec_from_document({"task_type": "echo", **fields})], self.now)[0]

    def register(self) -> None:
        document = DEVICE | {"attempts": []}
        self.scheduler.register(profile_from_register("phone", document), document, {}, self.now)

    def restart(self, jump_s: float) -> None:
        """The main dies; at its next start the clock is elsewhere."""
        self.disk.crash()
        self.mono_s, self.wall_s = 50.0, self.wall_s + jump_s
        self.scheduler = self.disk.restored(LIMITS, Random(2), self.now)


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    disk = Disk(tmp_path)
    made = Bed(disk, disk.restored(LIMITS, Random(1), Moment(1000.0, 1.7e9)))
    made.register()
    made.turn()
    yield made
    disk.close()


jumps = pytest.mark.parametrize("jump_s", [TEN_YEARS_S, -TEN_YEARS_S])


@jumps
def test_leases_and_presence_do_not_care(bed: Bed, jump_s: float) -> None:
    task = bed.submit()
    assert bed.turn() == [task.task_id]
    bed.turn(29.0, jump_s)
    assert (task.state, bed.scheduler.devices["phone"].presence) == (State.ASSIGNED, Presence.ONLINE)
    bed.turn(2.0)
    assert (task.state, task.epoch) == (State.QUEUED, 1)
    assert bed.scheduler.devices["phone"].presence is Presence.OFFLINE


@jumps
def test_pauses_and_deadlines_last_as_long_as_they_were_said_to(bed: Bed, jump_s: float) -> None:
    failing, late = bed.submit(), bed.submit(requirements={"gpu": True}, deadline_s=20.0)
    bed.turn()
    assert failing.attempt is not None
    bed.scheduler.attempts.result(failing, failing.attempt, {"status": "failed", "epoch": 1}, bed.now)
    bed.turn(0.0, jump_s)
    assert failing.state is State.RETRYING
    assert bed.turn(1.01) == [failing.task_id]
    bed.turn(18.0)
    assert late.state is State.QUEUED
    bed.turn(1.0)
    assert late.state is State.EXPIRED


@jumps
def test_after_a_restart_in_another_time_everything_goes_on_soon(bed: Bed, jump_s: float) -> None:
    failing, late = bed.submit(), bed.submit(requirements={"gpu": True}, deadline_s=20.0)
    bed.turn()
    assert failing.attempt is not None
    bed.scheduler.attempts.result(failing, failing.attempt, {"status": "failed", "epoch": 1}, bed.now)
    bed.turn(0.0)
    bed.restart(jump_s)
    bed.register()
    bed.turn(0.0)
    bed.turn(1.01)
    again = bed.scheduler.task(failing.task_id)
    assert again is not None and (again.state, again.epoch) == (State.ASSIGNED, 2), "as soon as at the first time"
    bed.turn(20.0)
    assert bed.scheduler.task(late.task_id) is None, "a deadline is never further away than it was at first"


@jumps
def test_order_is_that_of_submission(bed: Bed, jump_s: float) -> None:
    blocker = bed.submit()
    bed.turn()
    first = bed.submit()
    bed.turn(1.0, jump_s)
    second = bed.submit()
    bed.turn(1.0, -jump_s)
    third = bed.submit()
    order = []
    running = blocker
    for _ in range(3):
        assert running.attempt is not None
        bed.scheduler.attempts.result(running, running.attempt, {"status": "completed", "epoch": 1}, bed.now)
        [task_id] = bed.turn(1.0)
        order.append(task_id)
        running = bed.scheduler.ledger.tasks[task_id]
    assert order == [first.task_id, second.task_id, third.task_id]
