"""The end of a job: a long task waits for a fast device that is soon free rather than begin on a slow one.

A device with room is left out for now if all the tasks that wait could be done on faster devices, as these become
free, before it would have done one; as long as more wait than that, every device is needed. What is expected comes from
measured durations; where nothing was measured nothing waits. A wait is bounded: by the latest moment at which waiting
could still pay, and by `LONGEST_WAIT_S`. A timer ends it: that task does not wait again, and no other of its class
before something new has been measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from retirecluster.domain.scheduler.picture import Device, Moment, Task
from retirecluster.domain.scheduler.scoring import Strategy, expected_s, speed
from retirecluster.domain.units import format_duration

if TYPE_CHECKING:
    from retirecluster.domain.scheduler.shelves import RequirementClass, Waiting

SHORTEST_TASK_S = 1.0
"""Tasks that are expected to take less begin wherever there is room."""
LONGEST_WAIT_S = 3600.0
MARGIN = 1.0
"""A faster device has to be done in this part of the time at the latest."""
LOOKED_AT_DEVICES = 32
LOOKED_AT_SLOTS = 64
LOOKED_AT_CLASSES = 512
MAX_WAITS = 64
"""Sets of requirements whose tasks wait at the same time."""
REFRESH_S = 5.0
"""How old a class's list of its fastest devices may be."""
OVERRUN = 0.2
"""What runs longer than expected is expected to run for this part of its age yet."""


@frozen
class TailWait:
    """A task at the head of its class waits for a faster device, no longer than until `until_mono_s`."""

    task: Task
    token: int
    device_id: str
    instead_of: str
    since_mono_s: float
    until_mono_s: float
    done_there_s: float
    """Expected seconds, from the beginning of the wait, until the task is done on the faster device."""
    done_here_s: float

    def words(self) -> str:
        """What is waited for, for people."""
        longest = format_duration(self.until_mono_s - self.since_mono_s)
        return (
            f"{self.device_id}, which is faster: done there in about {format_duration(self.done_there_s)}, on "
            f"{self.instead_of} in {format_duration(self.done_here_s)}; it waits {longest} at most"
        )


