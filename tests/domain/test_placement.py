"""Placement: fit, order, load, reservations, prefetch, and explanations."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.devices import DeviceProfile, profile_from_register
from retirecluster.domain.explain import explain
from retirecluster.domain.requirements import REQUIREMENT_FIELDS, Requirements, unmet
from retirecluster.domain.scheduler import Assign, Moment, Scheduler, Settings, Task
from retirecluster.domain.scheduler.placement import PRIORITY_BOOST_S
from retirecluster.domain.tasks import PRIORITIES, spec_from_document


class Bed:
    """A scheduler, its clock, and short ways to fill it."""

    def __init__(self) -> None:
        self.mono_s = 0.0
        self.scheduler = Scheduler.create(Settings(), Random(1), self.now)

    @property
    def now(self) -> Moment:
        return Moment(self.mono_s, 1e9 + self.mono_s)

    def device(self, name: str, *, cores: float = 4, memory: int = 2**33, role: str = "worker", **more: Any) -> None:
        specs = {"cpu_cores": cores, "memory_total": memory}
        document = {"device_info": {"role": role}, "hardware_specs": specs, "attempts": []} | more
        self.scheduler.register(profile_from_register(name, document), document, {}, self.now)

    def submit(self, count: int = 1, **document: Any) -> list[Task]:
        return self.scheduler.submit([spec_from_document({"task_type": "echo"} | document)] * count, self.now)

    def grants(self) -> list[tuple[str, str]]:
        """(task id, device) of this turn, in order."""
        effects = self.scheduler.take_turn(self.now).effects
        return [(each.task.task_id, each.device_id) for each in effects if isinstance(each, Assign)]

    def end(self, task: Task, execution_s: float = 1.0) -> None:
        assert task.attempt is not None
        document = {"status": "completed", "execution_time": execution_s, "epoch": task.epoch}
        self.scheduler.attempts.result(task, task.attempt, document, self.now)


def test_load_is_spread() -> None:
    bed = Bed()
    for name in "abc":
        bed.device(name, slots=4)
    bed.submit(6)
    devices = [device for _, device in bed.grants()]
    assert sorted(devices) == ["a", "a", "b", "b", "c", "c"]


def test_the_faster_device_comes_first() -> None:
    bed = Bed()
    bed.device("slow", slots=1, speed=0.5)
    bed.device("fast", slots=1, speed=3.0)
    bed.submit()
    assert [device for _, device in bed.grants()] == ["fast"]


def test_measured_speed_outweighs_the_benchmark() -> None:
    bed = Bed()
    bed.device("boaster", slots=1, speed=5.0)
    bed.device("worker", slots=1, speed=1.0)
    for _ in range(6):
        tasks = bed.submit(2)
        bed.grants()
        for task in tasks:
            assert task.attempt is not None
            bed.end(task, 40.0 if task.attempt.device_id == "boaster" else 1.0)
    bed.submit()
    assert [device for _, device in bed.grants()] == ["worker"]


def test_priorities_and_then_order_of_arrival() -> None:
    bed = Bed()
    made = {}
    for priority in ("low", "normal", "high", "urgent"):
        made[priority] = bed.submit(2, priority=priority)
    bed.device("a", slots=8)
    order = [task_id for task_id, _ in bed.grants()]
    assert order == [task.task_id for priority in reversed(PRIORITIES) for task in made[priority]]


def test_waiting_outweighs_priority_in_the_end() -> None:
    bed = Bed()
    [old] = bed.submit(priority="normal")
    bed.mono_s += PRIORITY_BOOST_S + 1
    [new] = bed.submit(priority="high")
    bed.device("a", slots=2)
    assert [task_id for task_id, _ in bed.grants()] == [old.task_id, new.task_id]


def test_an_unmatchable_task_blocks_nobody() -> None:
    bed = Bed()
    bed.device("a", slots=1)
    bed.submit(1000, priority="urgent", requirements={"gpu": True})
    [task] = bed.submit(priority="low")
    assert bed.grants() == [(task.task_id, "a")]


def test_a_lost_task_goes_to_the_head() -> None:
    bed = Bed()
    bed.device("a", slots=1)
    first, *_ = bed.submit(5)
    assert bed.grants() == [(first.task_id, "a")]
    bed.scheduler.attempts.started(first, first.attempt, bed.now)  # type: ignore[arg-type]
    device = bed.scheduler.devices["a"]
    bed.scheduler.disconnected(device, bed.now, "gone", closed=True)
    bed.mono_s += 2
    bed.scheduler.run_timers(bed.now)
    bed.device("b", slots=1)
    assert bed.grants() == [(first.task_id, "b")]
    assert (first.epoch, first.charged) == (2, 0)


def test_cores_and_memory_are_reserved() -> None:
    bed = Bed()
    bed.device("a", slots=10, cores=4, memory=4 * 2**30)
    two_cores = bed.submit(3, requirements={"min_cpu_cores": 2})
    assert len(bed.grants()) == 2
    bed.end(two_cores[0])
    memory = bed.submit(2, requirements={"min_memory_gb": 3})
    granted = [task_id for task_id, _ in bed.grants()]
    assert two_cores[2].task_id in granted and memory[0].task_id in granted and len(granted) == 2


def test_short_tasks_are_queued_on_the_device() -> None:
    bed = Bed()
    bed.device("a", slots=1, prefetch=32)
    tasks = bed.submit(50)
    assert len(bed.grants()) == 1
    bed.end(tasks[0], 0.01)
    assert len(bed.grants()) == 11, "one slot and 0.1 s of work"


def test_long_tasks_are_not() -> None:
    bed = Bed()
    bed.device("a", slots=1, prefetch=32)
    tasks = bed.submit(50)
    bed.grants()
    bed.end(tasks[0], 5.0)
    assert len(bed.grants()) == 1


def test_many_sets_of_requirements() -> None:
    bed = Bed()
    for number in range(20):
        bed.device(f"d{number}", slots=2)
    tasks = [
        bed.submit(requirements={"device": f"d{number % 20}", "min_memory_gb": 1 + number / 1e4})[0]
        for number in range(800)
    ]
    seen: list[str] = []
    for _ in range(100):
        for task_id, device in bed.grants():
            task = bed.scheduler.task(task_id)
            assert task is not None and task.queue.demand.device == device
            seen.append(task_id)
            bed.end(task)
    assert sorted(seen) == sorted(task.task_id for task in tasks)


PROFILE = DeviceProfile("d", cpu_cores=4, memory_bytes=2**32, storage_bytes=2**33, platform="linux", role="compute")


@pytest.mark.parametrize(
    ("demand", "reason"),
    [
        ({"min_cpu_cores": 8}, "min_cpu_cores 8 > 4"),
        ({"min_memory_gb": 8}, "min_memory_gb 8 > 4"),
        ({"min_storage_gb": 9}, "min_storage_gb 9 > 8"),
        ({"platform": "android"}, "platform is linux, not android"),
        ({"architecture": "armv6l"}, "architecture is unknown, not armv6l"),
        ({"role": "nas"}, "role is compute, not nas"),
        ({"tags": ["camera", "mic"]}, "lacks tags camera, mic"),
        ({"tags": "camera"}, "lacks tag camera"),
        ({"gpu": True}, "has no GPU that is known"),
        ({"internet": True}, "has no internet access that is known"),
        ({"device": "other"}, "the task asks for device other"),
        ({"isolation": 2}, "isolation 2 > 0"),
    ],
)
def test_each_demand_says_what_is_missing(demand: dict[str, Any], reason: str) -> None:
    assert REQUIREMENT_FIELDS.problems(demand) == []
    assert unmet(Requirements.from_document(demand), "echo", False, PROFILE) == [reason]


@given(st.sampled_from(["min_cpu_cores", "min_memory_gb", "min_storage_gb"]), st.floats(0, 100), st.floats(0, 100))
def test_asking_for_less_never_fits_worse(name: str, more: float, less: float) -> None:
    less, more = sorted((less, more))
    if not unmet(Requirements.from_document({name: more}), "echo", False, PROFILE):
        assert not unmet(Requirements.from_document({name: less}), "echo", False, PROFILE)


def test_explanations() -> None:
    bed = Bed()
    [task] = bed.submit(requirements={"role": "nas"})
    assert explain(task, [])["hint"].startswith("start a worker")
    bed.device("phone", role="mobile")
    bed.device("nas", role="nas", slots=1)
    [other] = bed.submit(requirements={"role": "nas"})
    bed.grants()
    told = explain(other, bed.scheduler.devices.values())
    assert told["reason"] == "waits for room: 1 of 1 fitting devices is busy"
    assert {row["device_id"]: row["reasons"] for row in told["devices"]} == {
        "phone": ["role is mobile, not nas"],
        "nas": ["busy: 1 of 1 slots taken"],
    }
    [never] = bed.submit(requirements={"min_cpu_cores": 64})
    told = explain(never, bed.scheduler.devices.values())
    assert told["reason"].startswith("no device fits") and "min_cpu_cores 64 > 4" in told["hint"]


def test_a_long_type_is_not_queued_behind_a_short_one() -> None:
    bed = Bed()
    bed.device("a", slots=1, prefetch=32)
    [short] = bed.submit()
    bed.grants()
    bed.end(short, 0.001)
    bed.submit(5, task_type="sleep", payload={"duration_s": 60})
    assert len(bed.grants()) == 1


def test_a_task_does_not_wait_behind_another_while_a_slower_device_is_idle() -> None:
    """The best device has only a place in its queue, and one that came first wants the slot there."""
    bed = Bed()
    bed.device("fast", slots=1, speed=4.0, prefetch=8)
    for _ in range(5):
        [short] = bed.submit()
        bed.grants()
        bed.end(short, 0.01)
    bed.device("slow", slots=1, speed=1.0)
    wants_fast = {"task_type": "sleep", "payload": {"duration_s": 600}, "requirements": {"device": "fast"}}
    bed.submit(2, **wants_fast)
    assert [device for _, device in bed.grants()] == ["fast"]
    tasks = bed.submit(3)
    assert bed.grants() == [(tasks[0].task_id, "slow")]
    bed.end(tasks[0], 0.01)
    assert bed.grants() == [(tasks[1].task_id, "slow")]


def test_full_devices_that_others_want_are_asked_once_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only places in queues are left, tasks that came first want the slots, and hundreds of classes wait behind."""
    devices, classes = 10, 300
    bed = Bed()
    for number in range(devices):
        bed.device(f"d{number}", slots=1, prefetch=8, memory=8 * 2**30)
    for _ in range(4):
        for task in bed.submit(devices):
            bed.grants()
            bed.end(task, 0.01)
    large = {"task_type": "sleep", "payload": {"duration_s": 600}, "requirements": {"min_memory_gb": 5}}
    first = bed.submit(2 * devices, **large)
    assert len(bed.grants()) == devices
    for number in range(classes):
        bed.submit(requirements={"min_memory_gb": 1 + number / 1000})
    asked = []
    queues = type(bed.scheduler.queues)
    outranked = queues._outranked
    monkeypatch.setattr(queues, "_outranked", lambda *each: (asked.append(each), outranked(*each))[1])
    assert bed.grants() == [] and len(asked) <= 3 * devices  # they stand on three or four shelves
    asked.clear()
    bed.end(first[0], 600)
    assert [task for task, _ in bed.grants()] == [first[devices].task_id] and len(asked) <= 10
    asked.clear()
    bed.submit()
    assert bed.grants() == [] and len(asked) <= devices


