"""Placement strategies beside each other: 30 mixed devices, simulated, with the real scheduler of the domain.

The model, which is all there is to it:

* Devices as in `KINDS`: from six Pi Zeros to two workstations. A slot of speed 1 does one second of work a second. A
  device's true speed is what its benchmark said times a lognormal error (sigma 0.15), drawn once.
* A task has work in seconds at speed 1, times lognormal noise (sigma 0.1) that no strategy knows. It takes its work
  over the true speed of its device; slots do not slow each other down. Tasks are never lost.
* Devices report every 60 s: batteries that empty while they are not charged, temperatures that rise with the load.
* Energy: a device with nothing to do sleeps and draws nothing; one that works draws its idle power and, for each busy
  slot, its share of the rest.
* `learned`: each type was run for a while before, so that there are measured durations; `cold`: nothing is known.

Compared with: `random` (any device with room), `least_loaded` (the smallest share of slots taken), and a lower bound
that no schedule can beat, even one that knows the future: work over speed from each arrival on, and for each k the
time that the k longest tasks need at least, as none of them can be cut in two. `oracle` is a schedule by somebody who
knows every duration (longest first, to where it ends first): what of the gap to the bound is the bound's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from attrs import define, field, frozen
from measure import report

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.scheduler import Assign, Moment, Scheduler, Settings
from retirecluster.domain.scheduler.scoring import STRATEGIES
from retirecluster.domain.tasks import TaskSpec, spec_from_document

GIB = 2**30
REPORT_S = 60.0


@frozen
class Kind:
    """Devices of one kind; `idle_w` and `full_w` in watts, `battery_wh` for those that run on a battery."""

    name: str
    count: int
    architecture: str
    role: str
    slots: int
    memory_gib: float
    speed: float
    idle_w: float
    full_w: float
    battery_wh: float = 0.0


KINDS = (
    Kind("pi-zero", 6, "armv6l", "compute", 1, 0.5, 0.06, 0.4, 1.3),
    Kind("pi-4", 6, "aarch64", "compute", 4, 4, 0.35, 2.7, 6.5),
    Kind("phone", 4, "aarch64", "mobile", 4, 4, 0.5, 0.6, 4.0),
    Kind("phone-on-battery", 4, "aarch64", "mobile", 4, 4, 0.5, 0.6, 4.0, battery_wh=12.0),
    Kind("old-laptop", 3, "x86_64", "compute", 2, 8, 0.8, 9.0, 30.0),
    Kind("laptop-on-battery", 2, "x86_64", "compute", 2, 8, 0.9, 7.0, 26.0, battery_wh=40.0),
    Kind("desktop", 3, "x86_64", "compute", 4, 16, 1.2, 25.0, 85.0),
    Kind("workstation", 2, "x86_64", "compute", 8, 64, 2.2, 50.0, 220.0),
)


@define(eq=False)
class Machine:
    """One simulated device."""

    name: str
    kind: Kind
    speed: float
    busy: int = 0
    since_s: float = 0.0
    used_j: float = 0.0
    memory_free: float = 0.0

    def account(self, now_s: float) -> None:
        """Add up what it drew until now."""
        if self.busy:
            kind = self.kind
            power_w = kind.idle_w + (kind.full_w - kind.idle_w) * self.busy / kind.slots
            self.used_j += power_w * (now_s - self.since_s)
        self.since_s = now_s

    def metrics(self) -> dict[str, object]:
        """What it reports."""
        kind = self.kind
        found: dict[str, object] = {"temperature": 35.0 + 30.0 * self.busy / kind.slots}
        if kind.battery_wh:
            level = max(0.0, 100.0 * (1 - self.used_j / 3600 / kind.battery_wh))
            found["battery"] = {"level": level, "charging": False}
        return found


@frozen
class Job:
    """One task: `work_s` is the truth about it."""

    number: int
    at_s: float
    task_type: str
    work_s: float
    memory_gib: float = 0.0

    def runs_on(self, machine: Machine) -> bool:
        return self.memory_gib <= machine.kind.memory_gib


Places = list[tuple[Job, Machine]]


class Baseline:
    """First come, first served, on a device that `choose` picks among those with room."""

    def __init__(self, machines: list[Machine], choose: Callable[[list[Machine]], Machine]) -> None:
        self.machines, self.choose = machines, choose
        self.waiting: list[Job] = []
        self.free_gib = {each.name: each.kind.memory_gib for each in machines}

    def submit(self, jobs: list[Job], now_s: float) -> None:
        self.waiting += jobs

    def place(self, now_s: float) -> Places:
        places, left, taken = Places(), [], {each.name: each.busy for each in self.machines}
        for index, job in enumerate(self.waiting):
            free = [each for each in self.machines if taken[each.name] < each.kind.slots]
            if not free:
                left += self.waiting[index:]
                break
            fit = [each for each in free if job.memory_gib <= self.free_gib[each.name]]
            if not fit:
                left.append(job)
                continue
            machine = self.choose(fit)
            taken[machine.name] += 1
            self.free_gib[machine.name] -= job.memory_gib
            places.append((job, machine))
        self.waiting = left
        return places

    def ended(self, job: Job, machine: Machine, now_s: float, took_s: float) -> None:
        self.free_gib[machine.name] += job.memory_gib

    def reported(self, machine: Machine, now_s: float) -> None: ...

    def next_timer_at(self) -> float | None:
        return None


class Real:
    """The domain's scheduler, with a strategy."""

    def __init__(self, machines: list[Machine], strategy: str) -> None:
        self.by_name = {each.name: each for each in machines}
        self.scheduler = Scheduler.create(Settings(), Random(1), Moment(0.0, 1e9))
        self.scheduler.queues.use(STRATEGIES[strategy])
        self.jobs: dict[str, Job] = {}
        self.specs: dict[tuple[str, float], TaskSpec] = {}
        for each in machines:
            kind = each.kind
            document = {
                "device_info": {"role": kind.role, "architecture": kind.architecture, "platform": "linux"},
                "hardware_specs": {"cpu_cores": kind.slots, "memory_total": int(kind.memory_gib * GIB)},
                "slots": kind.slots,
                "speed": kind.speed,
                "labels": {"watts": str(kind.full_w)},
                "attempts": [],
            }
            self.scheduler.register(profile_from_register(each.name, document), document, {}, Moment(0.0, 1e9))

    def spec(self, job: Job) -> TaskSpec:
        key = job.task_type, job.memory_gib
        if key not in self.specs:
            wish = {"min_memory_gb": job.memory_gib} if job.memory_gib else {}
            document = {"task_type": job.task_type, "payload": {"message": "x"}, "requirements": wish}
            document["payload"] = {"duration_s": 1} if job.task_type == "sleep" else document["payload"]
            document["payload"] = {} if job.task_type == "system_info" else document["payload"]
            self.specs[key] = spec_from_document(document)
        return self.specs[key]

    def submit(self, jobs: list[Job], now_s: float) -> None:
        tasks = self.scheduler.submit([self.spec(job) for job in jobs], Moment(now_s, 1e9 + now_s))
        self.jobs.update({task.task_id: job for task, job in zip(tasks, jobs, strict=True)})

    def place(self, now_s: float) -> Places:
        now = Moment(now_s, 1e9 + now_s)
        self.scheduler.run_timers(now)
        turn = self.scheduler.take_turn(now)
        grants = [each for each in turn.effects if isinstance(each, Assign)]
        for each in grants:
            self.scheduler.attempts.started(each.task, each.attempt, now)
        return [(self.jobs[each.task.task_id], self.by_name[each.device_id]) for each in grants]

    def ended(self, job: Job, machine: Machine, now_s: float, took_s: float) -> None:
        held = self.scheduler.devices[machine.name].attempts
        task = next(task for task_id, task in held.items() if self.jobs[task_id] is job)
        assert task.attempt is not None
        result = {"status": "completed", "execution_time": took_s, "epoch": task.epoch}
        self.scheduler.attempts.result(task, task.attempt, result, Moment(now_s, 1e9 + now_s))

    def reported(self, machine: Machine, now_s: float) -> None:
        device = self.scheduler.devices[machine.name]
        self.scheduler.heartbeat(device, machine.metrics(), None, Moment(now_s, 1e9 + now_s))

    def next_timer_at(self) -> float | None:
        return self.scheduler.next_timer_at()


