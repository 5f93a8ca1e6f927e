"""Which task goes to which device next, without ever scanning all tasks or all devices.

Tasks that ask for the same wait in one `RequirementClass` (see `shelves`), ordered by a key that never changes. The
key is the cluster's running time at submission, less `PRIORITY_BOOST_S` for each step of priority. So within
a priority the first come goes first, a higher priority goes ahead, and yet nothing starves: a `normal` task
that has waited `PRIORITY_BOOST_S` longer than a `high` one goes before it. A task that lost its device keeps
its key, so it goes to the head and not to the end.

A device makes offers to the shelves that it fits whenever it changes and has room, by its score (see `scoring`). At the
end of a turn nothing that waits could be granted. So the next turn looks only at classes with something new, and for
devices that have changed at what they have room for, in the order in which tasks are to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from attrs import define, field

from retirecluster.domain.requirements import Requirements
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
from retirecluster.domain.scheduler.shelves import Place, RequirementClass, Shelf, asks_for_less, at_least
from retirecluster.domain.scheduler.tail import Tail

PRIORITY_BOOST_S = 3600.0
LIVE_CLASSES = 256
"""Classes without tasks that are kept on their shelves; beyond, they are put there again when they are needed."""


@define(eq=False)
class Queues:
    """All requirement classes, by what they ask for."""

    devices: dict[str, Device]
    classes: dict[tuple[Requirements, str, bool], RequirementClass] = field(factory=dict)
    live: dict[RequirementClass, None] = field(factory=dict)
    """Classes that stand on a shelf."""
    shelves: dict[tuple[Requirements, str, bool], Shelf] = field(factory=dict)
    ready: dict[Shelf, None] = field(factory=dict)
    """Shelves with something new."""
    shelves_of: dict[str, dict[Shelf, None]] = field(factory=dict)
    """By device id: the shelves it fits."""
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
        if queue.shelf is None:
            self._revive(queue)
        queue.push(task)
        self._look_again([queue])

    def device_changed(self, device: Device) -> None:
        """The room, load or willingness of a device changed: void its offers and make new ones."""
        device.version += 1
        accepts = device.accepts
        for shelf in self.shelves_of.get(device.device_id, ()):
            if accepts and shelf.has_room(device):
                self._offer(shelf, device)
            else:
                shelf.new_devices.pop(device.device_id, None)
        if self.tail.waits and not accepts:
            self._look_again(self.tail.waits)  # what they wait for may be gone

    def profile_changed(self, device: Device) -> None:
        """A device registered, or what it is was changed: match it with the shelves again."""
        mine = self.shelves_of.setdefault(device.device_id, {})
        for shelf in self.shelves.values():
            self._match(shelf, device, mine)
        self.device_changed(device)

    def forget(self, device: Device) -> None:
        """A device was removed."""
        self.holdings.forget(device.device_id)
        for shelf in self.shelves_of.pop(device.device_id, {}):
            shelf.drop_device(device)
        self._look_again(self.tail.waits)

    def use(self, strategy: Strategy) -> None:
        """Place by another strategy from now on: every device makes its offers anew."""
        self.strategy = strategy
        self._look_again(self.tail.waits)
        for device in self.devices.values():
            self.device_changed(device)

    def wait_over(self, task: Task, token: int) -> None:
        """The timer of a task that waits for a faster device came up: it takes what there is."""
        each = self.tail.over(task, token)
        if each is not None:
            self._look_again([each])

    def grants(self, now: Moment) -> Iterator[tuple[Task, Device]]:
        """Pairs to grant, in order. The caller grants each pair (`device_changed`) before it asks for the next.

        Tasks that begin to wait for a faster device are in `tail.begun`.
        """
        self.tail.new_turn()
        places: list[tuple[Place, bool]] = []
        for shelf in self.ready:
            self._enter(shelf, places)
        while places:
            place, walking = heappop(places)
            each = place[3]
            if each.place is place:  # else its task was granted meanwhile
                device = self._chosen(place, now)
                if device is not None:
                    task = each.waiting[0][3]
                    device = self._with_files(task, each, device)
                    self._remember(task, each, device, now)
                    each.pop()
                    self.tail.granted(each)
                    yield task, device
                    if each.place is not None:
                        heappush(places, (each.place, False))
            if walking:
                self._walk(each.shelf, place, places)
        for shelf in self.ready:
            shelf.looked_at()
        self.ready.clear()

    def _with_files(self, task: Task, each: RequirementClass, best: Device) -> Device:
        """`best`, or a device that has more of the task's inputs, where that outweighs a lower score."""
        if not task.inputs:
            return best
        found, highest = best, self._score_with_files(task, each, best)
        for device_id in self.holdings.best(task.inputs):
            device = self.devices.get(device_id)
            # A place in its queue is not worth it: another may want that slot.
            if (
                device is not None
                and each.fits(device)
                and len(device.attempts) < device.profile.slots
                and each.has_room(device)
            ):
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
            self.records.keep_winner(task, winner.device_id, self.strategy, each.count())
            return
        record = Record(
            task.epoch + 1,
            self.strategy.name,
            self.strategy.weights,
            self._candidates(task, each, winner),
            each.count(),
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

    def _enter(self, shelf: Shelf, places: list[tuple[Place, bool]]) -> None:
        """Note what of a shelf is to be looked at in this turn: what is new, and what there is for new devices."""
        if shelf.is_open():
            for each in shelf.new_classes:
                if each.place is not None:
                    heappush(places, (each.place, False))
            self._walk(shelf, None, places)

    def _walk(self, shelf: Shelf | None, after: Place | None, places: list[tuple[Place, bool]]) -> None:
        if shelf is not None and shelf.new_devices and shelf.is_open():
            place = shelf.next_for_new(after, self._outranked)
            if place is not None:
                heappush(places, (place, True))

    def _chosen(self, place: Place, now: Moment) -> Device | None:
        """The device for the first task of a class; None if there is none, or the task waits for a faster one."""
        each = place[3]
        if each.shelf is None:
            return None
        # Whom an earlier task wants for a slot has nothing for any later one: places are looked at in their order.
        device = each.shelf.best(each.has_room, lambda found: self._outranked(place, found))
        if device is None or self.tail.holds(each, each.waiting[0], device, now):
            return None
        return device

    def _outranked(self, place: Place, device: Device) -> bool:
        """Only a place in the device's queue is left, and a task that goes before this one wants a slot there."""
        if len(device.attempts) < device.profile.slots:
            return False
        for shelf in self.shelves_of.get(device.device_id, ()):
            for other in shelf.heads:
                if other[:2] >= place[:2]:
                    break
                if other[3].suits(device.profile):
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

    def _look_again(self, classes: Iterable[RequirementClass]) -> None:
        for each in classes:
            if each.shelf is not None:
                each.shelf.new_classes[each] = None
                self.ready[each.shelf] = None

    def _offer(self, shelf: Shelf, device: Device) -> None:
        shelf.offer(device, self.strategy.score(device, shelf.key[1], self.work_of(shelf.key[1])[1]))
        if shelf.heads:
            self.ready[shelf] = None

    def _revive(self, queue: RequirementClass) -> None:
        """Put a class on its shelf; one that is new, or has to hold less than before, is offered everything anew."""
        if len(self.live) >= self.retire_at:
            self._retire_idle()
        self.classes.setdefault((queue.demand, queue.task_type, queue.needs_journal), queue)
        self.live[queue] = None
        key = (at_least(queue.demand), queue.task_type, queue.needs_journal)
        shelf = self.shelves.get(key)
        if shelf is None:
            shelf = self.shelves[key] = Shelf(key, queue.demand)
            self._match_all(shelf)
        elif asks_for_less(queue.demand, shelf.least):
            shelf.least = key[0]
            shelf.forget_offers()
            self._match_all(shelf)
        shelf.classes[queue] = None
        queue.stand_on(shelf)

    def _match_all(self, shelf: Shelf) -> None:
        wanted = shelf.least.device
        some = self.devices.values() if not wanted else [self.devices[wanted]] if wanted in self.devices else []
        for device in some:
            self._match(shelf, device, self.shelves_of.setdefault(device.device_id, {}))
            if device.device_id in shelf.fitting and device.accepts and shelf.has_room(device):
                self._offer(shelf, device)

    def _retire_idle(self) -> None:
        """Drop every class that has no task; `class_for` and `push` bring it back when it is needed."""
        for each in list(self.live):
            shelf = each.shelf
            if each.head() is None and shelf is not None:
                key = (each.demand, each.task_type, each.needs_journal)
                if self.classes.get(key) is each:
                    del self.classes[key]
                del self.live[each]
                self.tail.forget(each)
                each.stand_on(None)
                shelf.new_classes.pop(each, None)
                del shelf.classes[each]
                if not shelf.classes:
                    self._remove(shelf)
        self.retire_at = max(LIVE_CLASSES, 2 * len(self.live))

    def _remove(self, shelf: Shelf) -> None:
        del self.shelves[shelf.key]
        self.ready.pop(shelf, None)
        for device_id in shelf.fitting:
            self.shelves_of[device_id].pop(shelf, None)

    @staticmethod
    def _match(shelf: Shelf, device: Device, mine: dict[Shelf, None]) -> None:
        if shelf.misfit(device):
            shelf.drop_device(device)
            mine.pop(shelf, None)
        else:
            shelf.add_device(device)
            mine[shelf] = None


def _smoothed(known: tuple[int, float] | None, value: float) -> tuple[int, float]:
    """Count and exponentially smoothed mean; the first few weigh the same."""
    if known is None:
        return 1, value
    count, mean = known
    weight = max(1.0 / (count + 1), 0.1)
    return count + 1, mean + weight * (value - mean)
