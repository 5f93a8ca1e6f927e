"""Tasks that wait, by what they ask for, and the devices that have it.

Tasks of one `RequirementClass` ask for exactly the same. Classes that ask for nearly the same sizes (see `stepped`) and
otherwise for the same stand on one `Shelf`. A device makes one offer to each shelf of which it could have something,
however many classes are on it; which classes it has room for is looked at one by one, the one whose first task came
first before the others. So thousands of tasks that all ask for another amount of memory cost little more than as many
that ask for the same.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from math import floor, frexp, ldexp

from attrs import define, evolve, field

from retirecluster.domain.devices import DeviceProfile
from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler.picture import Device, Task
from retirecluster.domain.scheduler.records import SHOWN
from retirecluster.domain.scheduler.tail import REFRESH_S, TailWait, fastest_of

HEAP_LOOKS = 3 * SHOWN
"""Offers looked at, void ones included, to find the best few."""

Waiting = tuple[float, int, int, Task]
"""(order_s, task seq, token, task): the first two decide, the token tells whether the entry still holds."""
Place = tuple[float, int, int, "RequirementClass"]
"""The same of a class's first task, among all classes on its shelf."""


def _never(device: Device) -> bool:
    return False


@define(eq=False)
class RequirementClass:
    """Tasks that ask for the same thing, in a heap by a key that never changes."""

    demand: Requirements
    task_type: str
    needs_journal: bool
    waiting: list[Waiting] = field(factory=list)
    void: int = 0
    """Entries of `waiting` whose task has left by another way; kept below half."""
    wait: TailWait | None = None
    """What its first task waits for rather than begin on a slow device."""
    shelf: Shelf | None = None
    """Where it stands; None while it is not in use."""
    place: Place | None = None
    """Its entry among the heads of its shelf; None while nothing waits."""
    _count: tuple[int, int] = (-1, 0)

    def misfit(self, device: Device) -> list[str]:
        """Every lasting reason why this device cannot run these tasks."""
        return unmet(self.demand, self.task_type, self.needs_journal, device.profile)

    def push(self, task: Task) -> None:
        task.queued_token += 1
        heappush(self.waiting, (task.order_s, task.seq, task.queued_token, task))
        self._settle()

    def pop(self) -> None:
        """The first task waits no longer: it is granted."""
        heappop(self.waiting)
        self._settle()

    def leave(self, task: Task) -> None:
        """`task` no longer waits here (cancelled, held): its entry is void."""
        task.queued_token += 1
        self.void += 1
        if self.void > 64 and self.void * 2 > len(self.waiting):
            self.waiting = [entry for entry in self.waiting if entry[2] == entry[3].queued_token]
            heapify(self.waiting)
            self.void = 0
        self._settle()

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

    def stand_on(self, shelf: Shelf | None) -> None:
        """Move to a shelf, or off it (None)."""
        if self.shelf is not None:
            self.shelf.replace(self.place, None)
        self.shelf, self.place, self._count = shelf, None, (-1, 0)
        self._settle()

    def _settle(self) -> None:
        """Stand where the first task belongs."""
        if self.shelf is None:
            return
        entry, place = self.head(), self.place
        if entry is None:
            new = None
        elif place is not None and place[:3] == entry[:3]:
            return
        else:
            new = (*entry[:3], self)
        self.shelf.replace(place, new)
        self.place = new

    def suits(self, profile: DeviceProfile) -> bool:
        """Whether a device that fits the shelf is large enough for this class."""
        demand = self.demand
        return (
            demand.min_cpu_cores <= profile.cpu_cores
            and demand.min_memory_bytes <= profile.memory_bytes
            and demand.min_storage_bytes <= profile.storage_bytes
        )

    def fits(self, device: Device) -> bool:
        """Whether the device could run these tasks, were it there and idle."""
        there = self.shelf.fitting.get(device.device_id) if self.shelf is not None else None
        return there is not None and self.suits(there.profile)

    def devices(self) -> Iterator[Device]:
        """All devices that fit."""
        return (each for each in (self.shelf.fitting.values() if self.shelf else ()) if self.suits(each.profile))

    def count(self) -> int:
        """How many devices fit."""
        shelf = self.shelf
        if shelf is None:
            return 0
        if self.demand == shelf.least:
            return len(shelf.fitting)
        if self._count[0] != shelf.changes:
            self._count = (shelf.changes, sum(1 for _ in self.devices()))
        return self._count[1]

    def has_room(self, device: Device) -> bool:
        """Whether a device that fits the shelf can be given one more of these tasks now."""
        demand = self.demand
        return (
            device.accepts
            and device.fits_now(demand.min_cpu_cores, demand.min_memory_bytes, self.task_type)
            and demand.min_storage_bytes <= device.profile.storage_bytes
        )

    def best_device(self) -> Device | None:
        """The best device with room for one more of these tasks, or None."""
        return None if self.shelf is None else self.shelf.best(self.has_room)

    def best_offers(self) -> list[tuple[float, Device]]:
        """The best `SHOWN` devices with room and their scores, best first, without a look at all of them."""
        return [] if self.shelf is None else self.shelf.best_few(self.has_room)

    def fastest(self, now_mono_s: float, by: Callable[[Device], float]) -> list[Device]:
        """The fastest devices that fit, the fastest first: as they were a few seconds ago."""
        found = [] if self.shelf is None else self.shelf.fastest(now_mono_s, by)
        return [device for device in found if self.suits(device.profile)]

    def power(self, now_mono_s: float, by: Callable[[Device], float]) -> float:
        """What the fastest devices do together, in slots of a device of speed 1; more than that never counts."""
        return 0.0 if self.shelf is None else self.shelf.power(now_mono_s, by)