@define(eq=False)
class Run:
    """One run over a simulated clock."""

    machines: list[Machine]
    placer: Baseline | Real
    events: list[tuple[float, int, str, object]] = field(factory=list)
    count: int = 0
    done: int = 0
    last_end_s: float = 0.0

    def add(self, at_s: float, kind: str, what: object) -> None:
        self.count += 1
        heappush(self.events, (at_s, self.count, kind, what))

    def play(self, jobs: list[Job], began_s: float = 0.0) -> float:
        """Run all jobs; returns when the last one ended, in seconds after `began_s`."""
        goal = self.done + len(jobs)
        for at_s in sorted({job.at_s for job in jobs}):
            self.add(began_s + at_s, "submit", [job for job in jobs if job.at_s == at_s])
        self.add(began_s, "report", None)
        while self.done < goal:
            timer_s = self.placer.next_timer_at()
            now_s = self.events[0][0] if timer_s is None else min(self.events[0][0], timer_s)
            while self.events and self.events[0][0] <= now_s:
                self.happens(now_s, *heappop(self.events)[2:])
            for job, machine in self.placer.place(now_s):
                machine.account(now_s)
                machine.busy += 1
                took_s = job.work_s / machine.speed
                self.add(now_s + took_s, "end", (job, machine, took_s))
        self.events = [event for event in self.events if event[2] != "report"]
        return self.last_end_s - began_s

    def happens(self, now_s: float, kind: str, what: object) -> None:
        if kind == "submit":
            self.placer.submit(what, now_s)  # type: ignore[arg-type]
        elif kind == "report":
            for machine in self.machines:
                machine.account(now_s)
                self.placer.reported(machine, now_s)
            self.add(now_s + REPORT_S, "report", None)
        else:
            job, machine, took_s = what  # type: ignore[misc]
            machine.account(now_s)
            machine.busy -= 1
            self.done, self.last_end_s = self.done + 1, now_s
            self.placer.ended(job, machine, now_s, took_s)


