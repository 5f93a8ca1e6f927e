"""The lifecycle contract as a state machine: a whole main over a real database, devices that lie down and come back,
lines that delay, lose, repeat and reorder what is said, and a main that is killed at any moment.

The main is real but for the clock and the sockets (`simulation`). Devices follow the worker's rules (those of
`simulated_worker`): they keep a journal of what they were given, started and finished, and claim it when they register.

I1 to I16 are asserted here: most in `invariants`, after every step; I4, I7, I13 and I16 in `stage`, where the main says
or decides something; I5 and I11 there, where a process begins; I14 where everything has been said (`all_is_said`);
I12 at the end. I17 is in tests/main/test_bounds.py.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule
from twisted.internet.error import ConnectionDone, ConnectionLost

from retirecluster.domain.lifecycle import State
from tests.store.invariants import CRASHES
from tests.store.simulated_worker import QUEUED, RUNNING
from tests.store.simulation import Link, Message
from tests.store.steps import KILLED_AT, NAMES, Steps


class Lifecycle(Steps):
    """The steps, and steps in the order in which they hurt most: they seldom come together like this by chance."""

    @rule()
    def all_begin(self) -> None:
        """Whatever waits on a device starts."""
        self.all_arrive()
        for worker in self.workers.values():
            for key in worker.keys(QUEUED):
                worker.begin(key)
        self.settle()

    @rule(delivery=st.sampled_from(["at_least_once", "at_most_once"]), handed_back=st.booleans())
    def everything_arrives_twice(self, delivery: str, handed_back: bool) -> None:
        """A new task on its way, processes that begin, and what is said of them."""
        prompt, self.prompt = self.prompt, False
        self.request([{"task_type": "echo", "delivery": delivery, "priority": "urgent"}])
        self.main.settle()
        for _ in range(2):
            for link, way in self.ways():
                for _ in range(len(way)):
                    self.arrives_twice(link, way)
            for worker in self.workers.values():
                for key in worker.keys(QUEUED):
                    worker.refuse(key) if handed_back else worker.begin(key)
        self.prompt = prompt
        self.settle()

    def arrives_twice(self, link: Link, way: list[Message]) -> None:
        """Said twice is said once; a process that began in between is not begun again."""
        if not way or self.main.dead:
            return
        self.arrives(link, way, 0, True)
        self.main.settle()
        if way is link.to_worker:
            for key in self.workers[link.device_id].keys(QUEUED):
                self.workers[link.device_id].begin(key)
        before = self.picture()
        if way and not self.main.dead:
            self.arrives(link, way, 0, False)
            assert way is link.to_worker or self.picture() == before, "I7: said twice is more than said once"

    def picture(self) -> list[tuple[Any, ...]]:
        tasks = self.main.scheduler.ledger.tasks.values()
        return [(t.task_id, t.state, t.epoch, t.charged, t.crashes, t.attempt is None) for t in tasks]

    @rule(name=NAMES, how=st.sampled_from([ConnectionDone, ConnectionLost, None]), late=st.booleans())
    def comes_back_at_once(self, name: str, how: type[Exception] | None, late: bool) -> None:
        """What was said last is still under way, and (`late`) arrives when the next session has begun."""
        prompt, self.prompt = self.prompt, False
        self.request([{"task_type": "echo", "requirements": {"device": name}, "delivery": "at_most_once"}])
        self.settle()
        self.line_breaks(name, how, False)
        self.prompt = prompt
        self.connects(name)
        self.time_passes(2.5, False, 0.0)  # as long as the main may wait for the old line to answer
        self.all_arrive()
        if late:
            self.old_words_arrive()
        self.all_begin()

    def old_words_arrive(self) -> None:
        """What lingered on lines that are over."""
        for link, way in self.ways():
            while way and not (link.open_at_main and link.open_at_worker) and not self.main.dead:
                self.arrives(link, way, 0, False)
        self.settle()

    def everybody_is_busy(self) -> None:
        """With tasks that must not run twice at a time."""
        self.everybody_comes_back()
        self.request([{"task_type": "echo", "on_disconnect": "stop", "priority": "urgent"}] * 4)
        self.settle()
        self.all_begin()

    def others_have_room(self, name: str) -> None:
        for other in self.workers.values():
            if other.device_id != name:
                other.beat()
                for key in other.keys(RUNNING):
                    other.finish(key, "completed")

    @rule(name=NAMES, slow_answer=st.booleans())
    def goes_silent(self, name: str, slow_answer: bool) -> None:
        """For longer than a lease, while others report; before that its last heartbeat is answered late."""
        self.everybody_is_busy()
        worker, prompt = self.workers[name], self.prompt
        if slow_answer and worker.link is not None:
            self.prompt = False
            worker.beat()
            link = worker.link
            while link.to_main and not self.main.dead:
                self.arrives(link, link.to_main, 0, False)
            self.time_passes(16.0, False, 0.0)
            while link.to_worker:
                self.arrives(link, link.to_worker, 0, False)
            self.prompt = prompt
        self.line_breaks(name, None, True)
        self.others_have_room(name)
        for _ in range(2):
            self.time_passes(16.0, True, 0.0)
            self.all_begin()

    @rule(name=NAMES)
    def a_proxy_dies(self, name: str) -> None:
        """To the main it looks as if the worker had been killed."""
        self.everybody_is_busy()
        self.line_breaks(name, ConnectionDone, True)
        self.others_have_room(name)
        self.time_passes(2.5, True, 0.0)
        self.all_begin()

    @rule(name=NAMES, leaves=st.booleans())
    def removed_and_back(self, name: str, leaves: bool) -> None:
        """A person removes a device that is away; it may still run something, or what it said last is under way."""
        self.everybody_is_busy()
        worker, prompt = self.workers[name], self.prompt
        link, self.prompt = worker.link, False
        if leaves:
            for key in worker.keys(RUNNING):
                worker.finish(key, "completed")
            self.all_arrive()
            worker.leaves()
        self.line_breaks(name, ConnectionDone, False)
        if link is not None:
            link.lost_at_main()
        self.settle()
        self.remove(name, 0)
        self.prompt = prompt
        self.others_have_room(name)
        self.time_passes(0.1, True, 0.0)
        self.all_begin()
        self.connects(name)
        self.all_arrive()
        self.old_words_arrive()

    @rule(where=st.sampled_from(KILLED_AT))
    def main_dies_over_its_work(self, where: str) -> None:
        """Over new tasks, or over one that is handed back and given out again."""
        self.everybody_comes_back()
        self.request([{"task_type": "echo", "priority": "urgent"}] * 2)
        self.settle()
        self.all_arrive()
        self.main.armed = where
        for name, key in self.journals(QUEUED)[:1]:
            self.workers[name].refuse(key)
        self.request([{"task_type": "echo", "priority": "urgent"}])
        self.all_arrive()
        self.settle()
        self.everybody_comes_back()

    @rule()
    def more_is_sent_than_runs_at_once(self) -> None:
        """Short tasks are queued on the device, which hands one back because another takes long."""
        self.everybody_comes_back()
        worker = self.workers["laptop"]
        for _ in range(4):
            self.request([{"task_type": "echo", "requirements": {"device": "laptop"}, "priority": "urgent"}] * 3)
            self.settle()
            self.all_begin()
            for key in worker.keys(RUNNING):
                worker.finish(key, "completed", 0.01)
            self.settle()
        self.request([{"task_type": "echo", "requirements": {"device": "laptop"}, "priority": "urgent"}] * 6)
        self.settle()
        self.all_arrive()
        for key in worker.keys(QUEUED)[-1:]:
            worker.refuse(key)
        self.settle()

    @rule(count=st.integers(1, 3), what=st.sampled_from(["it ends", "time passes", "it is lost", "nothing"]))
    def the_last_ones_wait(self, count: int, what: str) -> None:
        """The phone is slow: the last tasks wait for the laptop, until that has room, or is lost, or for too long."""
        self.everybody_comes_back()
        laptop = self.workers["laptop"]
        for _ in range(3):
            self.request([{"task_type": "echo", "requirements": {"device": name}} for name in self.workers])
            self.settle()
            self.all_begin()
            for name, key in self.journals(RUNNING):
                self.workers[name].finish(key, "completed", 60.0 if name == "phone" else 10.0)
            self.settle()
        self.request([{"task_type": "echo", "requirements": {"device": "laptop"}, "priority": "urgent"}] * 3)
        self.settle()
        self.all_begin()
        self.request([{"task_type": "echo", "priority": "urgent"}] * count)
        self.settle()
        if what == "it ends":
            for key in laptop.keys(RUNNING)[:1]:
                laptop.finish(key, "completed", 10.0)
        elif what == "it is lost":
            self.line_breaks("laptop", ConnectionDone, False)
        self.time_passes(45.0 if what == "time passes" else 1.0, True, 0.0)
        self.settle()

    @rule(name=NAMES)
    def dies_on_its_tasks(self, name: str) -> None:
        self.request([{"task_type": "echo", "requirements": {"device": name}, "priority": "urgent"}])
        for _ in range(CRASHES):
            self.connects(name)
            self.all_begin()
            self.worker_is_killed(name, True)
            self.connects(name)
            self.all_arrive()
            self.time_passes(5.0, True, 0.0)

    @rule(name=NAMES)
    def cancelled_while_away(self, name: str) -> None:
        self.all_begin()
        self.line_breaks(name, None, True)
        for task in list(self.main.scheduler.ledger.tasks.values()):
            if task.attempt is not None and task.attempt.device_id == name:
                self.act(self.main.rooms.cluster.cancel(task.task_id, "a person"), "conflict")
        self.connects(name)
        self.time_passes(2.5, False, 0.0)
        self.all_is_said()

    # -- once faults stop, everything ends (I12)

    def everything_ends(self) -> None:
        self.prompt = True
        self.main.armed = None
        for _ in range(60 + len(self.main.scheduler.ledger.tasks)):  # one of them ends in each round at least
            for name, worker in self.workers.items():
                self.connects(name)
                self.act(self.main.rooms.cluster.device_action(name, "undrain"), "not_found")
                self.act(self.main.rooms.cluster.device_action(name, "uncordon"), "not_found")
                for key in worker.keys(QUEUED):
                    worker.begin(key)
                for key in worker.keys(RUNNING):
                    worker.finish(key, "completed")
            self.all_is_said()
            for task in list(self.main.scheduler.ledger.tasks.values()):
                if task.state is State.HELD:
                    self.act(self.main.rooms.cluster.release(task.task_id))
            self.time_passes(10.0, True, 0.0)
            if all(task.queue.demand.gpu for task in self.main.scheduler.ledger.tasks.values()):
                return
        raise AssertionError(f"I12: {[(t.task_id, t.state) for t in self.main.scheduler.ledger.tasks.values()]}")


Lifecycle.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLifecycle = Lifecycle.TestCase