def test_what_was_passed_over_is_looked_at_again_in_order() -> None:
    bed = Bed()
    bed.device("small", slots=2, memory=3 * 2**30)
    bed.device("large", slots=1, memory=8 * 2**30)
    [running] = bed.submit(requirements={"min_memory_gb": 8})
    assert bed.grants() == [(running.task_id, "large")]
    big = [bed.submit(requirements={"min_memory_gb": 3.2 + number / 100})[0] for number in range(5)]
    [fits] = bed.submit(requirements={"min_memory_gb": 3})
    assert bed.grants() == [(fits.task_id, "small")]
    bed.end(running)
    assert bed.grants() == [(big[0].task_id, "large")]
    bed.scheduler.tasks.cancel(big[1], bed.now, "enough")
    bed.end(big[0])
    assert bed.grants() == [(big[2].task_id, "large")]


def test_distinct_sizes_make_few_offers() -> None:
    """The price of a device that changes must not grow with the sets of requirements that wait."""
    bed = Bed()
    for number in range(4):
        bed.device(f"d{number}", slots=1)
    bed.submit(4, requirements={"min_memory_gb": 7})
    bed.grants()
    tasks = [bed.submit(requirements={"min_memory_gb": 2 + number / 1000})[0] for number in range(1000)]
    assert bed.grants() == []
    queues = bed.scheduler.queues
    assert len(queues.live) >= 1000 and all(len(each) < 10 for each in queues.shelves_of.values())
    for task in tasks[:20]:
        bed.end(next(iter(bed.scheduler.devices["d0"].attempts.values())))
        assert bed.grants() == [(task.task_id, "d0")]


