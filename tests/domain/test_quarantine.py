"""Trust in devices as the scheduler keeps it: what lowers it, quarantine, and the ways out."""

from __future__ import annotations

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Device, Task
from retirecluster.domain.scheduler.probes import PROBE
from retirecluster.domain.scheduler.standing import LONGEST_BEAT_S, QUARANTINE_S
from retirecluster.domain.trust import HALF_LIFE_S, QUARANTINE_BELOW, RELEASE_ABOVE, Blame
from tests.domain.test_placement import Bed
from tests.domain.test_suspects import DOCUMENT, die, run

HOT = {"throttling": {"now": ["too_hot"]}}


def bed_with(*blames: Blame) -> tuple[Bed, Device]:
    bed = Bed()
    bed.device("a", slots=2)
    device = bed.scheduler.devices["a"]
    for blame in blames:
        bed.scheduler.standing.note(device, blame, bed.now)
    return bed, device


def comes_back(bed: Bed) -> None:
    bed.scheduler.register(profile_from_register("a", DOCUMENT), DOCUMENT, {}, bed.now)


def probe_of(bed: Bed, device: Device) -> Task:
    task = bed.scheduler.task(device.probe_task_id or "")
    assert task is not None and task.name == PROBE
    return task


def answers(bed: Bed, task: Task, output: object) -> None:
    assert task.attempt is not None
    document = {"status": "completed", "result": {"output": output}}
    bed.scheduler.attempts.result(task, task.attempt, document, bed.now)


def kinds(bed: Bed) -> list[str]:
    return [event.kind for event in bed.scheduler.take_turn(bed.now).events if event.subject == "device"]


def test_a_broken_connection_is_a_flap_and_a_farewell_is_none() -> None:
    bed, device = bed_with()
    bed.scheduler.left(device, bed.now, "switched off")
    comes_back(bed)
    bed.scheduler.disconnected(device, bed.now, "the main stops", closed=False, blamed=False)
    comes_back(bed)
    assert device.trust == 1.0 and device.ledger.empty
    bed.scheduler.disconnected(device, bed.now, "reset", closed=True)
    assert device.ledger.flaps == 1 and device.trust < 1


def test_silence_is_one_flap() -> None:
    bed, device = bed_with()
    bed.mono_s += 1000
    assert bed.scheduler.silent_devices(bed.now) == [device]
    assert round(device.ledger.flaps) == 1
    comes_back(bed)
    bed.scheduler.disconnected(device, bed.now, "reset", closed=False)
    bed.mono_s += 1000
    bed.scheduler.silent_devices(bed.now)
    assert round(device.ledger.flaps) == 2


def test_a_death_is_one_crash_however_many_tasks_it_took_and_however_often_it_is_said() -> None:
    bed, device = bed_with()
    tasks = run(bed, 2)
    die(bed, *tasks)
    assert device.ledger.crashes == 1
    claims = {(task.task_id, 1): "died" for task in tasks}
    bed.scheduler.register(profile_from_register("a", DOCUMENT), DOCUMENT, claims, bed.now)
    assert device.ledger.crashes == 1


def test_throttled_time_is_counted_and_seldom_written() -> None:
    bed, device = bed_with()
    bed.scheduler.take_turn(bed.now)
    written = 0
    for _ in range(180):
        bed.mono_s += 60
        bed.scheduler.heartbeat(device, HOT, [], bed.now)
        written += bool(bed.scheduler.take_turn(bed.now).devices)
    assert 2.9 < device.ledger.throttled_h < 3.01
    assert written == 2 or written == 3
    bed.mono_s += 1e6
    bed.scheduler.heartbeat(device, HOT, [], bed.now)
    assert device.ledger.throttled_h < 3 + LONGEST_BEAT_S / 3600


def test_wear_is_written_once() -> None:
    bed, device = bed_with()
    bed.scheduler.take_turn(bed.now)
    written = 0
    for percent in (20.0, 20.0, 20.4, 20.0):
        bed.scheduler.heartbeat(device, {"battery": {"wear_percent": percent}}, [], bed.now)
        written += bool(bed.scheduler.take_turn(bed.now).devices)
    assert (device.ledger.worn, written) == (0.2, 1)


def test_two_wrong_results_are_quarantine() -> None:
    bed, device = bed_with(*[Blame.GOOD] * 18, Blame.WRONG)
    assert not device.quarantine and device.accepts
    bed.scheduler.standing.note(device, Blame.WRONG, bed.now)
    assert (device.status, device.shown_reason) == ("quarantined", "2 wrong results in 20 verified tasks")
    assert not device.accepts and kinds(bed)[-1] == "quarantined"
    bed.submit()
    assert bed.grants() == []