@define(eq=False)
class Shelf:
    """Classes that ask for nearly the same, and devices that have at least the least of it."""

    key: tuple[Requirements, str, bool]
    least: Requirements
    """What every class on it asks for at least; all demands but sizes are the same."""
    classes: dict[RequirementClass, None] = field(factory=dict)
    heads: list[Place] = field(factory=list)
    """The first task of each class, sorted."""
    offers: list[tuple[float, str, int]] = field(factory=list)
    """A heap of (-score, device id, its version): an offer is void once its device has changed since."""
    fitting: dict[str, Device] = field(factory=dict)
    changes: int = 0
    """Grows with each change of `fitting`."""
    passed: list[tuple[float, str, int]] = field(factory=list)
    """Offers that are set aside for the rest of a turn: whoever comes later in it cannot have them either."""
    new_devices: dict[str, Device] = field(factory=dict)
    """Devices that have changed since the last turn: the others have nothing for whoever waited then."""
    new_classes: dict[RequirementClass, None] = field(factory=dict)
    """Classes that have a new task since the last turn, or are to be looked at again for another reason."""
    _fastest: list[Device] = field(factory=list)
    _fastest_at_mono_s: float = -REFRESH_S
    _power: float = 0.0

    def replace(self, old: Place | None, new: Place | None) -> None:
        """A class has another first task."""
        if old is not None:
            del self.heads[bisect_left(self.heads, old)]
        if new is not None:
            insort(self.heads, new)

    def misfit(self, device: Device) -> bool:
        """Whether a device has something for no class on it."""
        return bool(unmet(self.least, self.key[1], self.key[2], device.profile))

    def offer(self, device: Device, score: float) -> None:
        """Note that `device` has room, and how good it would be."""
        heappush(self.offers, (-score, device.device_id, device.version))
        if len(self.offers) > 64 + 4 * len(self.fitting):
            self.offers = [each for each in self.offers if self.fitting[each[1]].version == each[2]]
            heapify(self.offers)
        if self.heads:
            self.new_devices[device.device_id] = device

    def add_device(self, device: Device) -> None:
        self.fitting[device.device_id] = device
        self.changes += 1

    def drop_device(self, device: Device) -> None:
        self.new_devices.pop(device.device_id, None)
        if self.fitting.pop(device.device_id, None) is not None:
            self.changes += 1
            self.offers = [each for each in self.offers if each[1] != device.device_id]
            heapify(self.offers)
            self.passed = [each for each in self.passed if each[1] != device.device_id]

    def forget_offers(self) -> None:
        """All devices are about to offer anew."""
        self.offers.clear()
        self.passed.clear()

    def has_room(self, device: Device) -> bool:
        """Whether a device that fits can be given a task that asks for the least now."""
        return device.fits_now(self.least.min_cpu_cores, self.least.min_memory_bytes, self.key[1])

    def is_open(self) -> bool:
        """Whether any device offers anything."""
        offers = self.offers
        while offers and self.fitting[offers[0][1]].version != offers[0][2]:
            heappop(offers)
        return bool(offers)

    def best(self, wanted: Callable[[Device], bool], passes: Callable[[Device], bool] = _never) -> Device | None:
        """The best device with an offer that is wanted, or None. Void offers are dropped on the way, and those of
        devices that `passes` names are set aside until the turn is over."""
        aside, found = [], None
        while found is None and self.is_open():
            device = self.fitting[self.offers[0][1]]
            if passes(device):
                self.passed.append(heappop(self.offers))
            elif wanted(device):
                found = device
            else:
                aside.append(heappop(self.offers))
        for offer in aside:
            heappush(self.offers, offer)
        return found

    def best_few(self, wanted: Callable[[Device], bool]) -> list[tuple[float, Device]]:
        """The best `SHOWN` devices that are wanted and their scores, without a look at the rest of the heap."""
        offers, found = self.offers, list[tuple[float, Device]]()
        places = [(offers[0], 0)] if offers else []
        for _ in range(HEAP_LOOKS):
            if not places or len(found) == SHOWN:
                break
            (cost, device_id, version), place = heappop(places)
            device = self.fitting[device_id]
            if device.version == version and wanted(device):
                found.append((-cost, device))
            for child in range(2 * place + 1, min(2 * place + 3, len(offers))):
                heappush(places, (offers[child], child))
        return found

    def next_for_new(self, after: Place | None, passes: Callable[[Place, Device], bool]) -> Place | None:
        """The first place, after that one, of a class for which a device that has changed has room. A device that
        `passes` a place has nothing for those behind it either, in this turn."""
        start = 0 if after is None else bisect_right(self.heads, after)
        for index in range(start, len(self.heads)):
            place = self.heads[index]
            for device in list(self.new_devices.values()):
                if place[3].has_room(device):
                    if not passes(place, device):
                        return place
                    del self.new_devices[device.device_id]
            if not self.new_devices:
                break
        return None

    def looked_at(self) -> None:
        """A turn is over: nothing is new, and what was set aside is on offer again."""
        for offer in self.passed:
            heappush(self.offers, offer)
        self.passed.clear()
        self.new_devices.clear()
        self.new_classes.clear()

    def fastest(self, now_mono_s: float, by: Callable[[Device], float]) -> list[Device]:
        """The fastest devices, the fastest first: as they were a few seconds ago."""
        self._refresh(now_mono_s, by)
        return [device for device in self._fastest if self.fitting.get(device.device_id) is device]

    def power(self, now_mono_s: float, by: Callable[[Device], float]) -> float:
        """What the fastest devices do together, in slots of a device of speed 1."""
        self._refresh(now_mono_s, by)
        return self._power

    def _refresh(self, now_mono_s: float, by: Callable[[Device], float]) -> None:
        if now_mono_s - self._fastest_at_mono_s >= REFRESH_S:
            self._fastest, self._fastest_at_mono_s = fastest_of(self.fitting, by), now_mono_s
            self._power = sum(by(device) * device.profile.slots for device in self._fastest)


def at_least(demand: Requirements) -> Requirements:
    """The demand with each size lowered to its step: what the demands of all classes of a shelf have in common."""
    return evolve(
        demand,
        min_cpu_cores=stepped(demand.min_cpu_cores),
        min_memory_bytes=int(stepped(demand.min_memory_bytes)),
        min_storage_bytes=int(stepped(demand.min_storage_bytes)),
    )


def stepped(size: float) -> float:
    """`size` lowered to the next step; there are four from each power of two to the next."""
    if size <= 0:
        return 0
    mantissa, exponent = frexp(size)
    return ldexp(floor(mantissa * 8) / 8, exponent)


def asks_for_less(demand: Requirements, least: Requirements) -> bool:
    """Whether one size of `demand` is below that of `least`."""
    return (
        demand.min_cpu_cores < least.min_cpu_cores
        or demand.min_memory_bytes < least.min_memory_bytes
        or demand.min_storage_bytes < least.min_storage_bytes
    )