def fleet(random: Random) -> list[Machine]:
    """The 30 devices with their true speeds."""
    return [
        Machine(f"{kind.name}-{number}", kind, kind.speed * random.lognormvariate(0, 0.15))
        for kind in KINDS
        for number in range(kind.count)
    ]


# Task types are built-in ones, as the scheduler takes no others; only their durations matter here.
SHORT, MIDDLE, LONG = "echo", "system_info", "sleep"


def noisy(random: Random, work_s: float) -> float:
    return work_s * random.lognormvariate(0, 0.1)


def batch_short(random: Random) -> list[Job]:
    return [Job(n, 0.0, SHORT, noisy(random, 20)) for n in range(3000)]


def batch_long(random: Random) -> list[Job]:
    return [Job(n, 0.0, LONG, noisy(random, 600)) for n in range(150)]


def few_long(random: Random) -> list[Job]:
    return [Job(n, 0.0, LONG, noisy(random, 600)) for n in range(40)]


def mixed(random: Random) -> list[Job]:
    works = {SHORT: 5, MIDDLE: 60, LONG: 600}
    types = [random.choices((SHORT, MIDDLE, LONG), (70, 25, 5))[0] for _ in range(1500)]
    return [Job(n, 0.0, each, noisy(random, works[each])) for n, each in enumerate(types)]


def arrivals(random: Random) -> list[Job]:
    jobs, at_s = [], 0.0
    for number in range(3000):
        at_s += random.expovariate(0.9)
        jobs.append(Job(number, at_s, MIDDLE, noisy(random, 60)))
    return jobs


def memory(random: Random) -> list[Job]:
    return [Job(n, 0.0, MIDDLE, noisy(random, 60), memory_gib=3.0 if n % 3 == 0 else 0.0) for n in range(900)]


WORKLOADS = (batch_short, batch_long, few_long, mixed, arrivals, memory)