def test_the_first_probe_comes_after_a_pause_and_has_to_be_right() -> None:
    bed, device = bed_with(Blame.WRONG, Blame.WRONG)
    bed.scheduler.probes.check(device, bed.now)
    assert bed.grants() == []
    bed.mono_s += QUARANTINE_S + 1
    bed.scheduler.run_timers(bed.now)
    [(first, _)] = bed.grants()
    answers(bed, probe_of(bed, device), "something else")
    assert bed.grants() == [] and device.quarantine
    bed.mono_s += 60
    bed.scheduler.run_timers(bed.now)
    [(second, _)] = bed.grants()
    assert second != first
    answers(bed, probe_of(bed, device), PROBE)
    assert "released" in kinds(bed)
    assert device.accepts and round(device.ledger.wrong) == 1  # half of it is remembered
    bed.scheduler.standing.note(device, Blame.WRONG, bed.now)
    assert device.quarantine
    assert bed.scheduler.standing.probe_in_s(device, bed.now) > 1.9 * QUARANTINE_S


def test_many_wrong_results_and_a_passed_probe_need_another_wrong_result() -> None:
    """Broken connections and crashes alone put no device into quarantine, not even back into it."""
    bed, device = bed_with(*[Blame.WRONG] * 6)
    bed.mono_s += QUARANTINE_S + 1
    bed.scheduler.run_timers(bed.now)
    bed.grants()
    answers(bed, probe_of(bed, device), PROBE)
    bed.grants()
    assert device.accepts and QUARANTINE_BELOW <= device.trust < RELEASE_ABOVE
    bed.scheduler.disconnected(device, bed.now, "reset", closed=False)
    for _ in range(3):
        bed.scheduler.standing.note(device, Blame.CRASH, bed.now)
    comes_back(bed)
    assert device.trust < QUARANTINE_BELOW and not device.quarantine and device.accepts
    bed.scheduler.standing.note(device, Blame.WRONG, bed.now)
    assert device.quarantine


def test_further_wrong_results_renew_the_reason() -> None:
    """Copies that ran when the quarantine began may turn out to be wrong, too."""
    bed, device = bed_with(Blame.WRONG, Blame.WRONG)
    bed.grants()
    for _ in range(2):
        bed.scheduler.standing.note(device, Blame.WRONG, bed.now)
    assert device.quarantine == "4 wrong results in 4 verified tasks"
    assert kinds(bed) == ["quarantined", "quarantined"]
    assert device.ledger.quarantines == 1 and bed.scheduler.standing.probe_in_s(device, bed.now) == QUARANTINE_S


def test_the_probe_waits_for_a_device_that_is_away() -> None:
    bed, device = bed_with(Blame.WRONG, Blame.WRONG)
    bed.scheduler.left(device, bed.now, "switched off")
    bed.mono_s += QUARANTINE_S + 1
    bed.scheduler.run_timers(bed.now)
    assert bed.grants() == []
    comes_back(bed)
    assert [name for _, name in bed.grants()] == ["a"]


def test_a_person_forgives_everything() -> None:
    bed, device = bed_with(Blame.WRONG, Blame.WRONG, Blame.FLAP)
    bed.scheduler.probes.forgive(device, bed.now)
    assert device.accepts and device.trust == 1.0
    bed.mono_s += QUARANTINE_S + 1
    bed.scheduler.run_timers(bed.now)
    assert bed.grants() == []  # nothing is left to be probed


def test_time_heals() -> None:
    bed, device = bed_with(Blame.WRONG, Blame.WRONG)
    bed.mono_s += HALF_LIFE_S / 2
    bed.scheduler.heartbeat(device, {}, [], bed.now)
    assert device.quarantine
    bed.mono_s += 3 * HALF_LIFE_S
    bed.scheduler.heartbeat(device, {}, [], bed.now)
    assert device.accepts and device.trust > 0.6


def test_what_runs_on_a_device_in_quarantine_goes_on() -> None:
    bed, device = bed_with()
    [task] = run(bed)
    for _ in range(2):
        bed.scheduler.standing.note(device, Blame.WRONG, bed.now)
    assert device.quarantine and task.state is State.RUNNING
    bed.end(task)
    assert task.state is State.COMPLETED