@define(eq=False)
class Tail:
    """Who waits. `work` tells how often a type was measured and its work in seconds; `live` are all classes in use."""

    work: Callable[[str], tuple[int, float | None]]
    strategy: Callable[[], Strategy]
    live: Mapping[RequirementClass, None]
    waits: dict[RequirementClass, TailWait] = field(factory=dict)
    begun: list[TailWait] = field(factory=list)
    """Waits that have no timer yet."""
    ended: TailWait | None = None
    """The last wait that ended."""
    _left_s: float | None = None
    _otherwise_s: float = 0.0
    _tired: dict[RequirementClass, tuple[int, Task, int]] = field(factory=dict)
    """Classes whose wait was in vain: how often their type had been measured by then, and whose wait it was."""

    def holds(self, each: RequirementClass, entry: Waiting, device: Device, now: Moment) -> bool:
        """Whether the task of `entry` is not to be given to `device`, the best that has room, just now."""
        wait = self._better(each, entry, device, now) if self.strategy().waits else None
        known = self._end(each)
        if wait is None:
            return False
        if known is not None and known.task is entry[3] and known.token == entry[2]:
            wait = known  # the same wait goes on: its end stays where it is
        elif len(self.waits) >= MAX_WAITS:
            return False
        else:
            self.begun.append(wait)
        if now.mono_s >= wait.until_mono_s:
            return False
        self.waits[each] = each.wait = wait
        return True

    def take_begun(self) -> list[TailWait]:
        """The waits that began since the last time: each needs a timer."""
        taken, self.begun = self.begun, []
        return taken

    def over(self, task: Task, token: int) -> RequirementClass | None:
        """The timer of a wait came up; the class whose head is to be placed now, if it still waits."""
        each = task.queue
        wait = self.waits.get(each)
        if wait is None or wait.task is not task or wait.token != token:
            return None
        self._end(each)
        self._tired[each] = (self.work(each.task_type)[0], task, token)
        return each

    def waited_s(self, task: Task, now: Moment) -> float:
        """How long a task that is being granted has waited for a faster device."""
        wait = self.ended
        return 0.0 if wait is None or wait.task is not task else max(0.0, now.mono_s - wait.since_mono_s)

    def _end(self, each: RequirementClass) -> TailWait | None:
        wait, each.wait = self.waits.pop(each, None), None
        self.ended = wait or self.ended
        return wait

    def forget(self, each: RequirementClass) -> None:
        """A class is given up."""
        self._end(each)
        self._tired.pop(each, None)

    def new_turn(self) -> None:
        """What waits is counted anew, once it matters."""
        self._left_s = None

    def granted(self, each: RequirementClass) -> None:
        """One task of a class waits no longer."""
        if self._left_s is not None:
            self._left_s -= self.work(each.task_type)[1] or self._otherwise_s

    def _waiting_s(self, work_s: float) -> float:
        """The work of all tasks that wait, in seconds at speed 1. Types that were not measured count as `work_s`."""
        if self._left_s is None:
            self._otherwise_s = work_s
            some = list(islice(self.live, LOOKED_AT_CLASSES))
            self._left_s = sum((self.work(each.task_type)[1] or work_s) * len(each.waiting) for each in some)
        return self._left_s

    def _better(self, each: RequirementClass, entry: Waiting, device: Device, now: Moment) -> TailWait | None:
        count, work_s = self.work(each.task_type)
        here_s = expected_s(device, each.task_type, work_s)
        if work_s is None or here_s is None or here_s < SHORTEST_TASK_S or self._is_tired(each, entry, count):
            return None
        waiting_s = self._waiting_s(work_s)
        if waiting_s > here_s * MARGIN * each.power(now.mono_s, self._speed_for(each)):
            return None  # the ordinary case: far more to do than the fast ones can, and nothing is looked at
        limit_s, done = here_s * MARGIN, 0
        first: tuple[float, str, float] | None = None
        for other, there_s in self._faster(each, device, work_s, limit_s, now):
            for free_s in self._free_in(each, other, now):
                if free_s + there_s <= limit_s:
                    done += int((limit_s - free_s) / there_s)
                    way = (free_s + there_s, other.device_id, there_s)
                    first = way if first is None else min(first, way)
            if done * work_s >= waiting_s:
                break
        if first is None or done * work_s < waiting_s:
            return None
        wait_s = min(limit_s - first[2], LONGEST_WAIT_S)
        return TailWait(
            entry[3], entry[2], first[1], device.device_id, now.mono_s, now.mono_s + wait_s, first[0], here_s
        )

    def _is_tired(self, each: RequirementClass, entry: Waiting, count: int) -> bool:
        measured, task, token = self._tired.get(each, (-1, None, -1))
        return measured == count or (task is entry[3] and token == entry[2])

    def _speed_for(self, each: RequirementClass) -> Callable[[Device], float]:
        work_s = self.work(each.task_type)[1]
        return lambda device: speed(device, each.task_type, work_s)

    def _faster(
        self, each: RequirementClass, device: Device, work_s: float | None, limit_s: float, now: Moment
    ) -> Iterator[tuple[Device, float]]:
        """Full devices that could do such a task within `limit_s` and would be preferred, the fastest first."""
        strategy = self.strategy()
        to_beat = strategy.score(device, each.task_type, work_s)
        for other in each.fastest(now.mono_s, self._speed_for(each)):
            there_s = expected_s(other, each.task_type, work_s) or limit_s
            if there_s >= limit_s:
                return
            full = other.accepts and len(other.attempts) >= other.profile.slots
            if full and other is not device and strategy.score(other, each.task_type, work_s) > to_beat:
                yield other, there_s

    def _free_in(self, each: RequirementClass, device: Device, now: Moment) -> Iterator[float]:
        """In how many seconds each of the device's slots is expected to be free for such a task."""
        demand, profile = each.demand, device.profile
        for task in islice(device.attempts.values(), LOOKED_AT_SLOTS):
            gives = task.queue.demand
            enough = (
                device.reserved_cores - gives.min_cpu_cores + demand.min_cpu_cores <= profile.cpu_cores
                and device.reserved_bytes - gives.min_memory_bytes + demand.min_memory_bytes <= profile.memory_bytes
            )
            whole_s = expected_s(device, task.task_type, self.work(task.task_type)[1])
            if not enough or whole_s is None or task.attempt is None:
                continue
            began_s = task.attempt.started_mono_s
            age_s = now.mono_s - (task.attempt.granted_mono_s if began_s is None else began_s)
            yield max(whole_s - age_s, OVERRUN * age_s, 0.0)


def fastest_of(devices: dict[str, Device], by: Callable[[Device], float]) -> list[Device]:
    """The fastest of many, the fastest first. One look at each: for lists that are kept for a while."""
    return nlargest(LOOKED_AT_DEVICES, devices.values(), key=by)
