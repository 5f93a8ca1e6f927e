"""The single steps of the lifecycle model: what people, devices, lines, time and crashes do."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from twisted.internet.error import ConnectionDone, ConnectionLost

from retirecluster.domain import failpoints
from tests.store.invariants import Invariants
from tests.store.simulated_worker import AGREED, QUEUED, RUNNING
from tests.store.simulation import WHILE_WRITING
from tests.store.stage import DEVICES

NAMES = st.sampled_from(sorted(DEVICES))
KILLED_AT = (
    failpoints.AFTER_DECIDE,
    failpoints.AFTER_PERSIST,
    failpoints.AFTER_GRANT,
    failpoints.AFTER_RESULT,
    WHILE_WRITING,
)
STEP_S = 1.0


class Steps(Invariants):
    """One rule each."""

    @rule(
        count=st.integers(1, 4),
        hurried=st.booleans(),
        priority=st.sampled_from(["low", "normal", "high", "urgent"]),
        delivery=st.sampled_from(["at_least_once", "at_least_once", "at_most_once"]),
        on_disconnect=st.sampled_from(["keep", "stop"]),
        requirements=st.sampled_from([{}, {}, {"role": "mobile"}, {"min_cpu_cores": 2}, {"gpu": True}]),
        max_retries=st.integers(0, 3),
        timeout=st.sampled_from([300, 300, 1]),
        deadline_s=st.sampled_from([None] * 9 + [20.0]),
    )
    def submit(self, count: int, hurried: bool, **document: Any) -> None:
        self.request([{"task_type": "echo"} | document] * count)
        if not hurried:
            self.settle()

    @rule(agree=st.booleans(), hurried=st.booleans())
    def submit_verified(self, agree: bool, hurried: bool) -> None:
        """Its copies give the same everywhere, or never."""
        self.request([{"task_type": "echo", "verify": 2, "payload": {"message": AGREED if agree else "x"}}])
        if not hurried:
            self.settle()

    @rule(key=st.sampled_from("ab"), body=st.sampled_from([1, 1, 1, 2]), times=st.integers(1, 3), hurried=st.booleans())
    def submit_with_a_key(self, key: str, body: int, times: int, hurried: bool) -> None:
        """The same key, at once and again: before the first is on the disk, and after it."""
        for _ in range(times):
            self.request([{"task_type": "echo", "payload": {"message": body}, "idempotency_key": key}])
        if not hurried:
            self.settle()

    @precondition(lambda self: self.main.scheduler.ledger.tasks)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "cancel", "hold", "release"]))
    def person(self, data: Any, what: str) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.main.scheduler.ledger.tasks)))
        cluster = self.main.rooms.cluster
        doing = cluster.release(task_id) if what == "release" else getattr(cluster, what)(task_id, "a person")
        self.act(doing, "conflict", "not_found")

    @rule(name=NAMES, rare=st.integers(0, 2), action=st.sampled_from(["drain", "cordon"]), on=st.booleans())
    def flag(self, name: str, rare: int, action: str, on: bool) -> None:
        if name in self.main.scheduler.devices and not (on and rare):
            deadline_s = 1.0 if on and action == "drain" else None
            doing = self.main.rooms.cluster.device_action(name, action if on else f"un{action}", deadline_s)
            self.act(doing)

    @rule(name=NAMES, rare=st.integers(0, 3))
    def remove(self, name: str, rare: int) -> None:
        if name in self.main.scheduler.devices and not rare:
            self.act(self.main.rooms.cluster.remove_device(name), "conflict")

    @rule(prompt=st.booleans())
    def lines_are(self, prompt: bool) -> None:
        """Prompt: whatever is said arrives at once and in order. Else it waits for the rules below."""
        self.prompt = prompt
        self.settle()

    @precondition(lambda self: self.ways())
    @rule(data=st.data(), count=st.integers(1, 3), again=st.sampled_from([False, False, True]), hurried=st.booleans())
    def something_arrives(self, data: Any, count: int, again: bool, hurried: bool) -> None:
        """Out of turn; once, or (later) once more; on a line that is open, or long over."""
        for _ in range(count):
            ways = self.ways()
            if not ways:
                break
            link, way = ways[data.draw(st.integers(0, len(ways) - 1))]
            self.arrives(link, way, data.draw(st.integers(0, len(way) - 1)), again)
            if not hurried:
                self.settle()
        self.settle()

    @rule()
    def everything_arrives(self) -> None:
        self.all_arrive()
        self.settle()

    @initialize()
    def first_devices(self) -> None:
        for name in DEVICES:
            self.connects(name)
        self.all_arrive()

    @rule(name=NAMES)
    def connects(self, name: str) -> None:
        worker = self.workers[name]
        if worker.link is None:
            worker.connect(self.main)
            assert worker.link is not None
            self.links.append(worker.link)
            self.settle()

    @precondition(lambda self: not all(worker.link for worker in self.workers.values()))
    @rule()
    def everybody_comes_back(self) -> None:
        for name in DEVICES:
            self.connects(name)

    @rule(name=NAMES)
    def heartbeat(self, name: str) -> None:
        self.workers[name].beat()
        self.settle()

    @precondition(lambda self: self.journals(QUEUED))
    @rule(data=st.data(), told=st.sampled_from([True, True, True, False]))
    def start(self, data: Any, told: bool) -> None:
        """A process begins."""
        name, key = data.draw(st.sampled_from(self.journals(QUEUED)))
        self.workers[name].begin(key, told)
        self.settle()

    @precondition(lambda self: self.journals(RUNNING))
    @rule(
        data=st.data(),
        status=st.sampled_from(["completed", "failed", "failed", "timeout"]),
        seconds=st.sampled_from([0.01, 5.0]),
    )
    def end(self, data: Any, status: str, seconds: float) -> None:
        name, key = data.draw(st.sampled_from(self.journals(RUNNING)))
        self.workers[name].finish(key, status, seconds)
        self.settle()

    @precondition(lambda self: self.journals(QUEUED))
    @rule(data=st.data())
    def refuse(self, data: Any) -> None:
        name, key = data.draw(st.sampled_from(self.journals(QUEUED)))
        self.workers[name].refuse(key)
        self.settle()

    @rule(name=NAMES, how=st.sampled_from([ConnectionDone, ConnectionLost, None]), lost=st.booleans())
    def line_breaks(self, name: str, how: type[Exception] | None, lost: bool) -> None:
        """The worker notices; the main at once, or only later. What was under way is lost, or comes late."""
        link = self.workers[name].link
        if link is None:
            return
        self.workers[name].line_lost()
        if how is not None:
            link.lost_at_main(how)
        if lost:
            link.to_main.clear()
            link.to_worker.clear()
        link.to_main[:] = [each for each in link.to_main if each["message_type"] != "register"]
        self.settle()

    @rule(name=NAMES, noticed=st.booleans())
    def worker_is_killed(self, name: str, noticed: bool) -> None:
        worker = self.workers[name]
        link = worker.link
        worker.killed()
        if link is not None and noticed:
            link.lost_at_main()
        self.settle()

    @rule(name=NAMES)
    def worker_leaves(self, name: str) -> None:
        self.workers[name].leaves()
        self.settle()

    @rule(
        seconds=st.sampled_from([0.1, 1.0, 5.0, 16.0, 40.0]),
        beating=st.booleans(),
        wall_jump_s=st.sampled_from([0.0, 0.0, 3e8, -3e8]),
    )
    def time_passes(self, seconds: float, beating: bool, wall_jump_s: float) -> None:
        """`beating`: workers that are connected report every few seconds, as far as the lines carry."""
        self.wall_offset_s = self.main.wall_offset_s = self.main.wall_offset_s + wall_jump_s
        left_s = seconds
        while left_s > 0:
            step_s = min(left_s, STEP_S, *self.until_stops())
            left_s -= step_s
            self.main.clock.advance(step_s)
            for worker in self.workers.values():
                worker.act()
                if beating and int(self.clock_s() / 8) != int((self.clock_s() - step_s) / 8):
                    worker.beat()
            self.lines_that_the_main_gave_up()
            self.settle()

    @precondition(lambda self: self.main.scheduler.ledger.tasks)
    @rule(luck=st.integers(0, 1), where=st.sampled_from([None, *KILLED_AT]), back=st.booleans())
    def main_is_killed(self, luck: int, where: str | None, back: bool) -> None:
        """At once, or when it next comes to a moment between deciding, writing and telling."""
        if luck:
            return
        if where is None:
            self.main.die()
        else:
            self.main.armed = where
        self.settle()
        if back:
            self.everybody_comes_back()

    @rule()
    def all_is_said(self) -> None:
        """Whatever is under way arrives, and after one heartbeat each the main and its devices agree."""
        self.all_arrive()
        for worker in self.workers.values():
            worker.beat()
        self.all_arrive()
        self.settle()
        if not self.main.dead:
            self.check_agreement()
