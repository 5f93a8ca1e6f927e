"""Placement over a whole simulated life of mixed devices: nobody starves, nothing is overbooked, waits have an end."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Assign, Device, Task
from retirecluster.domain.scheduler.scoring import STRATEGIES
from retirecluster.domain.scheduler.tail import LONGEST_WAIT_S
from tests.domain.test_placement import Bed

GIB = 2**30
TYPES: dict[str, dict[str, Any]] = {
    "echo": {"payload": {"message": "x"}},
    "system_info": {"payload": {}},
    "sleep": {"payload": {"duration_s": 1}},
}
DEVICES = st.lists(
    st.tuples(st.sampled_from([0.05, 0.5, 1.0, 3.0]), st.integers(1, 4), st.integers(1, 8)), min_size=1, max_size=5
)
JOBS = st.lists(
    st.tuples(
        st.sampled_from(sorted(TYPES)),
        st.floats(0.1, 5000),
        st.sampled_from([0, 0, 1]),
        st.sampled_from(["low", "normal", "high"]),
        st.floats(0, 300),
    ),
    min_size=1,
    max_size=30,
)


class Life(Bed):
    """Runs what is granted for as long as it takes there, and looks at the books after every turn."""

    def __init__(self, strategy: str, devices: list[tuple[float, int, int]]) -> None:
        super().__init__()
        self.scheduler.queues.use(STRATEGIES[strategy])
        self.ends: list[tuple[float, int, Task, float]] = []
        self.speeds = {}
        self.idle_since: dict[str, float] = {}
        """By task: since when it has waited although a device has had room for it."""
        for number, (speed, slots, gib) in enumerate(devices):
            self.device(f"d{number}", slots=slots, memory=gib * GIB, speed=speed)
            self.speeds[f"d{number}"] = speed

    def turn(self, works_s: dict[str, float]) -> None:
        for each in self.scheduler.take_turn(self.now).effects:
            if isinstance(each, Assign):
                self.scheduler.attempts.started(each.task, each.attempt, self.now)
                taken_s = works_s[each.task.task_id] / self.speeds[each.device_id]
                heappush(self.ends, (self.mono_s + taken_s, each.task.seq, each.task, taken_s))
        self.check()

    def check(self) -> None:
        scheduler, waiting = self.scheduler, dict[str, float]()
        for device in scheduler.devices.values():
            assert len(device.attempts) <= device.profile.slots
            assert device.reserved_bytes <= device.profile.memory_bytes
        for task in scheduler.ledger.tasks.values():
            if task.state is State.QUEUED and task.queue.best_device() is not None:
                since_s = self.idle_since.get(task.task_id, self.mono_s)
                waiting[task.task_id] = since_s
                assert task.queue.wait is not None, "a device with room was left idle"
                if task is task.queue.wait.task:
                    assert self.mono_s - since_s <= LONGEST_WAIT_S, "it waits too long for a faster device"
        self.idle_since = waiting

    def goes_on(self) -> None:
        """To the next thing that happens."""
        ends_s = self.ends[0][0] if self.ends else float("inf")
        timer_s = self.scheduler.next_timer_at()
        self.mono_s = max(self.mono_s, min(ends_s, float("inf") if timer_s is None else timer_s))
        assert self.mono_s != float("inf"), "nothing will ever happen, and tasks wait"
        while self.ends and self.ends[0][0] <= self.mono_s:
            _, _, task, taken_s = heappop(self.ends)
            self.end(task, taken_s)
        self.scheduler.run_timers(self.now)


@given(st.sampled_from(sorted(STRATEGIES)), DEVICES, JOBS)
@settings(deadline=None)
def test_everything_is_done_and_nothing_is_overbooked(strategy: str, devices: Any, jobs: Any) -> None:
    life, works_s = Life(strategy, devices), {}
    for task_type, work_s, gib, priority, pause_s in jobs:
        life.mono_s += pause_s if not life.ends else 0
        more = {"requirements": {"min_memory_gb": gib}} if gib else {}
        [task] = life.submit(task_type=task_type, priority=priority, **TYPES[task_type], **more)
        works_s[task.task_id] = work_s
        life.turn(works_s)
    for _ in range(20 * len(jobs)):
        if not life.scheduler.ledger.tasks:
            return
        life.goes_on()
        life.turn(works_s)
    raise AssertionError("tasks starve")


WISHES = st.fixed_dictionaries(
    {},
    optional={
        "min_cpu_cores": st.sampled_from([0.5, 1, 1.1, 2, 4]),
        "min_memory_gb": st.sampled_from([0.5, 1, 1.01, 1.02, 1.3, 2, 3.9, 4]),
        "min_storage_gb": st.sampled_from([1, 1.1]),
        "device": st.sampled_from(["d0", "d1"]),
        "role": st.just("nas"),
    },
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), WISHES, st.sampled_from(["low", "normal", "high"])),
        st.tuples(st.sampled_from(["end", "cancel", "hold", "cordon", "return", "role"]), st.integers(0, 9)),
    ),
    min_size=5,
    max_size=60,
)
SHAPES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4)


def has_room(task: Task, device: Device) -> bool:
    demand = task.queue.demand
    return (
        not task.queue.misfit(device)
        and device.accepts
        and device.fits_now(demand.min_cpu_cores, demand.min_memory_bytes, task.task_type)
    )


@given(SHAPES, STEPS)
@settings(deadline=None)
def test_each_grant_is_that_of_the_first_task_for_which_there_is_room(shapes: Any, steps: Any) -> None:
    """Compared with a look at all tasks and all devices: what is kept between turns leaves nothing out."""
    bed = Bed()
    for number, (slots, cores, gib) in enumerate(shapes):
        specs = {"cpu_cores": cores, "memory_total": gib * GIB, "disk_space": 2 * GIB}
        bed.device(f"d{number}", hardware_specs=specs, slots=slots)
    devices = list(bed.scheduler.devices.values())
    for kind, *step in steps:
        bed.mono_s += 1
        act(bed, kind, step)
        waiting = [task for task in bed.scheduler.ledger.tasks.values() if task.state is State.QUEUED]
        waiting.sort(key=lambda task: (task.order_s, task.seq))
        for task, device in bed.scheduler.queues.grants(bed.now):
            assert task is next(each for each in waiting if any(has_room(each, one) for one in devices))
            assert has_room(task, device)
            waiting.remove(task)
            bed.scheduler.attempts.grant(task, device, bed.now)
        assert not any(has_room(each, one) for each in waiting for one in devices), "a device was left idle"
        bed.grants()


def act(bed: Bed, kind: str, step: Any) -> None:
    """One thing that happens."""
    scheduler = bed.scheduler
    if kind == "submit":
        bed.submit(requirements=step[0], priority=step[1])
        return
    tasks, devices = list(scheduler.ledger.tasks.values()), list(scheduler.devices.values())
    device = devices[step[0] % len(devices)]
    if kind == "end" and device.attempts:
        bed.end(next(iter(device.attempts.values())))
    elif kind == "cancel" and tasks:
        scheduler.tasks.cancel(tasks[step[0] % len(tasks)], bed.now, "enough")
    elif kind == "hold" and tasks and tasks[step[0] % len(tasks)].state in (State.QUEUED, State.HELD):
        task = tasks[step[0] % len(tasks)]
        if task.state is State.HELD:
            scheduler.tasks.release(task, bed.now)
        else:
            scheduler.tasks.hold(task, bed.now, "later")
    elif kind in ("cordon", "return"):
        scheduler.fleet.set_flags(device, bed.now, cordoned=kind == "cordon")
    elif kind == "role":
        scheduler.fleet.set_role(device, "nas" if step[0] % 2 else "worker", bed.now)


def test_nothing_learned_never_waits() -> None:
    bed = Bed()
    bed.device("fast", slots=1, speed=100.0)
    bed.device("slow", slots=1, speed=0.01)
    bed.submit(2)
    assert [device for _, device in bed.grants()] == ["fast", "slow"]
