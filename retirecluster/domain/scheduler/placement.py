"""Which task goes to which device next, without ever scanning all tasks or all devices.

Tasks that ask for the same wait in one `RequirementClass`: a heap ordered by a key that never changes. The
key is the cluster's running time at submission, less `PRIORITY_BOOST_S` for each step of priority. So within
a priority the first come goes first, a higher priority goes ahead, and yet nothing starves: a `normal` task
that has waited `PRIORITY_BOOST_S` longer than a `high` one goes before it. A task that lost its device keeps
its key, so it goes to the head and not to the end.

Each class that is in use keeps a heap of offers from devices that fit it, best first. An offer is void once
its device has changed since (`Device.version`); a device makes new ones whenever it changes and has room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from attrs import define, field

from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler.picture import Device, Task

PRIORITY_BOOST_S = 3600.0
LIVE_CLASSES = 256
"""Classes without tasks that still keep their offers up to date; beyond, they are rebuilt when needed."""
MEASURED_ENOUGH = 3

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

    def offer(self, device: Device, mean_s: float | None) -> None:
        """Note that `device` has room, and how good it would be."""
        heappush(self.offers, (cost(device, self.task_type, mean_s), device.device_id, device.version))
        if len(self.offers) > 64 + 4 * len(self.fitting):
            self._keep_offers(lambda device_id, version: self.fitting[device_id].version == version)

    def add_device(self, device: Device) -> None:
        self.fitting[device.device_id] = device

    def drop_device(self, device: Device) -> None:
        if self.fitting.pop(device.device_id, None) is not None:
            self._keep_offers(lambda device_id, _: device_id != device.device_id)

    def best_device(self) -> Device | None:
        """The best device with room for one more of these tasks, or None. Void offers are dropped on the way."""
        demand = self.demand
        while self.offers:
            _, device_id, version = self.offers[0]
            device = self.fitting[device_id]
            if (
                device.version == version
                and device.accepts
                and device.fits_now(demand.min_cpu_cores, demand.min_memory_bytes, self.task_type)
            ):
                return device
            heappop(self.offers)
        return None

    def _keep_offers(self, wanted: Callable[[str, int], bool]) -> None:
        self.offers = [offer for offer in self.offers if wanted(offer[1], offer[2])]
        heapify(self.offers)


def cost(device: Device, task_type: str, mean_s: float | None) -> float:
    """How unattractive a device is for one more task of this type: how busy it is, over its speed.

    `mean_s` is the cluster's mean execution time of the type. Where the device has run the type often enough
    its speed is that mean over its own; else it is what its benchmark said.
    """
    count, own_s = device.durations.get(task_type, (0, 0.0))
    speed = device.profile.speed
    if count >= MEASURED_ENOUGH and mean_s is not None and own_s > 0:
        speed = mean_s / own_s
    load = len(device.attempts) / device.profile.slots
    # What the owner does with the device; while tasks of ours run, the figure is mostly ours.
    foreign = 0.0 if device.attempts else device.cpu_share
    return (1.0 + load + foreign) / max(speed, 1e-3)


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
    type_means: dict[str, tuple[int, float]] = field(factory=dict)
    retire_at: int = LIVE_CLASSES
    """How many live classes are too many; doubles where they are all needed, so that the walk is paid for."""

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
                each.offer(device, self._mean_s(each.task_type))
                if each.waiting:
                    self.ready[each] = None

    def profile_changed(self, device: Device) -> None:
        """A device registered, or what it is was changed: match it with the live classes again."""
        mine = self.classes_of.setdefault(device.device_id, {})
        for each in self.live:
            self._match(each, device, mine)
        self.device_changed(device)

    def forget(self, device: Device) -> None:
        """A device was removed."""
        for each in self.classes_of.pop(device.device_id, {}):
            each.drop_device(device)

    def grants(self) -> Iterator[tuple[Task, Device]]:
        """Pairs to grant, in order. The caller grants each pair (`device_changed`) before it asks for the next."""
        heads: list[tuple[Waiting, RequirementClass]] = []
        for each in list(self.ready):
            self._enter(each, heads)
        while heads:
            entry, each = heappop(heads)
            device = each.best_device()
            if device is None or self._outranked(entry, each, device):
                self.ready.pop(each, None)
                continue
            heappop(each.waiting)
            yield entry[3], device
            self._enter(each, heads)

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
        device.durations[task_type] = _smoothed(device.durations.get(task_type), execution_s)
        self.type_means[task_type] = _smoothed(self.type_means.get(task_type), execution_s)
        device.mean_s = execution_s if device.mean_s is None else 0.7 * device.mean_s + 0.3 * execution_s

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
                queue.offer(device, self._mean_s(queue.task_type))

    def _retire_idle(self) -> None:
        """Drop every class that has no task; `class_for` and `push` bring it back when it is needed."""
        for each in list(self.live):
            if each.head() is None:
                key = (each.demand, each.task_type, each.needs_journal)
                if self.classes.get(key) is each:
                    del self.classes[key]
                del self.live[each]
                self.ready.pop(each, None)
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

    def _mean_s(self, task_type: str) -> float | None:
        found = self.type_means.get(task_type)
        return found[1] if found else None


def _smoothed(known: tuple[int, float] | None, value: float) -> tuple[int, float]:
    """Count and exponentially smoothed mean; the first few weigh the same."""
    if known is None:
        return 1, value
    count, mean = known
    weight = max(1.0 / (count + 1), 0.1)
    return count + 1, mean + weight * (value - mean)
