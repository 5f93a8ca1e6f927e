"""Which task goes to which device next, without ever scanning all tasks or all devices.

Tasks that ask for the same wait in one `RequirementClass`: a heap ordered by a key that never changes. The
key is the cluster's running time at submission, less `PRIORITY_BOOST_S` for each step of priority. So within
a priority the first come goes first, a higher priority goes ahead, and yet nothing starves: a `normal` task
that has waited `PRIORITY_BOOST_S` longer than a `high` one goes before it. A task that lost its device keeps
its key, so it goes to the head and not to the end.

Each class that is in use keeps a heap of offers from devices that fit it, the highest score first (see `scoring`).
An offer is void once its device has changed since (`Device.version`); a device makes new ones whenever it changes
and has room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from attrs import define, field

from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler.holdings import Holdings
from retirecluster.domain.scheduler.picture import Device, Moment, Task
from retirecluster.domain.scheduler.records import SHOWN, Candidate, Record, Records
from retirecluster.domain.scheduler.scoring import (
    DEFAULT_STRATEGY,
    FASTEST,
    FILES,
    LONGEST_S,
    SHORTEST_S,
    SLOWEST,
    STRATEGIES,
    Strategy,
    bounded,
    files,
)
from retirecluster.domain.scheduler.tail import REFRESH_S, Tail, TailWait, fastest_of

PRIORITY_BOOST_S = 3600.0
LIVE_CLASSES = 256
"""Classes without tasks that still keep their offers up to date; beyond, they are rebuilt when needed."""
HEAP_LOOKS = 3 * SHOWN
"""Offers looked at, void ones included, to find the best few."""

Waiting = tuple[float, int, int, Task]
"""(order_s, task seq, token, task): the first two decide, the token tells whether the entry still holds."""


@define(eq=False)
class RequirementClass:
    """Tasks that ask for the same thing, and the devices that have it."""

    demand: Requirements
    task_type: str
    needs_journal: bool
    waiting: list[Waiting] = field(factory=list)
    offers: list[tuple[float, str, int]] = field(factory=list)
    fitting: dict[str, Device] = field(factory=dict)
    void: int = 0
    """Entries of `waiting` whose task has left by another way; kept below half."""
    wait: TailWait | None = None
    """What its first task waits for rather than begin on a slow device."""
    _fastest: list[Device] = field(factory=list)
    _fastest_at_mono_s: float = -REFRESH_S
    _power: float = 0.0

    def misfit(self, device: Device) -> list[str]:
        """Every lasting reason why this device cannot run these tasks."""
        return unmet(self.demand, self.task_type, self.needs_journal, device.profile)

    def push(self, task: Task) -> None:
        task.queued_token += 1
        heappush(self.waiting, (task.order_s, task.seq, task.queued_token, task))

    def leave(self, task: Task) -> None:
        """`task` no longer waits here (cancelled, held): its entry is void."""
        task.queued_token += 1
        self.void += 1
        if self.void > 64 and self.void * 2 > len(self.waiting):
            self.waiting = [entry for entry in self.waiting if entry[2] == entry[3].queued_token]
            heapify(self.waiting)
            self.void = 0

    def head(self) -> Waiting | None:
        """The entry of the task that is next, or None if none waits."""
        waiting = self.waiting
        while waiting:
            entry = waiting[0]
            if entry[2] == entry[3].queued_token:
                return entry
            heappop(waiting)
            self.void -= 1
        return None

    def offer(self, device: Device, score: float) -> None:
        """Note that `device` has room, and how good it would be."""
        heappush(self.offers, (-score, device.device_id, device.version))
        if len(self.offers) > 64 + 4 * len(self.fitting):
            self._keep_offers(lambda device_id, version: self.fitting[device_id].version == version)

    def add_device(self, device: Device) -> None:
        self.fitting[device.device_id] = device

    def drop_device(self, device: Device) -> None:
        if self.fitting.pop(device.device_id, None) is not None:
            self._keep_offers(lambda device_id, _: device_id != device.device_id)

    def best_device(self) -> Device | None:
        """The best device with room for one more of these tasks, or None. Void offers are dropped on the way."""
        while self.offers:
            _, device_id, version = self.offers[0]
            device = self.fitting[device_id]
            if device.version == version and self.has_room(device):
                return device
            heappop(self.offers)
        return None

    def has_room(self, device: Device) -> bool:
        """Whether a device that fits can be given one more of these tasks now."""
        demand = self.demand
        return device.accepts and device.fits_now(demand.min_cpu_cores, demand.min_memory_bytes, self.task_type)

    def best_offers(self) -> list[tuple[float, Device]]:
        """The best `SHOWN` devices with room and their scores, best first, without a look at the rest of the heap."""
        offers, found = self.offers, list[tuple[float, Device]]()
        places = [(offers[0], 0)] if offers else []
        for _ in range(HEAP_LOOKS):
            if not places or len(found) == SHOWN:
                break
            (cost, device_id, version), place = heappop(places)
            device = self.fitting[device_id]
            if device.version == version and self.has_room(device):
                found.append((-cost, device))
            for child in range(2 * place + 1, min(2 * place + 3, len(offers))):
                heappush(places, (offers[child], child))
        return found

    def fastest(self, now_mono_s: float, by: Callable[[Device], float]) -> list[Device]:
        """The fastest devices that fit, the fastest first: as they were a few seconds ago."""
        self._refresh(now_mono_s, by)
        return [device for device in self._fastest if self.fitting.get(device.device_id) is device]

    def power(self, now_mono_s: float, by: Callable[[Device], float]) -> float:
        """What the fastest devices do together, in slots of a device of speed 1; more than that never counts."""
        self._refresh(now_mono_s, by)
        return self._power

    def _refresh(self, now_mono_s: float, by: Callable[[Device], float]) -> None:
        if now_mono_s - self._fastest_at_mono_s >= REFRESH_S:
            self._fastest, self._fastest_at_mono_s = fastest_of(self.fitting, by), now_mono_s
            self._power = sum(by(device) * device.profile.slots for device in self._fastest)

    def _keep_offers(self, wanted: Callable[[str, int], bool]) -> None:
        self.offers = [offer for offer in self.offers if wanted(offer[1], offer[2])]
        heapify(self.offers)


@define(eq=False)
class Queues:
    """All requirement classes, by what they ask for."""

    devices: dict[str, Device]
    classes: dict[tuple[Requirements, str, bool], RequirementClass] = field(factory=dict)
    live: dict[RequirementClass, None] = field(factory=dict)
    """Classes whose offers are kept up to date, least recently used first."""
    ready: dict[RequirementClass, None] = field(factory=dict)
    """Classes that may have both a task that waits and a device with room."""
    classes_of: dict[str, dict[RequirementClass, None]] = field(factory=dict)
    """By device id: the live classes it fits."""
    type_work: dict[str, tuple[int, float]] = field(factory=dict)
    """By task type: how many were measured, and how long one takes on a device of speed 1, in seconds."""
    strategy: Strategy = STRATEGIES[DEFAULT_STRATEGY]
    holdings: Holdings = field(factory=Holdings)
    records: Records = field(factory=Records)
    retire_at: int = LIVE_CLASSES
    """How many live classes are too many; doubles where they are all needed, so that the walk is paid for."""
    tail: Tail = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tail = Tail(self.work_of, lambda: self.strategy, self.live)

    def class_for(self, demand: Requirements, task_type: str, needs_journal: bool) -> RequirementClass:
        """The class of such tasks; made if it is new."""
        key = (demand, task_type, needs_journal)
        found = self.classes.get(key)
        if found is None:
            found = self.classes[key] = RequirementClass(demand, task_type, needs_journal)
        return found

    def push(self, task: Task) -> None:
        """`task` waits for a device from now on."""
        queue = task.queue
        queue.push(task)
        if queue not in self.live:
            self._revive(queue)
        self.ready[queue] = None

    def device_changed(self, device: Device) -> None:
        """The room, load or willingness of a device changed: void its offers and make new ones."""
        device.version += 1
        if device.free_slots > 0 and device.accepts:
            for each in self.classes_of.get(device.device_id, ()):
                each.offer(device, self._score(each, device))
                if each.waiting:
                    self.ready[each] = None
        elif self.tail.waits and not device.accepts:
            self.ready.update(dict.fromkeys(self.tail.waits))  # what they wait for may be gone

    def profile_changed(self, device: Device) -> None:
        """A device registered, or what it is was changed: match it with the live classes again."""
        mine = self.classes_of.setdefault(device.device_id, {})
        for each in self.live:
            self._match(each, device, mine)
        self.device_changed(device)

    def forget(self, device: Device) -> None:
        """A device was removed."""
        self.holdings.forget(device.device_id)
        for each in self.classes_of.pop(device.device_id, {}):
            each.drop_device(device)
        self.ready.update(dict.fromkeys(self.tail.waits))

    def use(self, strategy: Strategy) -> None:
        """Place by another strategy from now on: every device makes its offers anew."""
        self.strategy = strategy
        self.ready.update(dict.fromkeys(self.tail.waits))
        for device in self.devices.values():
            self.device_changed(device)

    def wait_over(self, task: Task, token: int) -> None:
        """The timer of a task that waits for a faster device came up: it takes what there is."""
        each = self.tail.over(task, token)
        if each is not None:
            self.ready[each] = None

    def grants(self, now: Moment) -> Iterator[tuple[Task, Device]]:
        """Pairs to grant, in order. The caller grants each pair (`device_changed`) before it asks for the next.

        Tasks that begin to wait for a faster device are in `tail.begun`.
        """
        self.tail.new_turn()
        heads: list[tuple[Waiting, RequirementClass]] = []
        for each in list(self.ready):
            self._enter(each, heads)
        while heads:
            entry, each = heappop(heads)
            device = each.best_device()
            if device is None or self._outranked(entry, each, device):
                self.ready.pop(each, None)
                continue
            if self.tail.holds(each, entry, device, now):
                self.ready.pop(each, None)
                continue
            device = self._with_files(entry[3], each, device)
            self._remember(entry[3], each, device, now)
            heappop(each.waiting)
            self.tail.granted(each)
            yield entry[3], device
            self._enter(each, heads)

    def _with_files(self, task: Task, each: RequirementClass, best: Device) -> Device:
        """`best`, or a device that has more of the task's inputs, where that outweighs a lower score."""
        if not task.inputs:
            return best
        found, highest = best, self._score_with_files(task, each, best)
        for device_id in self.holdings.best(task.inputs):
            device = each.fitting.get(device_id)
            # A place in its queue is not worth it: another may want that slot.
            if device is not None and len(device.attempts) < device.profile.slots and each.has_room(device):
                score = self._score_with_files(task, each, device)
                if score > highest:
                    found, highest = device, score
        return found

    def _score_with_files(self, task: Task, each: RequirementClass, device: Device) -> float:
        there = self.holdings.count(device.device_id, task.inputs)
        return self._score(each, device) * self.strategy.locality(there, len(task.inputs))

    def _remember(self, task: Task, each: RequirementClass, winner: Device, now: Moment) -> None:
        """Keep why `winner` gets the task: with the others while few are granted, else that it won and no more."""
        if not self.records.affords(now):
            self.records.keep_winner(task, winner.device_id, self.strategy, len(each.fitting))
            return
        record = Record(
            task.epoch + 1,
            self.strategy.name,
            self.strategy.weights,
            self._candidates(task, each, winner),
            len(each.fitting),
            True,
            self.tail.waited_s(task, now),
        )
        self.records.keep(task, record)

    def _candidates(self, task: Task, each: RequirementClass, winner: Device) -> tuple[Candidate, ...]:
        """The winner, and the best of the others with room."""
        others = [self._candidate(task, each, device) for _, device in each.best_offers() if device is not winner]
        others.sort(key=lambda other: -(other.score or 0))
        return self._candidate(task, each, winner), *others[: SHOWN - 1]

    def _candidate(self, task: Task, each: RequirementClass, device: Device) -> Candidate:
        """For the record of a grant: how good a device would be for the task, and why."""
        factors = self.strategy.factors(device, each.task_type, self.work_of(each.task_type)[1])
        if task.inputs and FILES in self.strategy.weights:
            factors[FILES] = files(self.holdings.count(device.device_id, task.inputs), len(task.inputs))
        return Candidate(device.device_id, self._score_with_files(task, each, device), factors)

    def _outranked(self, entry: Waiting, each: RequirementClass, device: Device) -> bool:
        """Only a place in the device's queue is left, and a task that goes before this one wants a slot there."""
        if len(device.attempts) < device.profile.slots:
            return False
        for other in self.classes_of.get(device.device_id, ()):
            if other is not each and other.waiting:
                head = other.head()
                if head is not None and head[:2] < entry[:2]:
                    return True
        return False

    def measured(self, device: Device, task_type: str, execution_s: float) -> None:
        """Learn from how long a task of this type took on this device."""
        taken_s = bounded(execution_s, SHORTEST_S, LONGEST_S, SHORTEST_S)
        device.durations[task_type] = _smoothed(device.durations.get(task_type), taken_s)
        work_s = taken_s * bounded(device.profile.speed, SLOWEST, FASTEST, 1.0)
        self.type_work[task_type] = _smoothed(self.type_work.get(task_type), work_s)
        device.mean_s = taken_s if device.mean_s is None else 0.7 * device.mean_s + 0.3 * taken_s

    def work_of(self, task_type: str) -> tuple[int, float | None]:
        """How many tasks of a type were measured, and the seconds that one takes on a device of speed 1, if any."""
        return self.type_work.get(task_type, (0, None))

    def _score(self, each: RequirementClass, device: Device) -> float:
        return self.strategy.score(device, each.task_type, self.work_of(each.task_type)[1])

    def _enter(self, each: RequirementClass, heads: list[tuple[Waiting, RequirementClass]]) -> None:
        entry = each.head()
        if entry is None or each.best_device() is None:
            self.ready.pop(each, None)
        else:
            heappush(heads, (entry, each))

    def _revive(self, queue: RequirementClass) -> None:
        """Bring a class to life: match it with every device, once."""
        if len(self.live) >= self.retire_at:
            self._retire_idle()
        self.classes.setdefault((queue.demand, queue.task_type, queue.needs_journal), queue)
        self.live[queue] = None
        for device in self.devices.values():
            self._match(queue, device, self.classes_of.setdefault(device.device_id, {}))
            if device.device_id in queue.fitting and device.accepts:
                queue.offer(device, self._score(queue, device))

    def _retire_idle(self) -> None:
        """Drop every class that has no task; `class_for` and `push` bring it back when it is needed."""
        for each in list(self.live):
            if each.head() is None:
                key = (each.demand, each.task_type, each.needs_journal)
                if self.classes.get(key) is each:
                    del self.classes[key]
                del self.live[each]
                self.ready.pop(each, None)
                self.tail.forget(each)
                for device_id in each.fitting:
                    self.classes_of[device_id].pop(each, None)
                each.fitting.clear()
                each.offers.clear()
        self.retire_at = max(LIVE_CLASSES, 2 * len(self.live))

    @staticmethod
    def _match(each: RequirementClass, device: Device, mine: dict[RequirementClass, None]) -> None:
        if each.misfit(device):
            each.drop_device(device)
            mine.pop(each, None)
        else:
            each.add_device(device)
            mine[each] = None


def _smoothed(known: tuple[int, float] | None, value: float) -> tuple[int, float]:
    """Count and exponentially smoothed mean; the first few weigh the same."""
    if known is None:
        return 1, value
    count, mean = known
    weight = max(1.0 / (count + 1), 0.1)
    return count + 1, mean + weight * (value - mean)