def test_a_device_that_hands_back_gets_no_queue_for_a_while() -> None:
    bed = Bed()
    bed.device("a", slots=1, prefetch=32)
    tasks = bed.submit(20)
    bed.grants()
    bed.end(tasks[0], 0.01)
    granted = bed.grants()
    assert len(granted) == 11
    for task_id, _ in granted[1:]:
        task = bed.scheduler.task(task_id)
        assert task is not None and task.attempt is not None
        bed.scheduler.attempts.refused(task, task.attempt, bed.now, "busy with a long task")
    assert bed.grants() == []


def test_an_urgent_task_is_not_kept_waiting_by_short_ones() -> None:
    bed = Bed()
    bed.device("a", slots=1, prefetch=32)
    flood = bed.submit(200, priority="low")
    bed.grants()
    bed.end(flood[0], 0.001)
    assert len(bed.grants()) > 10
    [urgent] = bed.submit(task_type="system_info", priority="urgent")
    finished = 0
    while urgent.attempt is None:
        running = next(task for task in flood if task.attempt is not None)
        bed.end(running, 0.001)
        bed.grants()
        finished += 1
        assert finished < 50, "it waits for no more than what was queued on the device before it"
    for task in [task for task in flood if task.attempt is not None]:
        bed.end(task, 0.001)
    bed.end(urgent, 1.0)
    assert bed.grants()


def test_thousands_of_sets_of_requirements_are_taken_in_at_once() -> None:
    bed = Bed()
    bed.device("d1", slots=2)
    tasks = [bed.submit(requirements={"device": f"d{number}"})[0] for number in range(3000)]
    assert [task_id for task_id, _ in bed.grants()] == [tasks[1].task_id]
    for task in tasks:
        if task.attempt is None:
            bed.scheduler.tasks.cancel(task, bed.now, "enough")
    bed.end(tasks[1])
    for number in range(1000):
        bed.submit(requirements={"device": f"e{number}"})
        bed.scheduler.tasks.cancel(list(bed.scheduler.ledger.tasks.values())[-1], bed.now, "enough")
    assert len(bed.scheduler.queues.live) < 7000 and len(bed.scheduler.queues.shelves_of["d1"]) < 10


def test_timers_of_tasks_that_are_gone_are_dropped() -> None:
    bed = Bed()
    for _ in range(5000):
        [task] = bed.submit(deadline_s=1e6)
        bed.scheduler.tasks.cancel(task, bed.now, "enough")
    assert len(bed.scheduler.timers.heap) < 1100