def lower_bound(jobs: list[Job], machines: list[Machine]) -> float:
    """No schedule ends sooner than this, in seconds."""
    bounds = []
    for wish in {job.memory_gib for job in jobs}:
        some = [job for job in jobs if job.memory_gib >= wish]
        slots = [each.speed for each in machines for _ in range(slots_for(each, wish))]
        left_s = sum(job.work_s for job in some)
        for job in sorted(some, key=lambda job: job.at_s):
            bounds.append(job.at_s + left_s / sum(slots))
            left_s -= job.work_s
        longest = sorted((job.work_s for job in some), reverse=True)
        # The k longest tasks have at least `work_s` each, and a slot does whole ones alone.
        bounds += [time_for(k, longest[k - 1], slots) for k in range(1, len(longest) + 1, max(1, len(longest) // 100))]
    return max(bounds)


def slots_for(machine: Machine, memory_gib: float) -> int:
    if not memory_gib:
        return machine.kind.slots
    return min(machine.kind.slots, int(machine.kind.memory_gib // memory_gib))


def time_for(count: int, work_s: float, slots: list[float]) -> float:
    """The earliest at which slots of these speeds can have done `count` tasks of `work_s` each."""
    low, high = 0.0, count * work_s / max(slots)
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        enough = sum(int(middle * speed / work_s) for speed in slots) >= count
        low, high = (low, middle) if enough else (middle, high)
    return low


def oracle(jobs: list[Job], machines: list[Machine]) -> float | None:
    """Longest first, each to the slot where it ends first, every duration known; None with arrivals or memory."""
    if any(job.at_s or job.memory_gib for job in jobs):
        return None
    slots = [[0.0, each.speed] for each in machines for _ in range(each.kind.slots)]
    for job in sorted(jobs, key=lambda job: -job.work_s):
        best = min(slots, key=lambda slot: slot[0] + job.work_s / slot[1])
        best[0] += job.work_s / best[1]
    return max(slot[0] for slot in slots)


def warm_up(jobs: list[Job], random: Random) -> list[Job]:
    """Some earlier tasks of each type, enough that every device has run a few."""
    works: dict[str, float] = {}
    for job in jobs:
        works.setdefault(job.task_type, job.work_s)
    return [Job(-n, 0.0, each, noisy(random, work_s)) for each, work_s in works.items() for n in range(400)]


def play(make: Callable[[Random], list[Job]], name: str, seed: int, learned: bool) -> tuple[float, float]:
    """(makespan in s, energy in Wh) of one workload with one way of placing."""
    machines = fleet(Random(seed))
    jobs, random = make(Random(seed + 1)), Random(seed + 2)
    if name == "random":
        placer: Baseline | Real = Baseline(machines, random.choice)
    elif name == "least_loaded":
        placer = Baseline(machines, lambda free: min(free, key=lambda each: each.busy / each.kind.slots))
    else:
        placer = Real(machines, name)
    run = Run(machines, placer)
    began_s = 0.0
    if learned and isinstance(placer, Real):
        began_s = run.play(warm_up(jobs, Random(seed + 3)))
        for each in machines:
            each.account(began_s)
            each.used_j = 0.0
    taken_s = run.play(jobs, began_s)
    return taken_s, sum(each.used_j for each in machines) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ways of placing to try, with commas between them")
    parser.add_argument("--seeds", type=int, default=5, help="fleets and noises to average over")
    parser.add_argument("--first", type=int, default=0, help="the first of the seeds")
    options = parser.parse_args()
    for make in WORKLOADS:
        name, seeds = make.__name__, range(options.first, options.first + options.seeds)
        bounds = [lower_bound(make(Random(100 * s + 1)), fleet(Random(100 * s))) for s in seeds]
        known = [oracle(make(Random(100 * s + 1)), fleet(Random(100 * s))) for s in seeds]
        oracles = [best / bound for best, bound in zip(known, bounds, strict=True) if best is not None]
        report(f"{name}: bound", makespan_s=round(mean(bounds)), oracle=round(mean(oracles), 3) if oracles else None)
        for way in options.only.split(",") if options.only else ("random", "least_loaded", *STRATEGIES):
            figures = {}
            for learned in (True, False) if way in STRATEGIES else (False,):
                played = [play(make, way, 100 * s, learned) for s in seeds]
                ratio = mean([taken_s / bound for (taken_s, _), bound in zip(played, bounds, strict=True)])
                figures["of_bound" if learned else "of_bound_cold"] = round(ratio, 3)
                figures.setdefault("energy_wh", round(mean([energy for _, energy in played]), 1))
            report(f"{name}: {way}", **figures)


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
