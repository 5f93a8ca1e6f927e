"""What counts against a task or a device, and what makes it count no more."""

from __future__ import annotations

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.lifecycle import State
from retirecluster.domain.retry import REFUSAL_CAP_S, refusal_pause_s
from retirecluster.domain.scheduler import Assign
from retirecluster.domain.scheduler.attempts import MOVES_TO_HOLD
from retirecluster.domain.scheduler.picture import Device, Task
from tests.domain.test_placement import Bed

REGISTER = {"device_info": {}, "hardware_specs": {"cpu_cores": 4}, "slots": 1, "attempts": []}


def run(bed: Bed, task: Task) -> Device:
    """The task is granted and has begun."""
    bed.scheduler.run_timers(bed.now)
    bed.scheduler.take_turn(bed.now)
    assert task.attempt is not None, task.state
    bed.scheduler.attempts.started(task, task.attempt, bed.now)
    return bed.scheduler.devices[task.attempt.device_id]


def lose(bed: Bed, device: Device) -> None:
    """Its worker is killed, nobody knows what became of the task, and it comes back without it."""
    bed.scheduler.disconnected(device, bed.now, "killed", closed=True)
    bed.mono_s += 5
    bed.scheduler.run_timers(bed.now)
    device.taken.clear()
    register(bed, device, {})


def register(bed: Bed, device: Device, claims: dict[tuple[str, int], str]) -> None:
    bed.scheduler.register(profile_from_register(device.device_id, REGISTER), REGISTER, claims, bed.now)
    device.ledger = type(device.ledger)()  # what it is trusted with is another matter
    device.quarantine = ""


def test_a_device_that_refuses_does_not_swallow_the_task() -> None:
    bed = Bed()
    bed.device("bad", slots=4, speed=2.0)
    bed.device("good", slots=4, speed=1.0)
    [task] = bed.submit()
    granted = []
    for _ in range(50):
        for effect in bed.scheduler.take_turn(bed.now).effects:
            if isinstance(effect, Assign):
                granted.append(effect.device_id)
                if effect.device_id == "bad":
                    assert task.attempt is not None
                    bed.scheduler.attempts.refused(task, task.attempt, bed.now, "its journal cannot be written")
    assert granted == ["bad", "good"]


def test_pauses_after_refusals_grow_and_end() -> None:
    bed = Bed()
    bed.device("bad", slots=1)
    device = bed.scheduler.devices["bad"]
    [task] = bed.submit()
    for count in range(1, 12):
        bed.scheduler.take_turn(bed.now)
        assert task.attempt is not None
        bed.scheduler.attempts.refused(task, task.attempt, bed.now, "no space")
        assert not device.accepts
        bed.mono_s += refusal_pause_s(count) - 0.001
        bed.scheduler.run_timers(bed.now)
        assert not device.accepts
        bed.mono_s += 0.002
        bed.scheduler.run_timers(bed.now)
        assert device.accepts
    assert refusal_pause_s(11) == REFUSAL_CAP_S == refusal_pause_s(1000)
    run(bed, task)
    assert device.refusal is None, "something has begun there"


def test_the_timer_of_an_earlier_pause_does_not_end_a_newer_one() -> None:
    bed = Bed()
    bed.device("bad", slots=1)
    device = bed.scheduler.devices["bad"]
    [task] = bed.submit()

    def refuse() -> None:
        bed.scheduler.take_turn(bed.now)
        assert task.attempt is not None
        bed.scheduler.attempts.refused(task, task.attempt, bed.now, "no space")

    refuse()
    bed.mono_s += refusal_pause_s(1) / 2
    register(bed, device, {})
    assert device.accepts, "a new session is tried at once"
    refuse()
    bed.mono_s += refusal_pause_s(1) / 2
    bed.scheduler.run_timers(bed.now)
    assert not device.accepts, "the pause of the session before would have been over now"
    bed.mono_s += refusal_pause_s(1) / 2
    bed.scheduler.run_timers(bed.now)
    assert device.accepts


def test_what_moves_a_task_is_counted_and_not_its_epoch() -> None:
    bed = Bed()
    bed.device("a", slots=1)
    [task] = bed.submit()
    task.epoch = 1_000_000  # as after a restore
    for moves in range(1, MOVES_TO_HOLD + 1):
        lose(bed, run(bed, task))
        assert (task.state, task.moves) == (State.QUEUED, moves)
    lose(bed, run(bed, task))
    assert task.state is State.HELD and f"lost its device {MOVES_TO_HOLD + 1} times" in task.reason
    bed.scheduler.tasks.release(task, bed.now)
    lose(bed, run(bed, task))
    assert task.state is State.QUEUED


def test_a_release_forgives_what_was_charged() -> None:
    bed = Bed()
    bed.device("a", slots=1)
    device = bed.scheduler.devices["a"]
    [task] = bed.submit(max_retries=2)

    def crash() -> None:
        run(bed, task)
        bed.scheduler.disconnected(device, bed.now, "x", closed=False)
        register(bed, device, {(task.task_id, task.epoch): "died"})
        device.deaths.clear()
        bed.mono_s += 400

    for _ in range(3):
        crash()
    assert (task.state, task.charged, task.tries) == (State.HELD, 3, 3)
    bed.scheduler.tasks.release(task, bed.now)
    crash()
    assert (task.state, task.charged, task.tries) == (State.RETRYING, 4, 1)


def test_a_drain_ends_when_it_was_to_end_though_the_device_was_away() -> None:
    bed = Bed()
    bed.device("a", slots=1)
    device = bed.scheduler.devices["a"]
    [task] = bed.submit()
    run(bed, task)
    bed.scheduler.fleet.set_flags(device, bed.now, draining=True)
    bed.scheduler.end_drain_in(device, bed.now, 300)
    bed.mono_s += 10
    bed.scheduler.disconnected(device, bed.now, "blip", closed=False)
    register(bed, device, {(task.task_id, task.epoch): "running"})
    assert device.draining
    bed.mono_s += 289
    bed.scheduler.run_timers(bed.now)
    assert task.attempt is not None and not task.attempt.taken_back
    bed.mono_s += 2
    bed.scheduler.run_timers(bed.now)
    assert task.attempt.taken_back == "a drained"
    bed.scheduler.fleet.set_flags(device, bed.now, draining=False)
    assert device.drain_until_at is None
