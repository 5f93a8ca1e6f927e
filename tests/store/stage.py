"""The stage of the lifecycle model: a simulated main, two devices, the lines between them, and what was promised."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from attrs import frozen
from hypothesis.stateful import RuleBasedStateMachine
from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fencing import AttemptKey
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Device, Task
from retirecluster.domain.scheduler.probes import PROBE
from retirecluster.domain.scheduler.scoring import expected_s
from retirecluster.domain.tasks import spec_from_document
from tests.store.simulated_worker import DIED, RUNNING, SimulatedWorker
from tests.store.simulation import Link, Message, SimulatedMain

DEVICES = {
    "phone": {"device_info": {"role": "mobile"}, "hardware_specs": {"cpu_cores": 4, "memory_total": 2**31}, "slots": 1},
    "laptop": {
        "device_info": {"role": "compute"},
        "hardware_specs": {"cpu_cores": 2, "memory_total": 2**32},
        "slots": 3,
        "prefetch": 2,
    },
}
ENDS = ("completed", "failed", "cancelled", "expired", "lost")


@frozen
class Request:
    """What a client asked of which life of the main."""

    documents: list[Message]
    main: SimulatedMain


class Stage(RuleBasedStateMachine):
    """What rules and invariants work with. `prompt`: whatever is said arrives at once and in order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
        self.mono_s, self.wall_offset_s = 1000.0, 1e9
        self.prompt = True
        self.links: list[Link] = []
        self.acknowledged: set[str] = set()
        self.keys: dict[str, tuple[int, str]] = {}
        self.final: dict[str, tuple[str, str | None]] = {}
        self.assigned: dict[str, int] = {}
        self.granted: set[AttemptKey] = set()
        self.starts: dict[str, list[int]] = {}
        self.counted: dict[AttemptKey, Message] = {}
        self.workers = {name: SimulatedWorker(name, each, self.began, self.clock_s) for name, each in DEVICES.items()}
        self.main = self.new_main(self.folder / "life-0")

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.main.database.close()
            shutil.rmtree(self.folder)

    def clock_s(self) -> float:
        return self.main.clock.seconds()

    def new_main(self, folder: Path) -> SimulatedMain:
        main = SimulatedMain(folder, self.mono_s, self.wall_offset_s, self.told)
        main.database.decided = self.turn_decided
        return main

    def settle(self) -> None:
        """Let the main write and answer; bury it if it was killed meanwhile."""
        self.main.settle()
        if self.prompt:
            self.all_arrive()
        if self.main.dead:
            self.main_comes_back()

    def main_comes_back(self) -> None:
        self.mono_s = self.clock_s()
        dead, folder = self.main, self.main.bury()
        held = dead_holders(dead, folder)
        for worker in self.workers.values():
            worker.line_lost()
        for link in dead.links:
            link.open_at_main = False
            link.to_main.clear()  # a process that is gone reads nothing
        self.links = [link for link in self.links if not link.over]
        self.main = self.new_main(folder)
        for task in self.main.scheduler.ledger.tasks.values():
            attempt = task.attempt
            assert held.pop(task.task_id, None) == (attempt and (attempt.device_id, attempt.epoch)), "I13: at restart"
        assert not held
        self.main.settle()

    def told(self, link: Link, message: Message) -> None:
        """The main says something to a device."""
        data = message["data"]
        if message["message_type"] == "task_assign":
            task_id, epoch = data["task"]["task_id"], data["task"]["epoch"]
            assert epoch > self.assigned.get(task_id, 0), "I4: an epoch was used twice"
            self.assigned[task_id] = epoch
        elif message["message_type"] == "register_ack":
            resumed = {(each["task_id"], each["epoch"]) for each in data["resume"]}
            for key, state in link.claims.items():
                task = self.main.scheduler.task(key[0])
                attempt = task.attempt if task is not None else None
                current = attempt and (attempt.device_id, attempt.epoch) == (link.peer.device_id, key[1])
                assert not current or state == DIED or key in resumed, "I13: what runs and is current goes on"
        elif message["message_type"] == "result_ack":
            key = (data["task_id"], data["epoch"])
            assert data["accepted"] or key not in self.counted, (
                "I7: a result that counted is refused when it is repeated"
            )
            if data["accepted"]:
                self.counted[key] = data

    def turn_decided(self) -> None:
        """Called between the decisions of a turn and their way to the disk."""
        tasks = self.main.scheduler.ledger.tasks.values()
        waiting = [task for task in tasks if task.state is State.QUEUED]
        for task in tasks:
            attempt = task.attempt
            if attempt is not None and (task.task_id, attempt.epoch) not in self.granted:
                self.granted.add((task.task_id, attempt.epoch))
                if task.name != PROBE:
                    try:
                        self.check_order(task, waiting)
                    except AssertionError:
                        self.main.failures.append(Failure())

    def check_order(self, granted: Task, waiting: list[Task]) -> None:
        """Nothing that goes first could have had the place. The cluster is too young for age to outrank priority."""
        assert granted.attempt is not None
        device, demand = self.main.scheduler.devices[granted.attempt.device_id], granted.queue.demand
        for other in waiting:
            wish = other.queue.demand
            smaller = wish.min_cpu_cores <= demand.min_cpu_cores and wish.min_memory_bytes <= demand.min_memory_bytes
            first = (-other.priority, other.seq) < (-granted.priority, granted.seq)
            if first and smaller and not other.queue.misfit(device):
                assert self.prefers_another(other, device), "I16: one that goes first was passed over"

    def prefers_another(self, task: Task, device: Device) -> bool:
        """Whether the class of a task waits for a device that does such tasks faster, and so leaves `device` to others:
        it is the first of its class that waits, for a device that works."""
        wait, head, scheduler = task.queue.wait, task.queue.head(), self.main.scheduler
        if wait is None or head is None or (wait.task, wait.token) != (head[3], head[2]):
            return False
        awaited, work_s = scheduler.devices[wait.device_id], scheduler.queues.work_of(task.task_type)[1]
        there_s, here_s = (expected_s(one, task.task_type, work_s) for one in (awaited, device))
        sooner = there_s is not None and here_s is not None and there_s < here_s
        return sooner and awaited.accepts and bool(awaited.attempts)

    def began(self, worker: SimulatedWorker, key: AttemptKey) -> None:
        earlier = self.starts.setdefault(key[0], [])
        assert key[1] not in earlier, "I13: an attempt was started again"
        earlier.append(key[1])
        task = worker.tasks[key]
        if task["delivery"] == "at_most_once":
            assert len(earlier) == 1, "I5: at most once"
        if task["on_disconnect"] == "stop":
            others = [each for each in self.workers.values() if each is not worker]
            alive = [each for other in others for each in other.keys(RUNNING)]
            assert key[0] not in [each[0] for each in alive], "I11: two attempts run at the same time"
            assert key[0] not in [each[0] for each in worker.keys(RUNNING) if each != key], "I11"

    def request(self, documents: list[Message]) -> None:
        asked = Request(documents, self.main)
        submitting = ensureDeferred(self.main.rooms.cluster.submit([spec_from_document(each) for each in documents]))
        submitting.addCallbacks(self.submitted, self.not_submitted, callbackArgs=(asked,), errbackArgs=(asked,))
        submitting.addErrback(self.main.failures.append)

    def submitted(self, answers: Any, request: Request) -> None:
        if request.main.dead:
            return
        for answer, document in zip(answers, request.documents, strict=True):
            self.acknowledged.add(answer.task_id)
            key = document.get("idempotency_key")
            if key is not None:
                body = document["payload"]["message"]
                assert self.keys.setdefault(key, (body, answer.task_id)) == (body, answer.task_id), "I10"

    def not_submitted(self, failure: Any, request: Request) -> None:
        failure.trap(ClusterError)
        [document] = request.documents
        assert request.main.dead or failure.value.code == "idempotency_conflict"
        assert request.main.dead or self.key_has_another_body(document), "I10: a conflict where there is none"

    def key_has_another_body(self, document: Message) -> bool:
        query = "SELECT body FROM tasks WHERE idempotency_key = ?"
        return all(
            f'"message":{document["payload"]["message"]}' not in body
            for (body,) in self.main.rows(query, document["idempotency_key"])
        )

    def act(self, doing: Any, *may_fail: str) -> None:
        def check_code(failure: Any) -> None:
            failure.trap(ClusterError)
            assert failure.value.code in may_fail, failure.value

        ensureDeferred(doing).addErrback(check_code).addErrback(self.main.failures.append)
        self.settle()

    def ways(self) -> list[tuple[Link, list[Message]]]:
        """Each direction of each line on which something is under way."""
        self.links = [link for link in self.links if not link.over]
        return [(link, way) for link in self.links for way in (link.to_main, link.to_worker) if way]

    def arrives(self, link: Link, way: list[Message], index: int, again: bool) -> None:
        message = way[index] if again else way.pop(index)
        if way is link.to_main:
            self.reaches_main(link, message)
        else:
            self.workers[link.device_id].hears(link, message)

    def reaches_main(self, link: Link, message: Message) -> None:
        handed_back = message["message_type"] == "task_refused"
        held = handed_back and self.holds(link, message)
        waited = held and self.main.scheduler.ledger.tasks[message["data"]["task_id"]].state is State.ASSIGNED
        link.reaches_main(message)
        if held and not self.main.dead:
            assert not self.holds(link, message), "what was handed back is still held"
            device = self.main.scheduler.devices[link.device_id]
            assert not (waited and device.prefetch), "a device that handed work back is given more to keep waiting"

    def holds(self, link: Link, message: Message) -> bool:
        """Whether a message is of a current session, about the attempt that its device holds."""
        task = self.main.scheduler.task(message["data"]["task_id"])
        attempt = task.attempt if task is not None else None
        current = self.main.rooms.registry.holder(link.peer) is not None
        key = (link.device_id, message["data"]["epoch"])
        return current and attempt is not None and (attempt.device_id, attempt.epoch) == key

    def all_arrive(self) -> None:
        """Everything that is under way on lines that are open arrives in order, answers to it as well."""
        for _ in range(100):
            ways = [(link, way) for link, way in self.ways() if link.open_at_main and link.open_at_worker]
            if not ways or self.main.dead:
                return
            for link, way in ways:
                while way and not self.main.dead:
                    self.arrives(link, way, 0, False)
            self.main.settle()
        raise AssertionError("the talk never ends")

    def journals(self, state: str) -> list[tuple[str, AttemptKey]]:
        """(device, attempt) of every journal entry in a state."""
        return [(name, key) for name, worker in sorted(self.workers.items()) for key in worker.keys(state)]

    def until_stops(self) -> list[float]:
        """Seconds until workers stop what they must not run on."""
        stops = [worker.next_stop_s() for worker in self.workers.values()]
        return [max(0.001, stop_s - self.clock_s()) for stop_s in stops if stop_s is not None]

    def lines_that_the_main_gave_up(self) -> None:
        for worker in self.workers.values():
            if worker.link is not None and not worker.link.open_at_main:
                worker.line_lost()

    def everything_ends(self) -> None:
        """Once faults stop, every task ends (I12)."""
        raise NotImplementedError


def dead_holders(dead: SimulatedMain, folder: Path) -> dict[str, Any]:
    """Who holds which attempt, by what a killed main left on the disk; None for tasks that nobody holds."""
    connection = sqlite3.connect(folder / "cluster.db")
    try:
        rows = connection.execute(
            "SELECT t.task_id, a.device_id, a.epoch FROM tasks t LEFT JOIN attempts a ON a.task_seq = t.seq "
            f"AND a.outcome IS NULL WHERE t.state NOT IN {ENDS}"
        ).fetchall()
    finally:
        connection.close()
    return {task_id: None if device_id is None else (device_id, epoch) for task_id, device_id, epoch in rows}
