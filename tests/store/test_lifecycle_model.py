"""The lifecycle contract as a state machine: the real scheduler over a real database, devices that lie down and
come back, links that break, and a main that is killed at any moment.

Devices are simulated with the worker's rules: they keep a journal of what they were given, started and finished,
and claim it when they register. Nothing else is simulated.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from retirecluster.domain.devices import Presence, profile_from_register
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL, HELD_BY_DEVICE, State
from retirecluster.domain.replay import TaskFacts, replay
from retirecluster.domain.scheduler import Assign, Attempt, Moment, Scheduler, Settings, Stop, Task
from retirecluster.domain.tasks import spec_from_document
from tests.store.disk import Disk

LIMITS = Settings(lease_s=30.0, offline_after_s=30.0, failover_grace_s=0.5)
DEVICES = {
    "phone": {"device_info": {"role": "mobile"}, "hardware_specs": {"cpu_cores": 4, "memory_total": 2**31}, "slots": 1},
    "laptop": {
        "device_info": {"role": "compute"},
        "hardware_specs": {"cpu_cores": 2, "memory_total": 2**32},
        "slots": 3,
        "prefetch": 2,
    },
}


@define
class SimulatedWorker:
    """What a device remembers: (task_id, epoch) to queued, running, spooled or died."""

    device_id: str
    session_no: int = 0
    connected: bool = False
    journal: dict[tuple[str, int], str] = field(factory=dict)
    results: dict[tuple[str, int], dict[str, Any]] = field(factory=dict)


class Lifecycle(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lifecycle-"))
        self.disk = Disk(self.folder)
        self.random = Random(1)
        self.mono_s, self.wall_s = 1000.0, 1e9
        self.scheduler: Scheduler = self.disk.restored(LIMITS, self.random, self.now)
        self.workers = {name: SimulatedWorker(name) for name in DEVICES}
        self.acknowledged: set[str] = set()
        self.final: dict[str, tuple[str, str | None]] = {}
        self.granted: dict[str, int] = {}
        self.starts: dict[str, list[int]] = {}
        self.sent: list[tuple[str, tuple[str, int], dict[str, Any]]] = []

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.disk.close()
        shutil.rmtree(self.folder)

    @property
    def now(self) -> Moment:
        return Moment(self.mono_s, self.wall_s)

    # -- the main's loop, as `Turns` runs it

    def commit(self) -> None:
        """One turn: decide, write, then deliver."""
        self.scheduler.run_timers(self.now)
        turn = self.scheduler.take_turn(self.now)
        if turn.empty:
            return
        self.disk.write(turn, self.scheduler.tasks.running_s(self.now))
        for effect in turn.effects:
            worker = self.workers[effect.device_id]
            if worker.connected and worker.session_no == effect.session_no:
                self.deliver(worker, effect)

    def deliver(self, worker: SimulatedWorker, effect: Assign | Stop) -> None:
        if isinstance(effect, Assign):
            task_id, epoch = effect.task.task_id, effect.attempt.epoch
            assert epoch > self.granted.get(task_id, 0), "I4: an epoch was used twice"
            self.granted[task_id] = epoch
            worker.journal[task_id, epoch] = "queued"
            return
        key = (effect.task_id, effect.epoch)
        if worker.journal.get(key) in ("queued", "running"):
            self.finish(worker, key, "cancelled")

    # -- people

    @rule(
        count=st.integers(1, 4),
        priority=st.sampled_from(["low", "normal", "high", "urgent"]),
        delivery=st.sampled_from(["at_least_once", "at_least_once", "at_most_once"]),
        on_disconnect=st.sampled_from(["keep", "keep", "stop"]),
        requirements=st.sampled_from([{}, {}, {"role": "mobile"}, {"min_cpu_cores": 2}, {"gpu": True}]),
        max_retries=st.integers(0, 3),
        deadline_s=st.sampled_from([None] * 9 + [20.0]),
    )
    def submit(self, count: int, **document: Any) -> None:
        made = self.scheduler.submit([spec_from_document({"task_type": "echo"} | document)] * count, self.now)
        self.commit()
        self.acknowledged.update(task.task_id for task in made)

    @precondition(lambda self: self.scheduler.ledger.tasks)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "hold", "release"]))
    def person(self, data: Any, what: str) -> None:
        task = self.scheduler.task(data.draw(st.sampled_from(sorted(self.scheduler.ledger.tasks))))
        assert task is not None
        try:
            if what == "cancel":
                self.scheduler.tasks.cancel(task, self.now, "a person")
            elif what == "hold":
                self.scheduler.tasks.hold(task, self.now, "a person")
            else:
                self.scheduler.tasks.release(task, self.now)
        except ClusterError as error:
            assert error.code == "conflict"
        self.commit()

    @rule(
        name=st.sampled_from(sorted(DEVICES)),
        rare=st.integers(0, 2),
        flag=st.sampled_from(["draining", "cordoned"]),
        on=st.booleans(),
    )
    def flag(self, name: str, rare: int, flag: str, on: bool) -> None:
        device = self.scheduler.devices.get(name)
        if device is not None and not (on and rare):
            self.scheduler.fleet.set_flags(device, self.now, **{flag: on})
            self.commit()

    # -- devices

    @precondition(lambda self: not all(worker.connected for worker in self.workers.values()))
    @rule()
    def everybody_comes_back(self) -> None:
        self.first_devices()

    @initialize()
    def first_devices(self) -> None:
        for name in DEVICES:
            self.register(name)

    def register(self, name: str) -> None:
        worker = self.workers[name]
        if worker.connected:
            return
        document = DEVICES[name] | {"attempts": []}
        profile = profile_from_register(name, document)
        current = self.current_claims(worker)
        answer = self.scheduler.register(profile, document, dict(worker.journal), self.now)
        assert set(answer.resume) == current, "I13: what runs and is current goes on"
        assert set(answer.stop) == worker.journal.keys() - current
        worker.connected, worker.session_no = True, answer.session_no
        self.commit()
        for key in answer.stop:
            worker.journal.pop(key, None)
            worker.results.pop(key, None)
        for key in answer.resume:
            if key in worker.results:
                self.send_result(worker, key)

    def current_claims(self, worker: SimulatedWorker) -> set[tuple[str, int]]:
        """What its journal holds that it is still the holder of."""
        found = set()
        for key, state in worker.journal.items():
            task = self.scheduler.task(key[0])
            attempt = task.attempt if task is not None else None
            if (
                state != "died"
                and attempt is not None
                and (attempt.device_id, attempt.epoch) == (worker.device_id, key[1])
            ):
                found.add(key)
        return found

    @rule(name=st.sampled_from(sorted(DEVICES)), named=st.booleans())
    def heartbeat(self, name: str, named: bool) -> None:
        worker = self.workers[name]
        if worker.connected:
            device = self.scheduler.devices[name]
            keys = list(worker.journal) if named else None
            _, stop = self.scheduler.heartbeat(device, {"cpu_usage": 50.0}, keys, self.now)
            for key in stop:
                worker.journal.pop(key, None)
                worker.results.pop(key, None)
            self.commit()

    def journals(self, state: str) -> list[tuple[str, tuple[str, int]]]:
        """(device, attempt) of every journal entry in a state."""
        return sorted(
            (w.device_id, key) for w in self.workers.values() for key, kept in w.journal.items() if kept == state
        )

    @precondition(lambda self: self.journals("queued"))
    @rule(data=st.data(), told=st.sampled_from([True, True, True, False]))
    def start(self, data: Any, told: bool) -> None:
        """A process begins; the message about it may be lost."""
        name, key = data.draw(st.sampled_from(self.journals("queued")))
        self.begin(self.workers[name], key, told)

    def begin(self, worker: SimulatedWorker, key: tuple[str, int], told: bool) -> None:
        worker.journal[key] = "running"
        self.starts.setdefault(key[0], []).append(key[1])
        if told and worker.connected:
            self.about(worker, key, lambda task, attempt: self.scheduler.attempts.started(task, attempt, self.now))

    @precondition(lambda self: self.journals("running"))
    @rule(data=st.data(), status=st.sampled_from(["completed", "failed", "failed", "timeout"]))
    def end(self, data: Any, status: str) -> None:
        name, key = data.draw(st.sampled_from(self.journals("running")))
        self.finish(self.workers[name], key, status)

    @precondition(lambda self: self.journals("queued"))
    @rule(data=st.data())
    def refuse(self, data: Any) -> None:
        name, key = data.draw(st.sampled_from(self.journals("queued")))
        worker = self.workers[name]
        if worker.connected:
            del worker.journal[key]
            self.about(
                worker, key, lambda task, attempt: self.scheduler.attempts.refused(task, attempt, self.now, "no")
            )

    def finish(self, worker: SimulatedWorker, key: tuple[str, int], status: str) -> None:
        worker.journal[key] = "spooled"
        worker.results[key] = {"status": status, "execution_time": 1.0, "epoch": key[1]}
        if worker.connected:
            self.send_result(worker, key)

    def send_result(self, worker: SimulatedWorker, key: tuple[str, int]) -> None:
        document = worker.results[key]
        self.sent.append((worker.device_id, key, document))
        self.deliver_result(worker, key, document)
        worker.journal.pop(key)  # acknowledged or refused, it need not be kept
        worker.results.pop(key)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def an_old_result_comes_again(self, data: Any) -> None:
        """The transport repeats and reorders: a result comes again, or long after its attempt was given up."""
        name, key, document = data.draw(st.sampled_from(self.sent))
        if self.workers[name].connected:
            self.deliver_result(self.workers[name], key, document)

    @precondition(lambda self: self.journals("running"))
    @rule(data=st.data())
    def a_result_is_sent_by_a_worker_that_was_given_up(self, data: Any) -> None:
        """Its lease is over, it does not know yet, and what it sends arrives after the task was given away."""
        name, key = data.draw(st.sampled_from(self.journals("running")))
        document = {"status": "completed", "execution_time": 1.0, "epoch": key[1]}
        self.sent.append((name, key, document))

    def deliver_result(self, worker: SimulatedWorker, key: tuple[str, int], document: dict[str, Any]) -> None:
        def result(task: Task, attempt: Attempt) -> None:
            assert (attempt.device_id, attempt.epoch) == (worker.device_id, key[1]), (
                "I3: a stale attempt's result counted"
            )
            self.scheduler.attempts.result(task, attempt, document, self.now)

        self.about(worker, key, result)

    def about(self, worker: SimulatedWorker, key: tuple[str, int], do: Any) -> bool:
        try:
            task, attempt = self.scheduler.attempts.current(worker.device_id, *key)
        except ClusterError as error:
            assert error.code in ("not_found", "stale_attempt", "not_holder")
            return False
        do(task, attempt)
        self.commit()
        return True

    # -- faults

    @rule(name=st.sampled_from(sorted(DEVICES)), closed=st.booleans())
    def link_breaks(self, name: str, closed: bool) -> None:
        worker = self.workers[name]
        if worker.connected:
            worker.connected = False
            device = self.scheduler.devices[name]
            if device.presence is Presence.ONLINE:
                self.scheduler.disconnected(device, self.now, "broken", closed=closed)
                self.commit()

    @rule(name=st.sampled_from(sorted(DEVICES)))
    def worker_is_killed(self, name: str) -> None:
        worker = self.workers[name]
        self.link_breaks(name, True)
        for key, state in list(worker.journal.items()):
            if state == "queued":
                del worker.journal[key]
            elif state == "running":
                worker.journal[key] = "died"

    @rule(name=st.sampled_from(sorted(DEVICES)))
    def worker_leaves(self, name: str) -> None:
        worker = self.workers[name]
        if worker.connected:
            worker.connected = False
            for key in [key for key, state in worker.journal.items() if state != "spooled"]:
                del worker.journal[key]
            self.scheduler.left(self.scheduler.devices[name], self.now, "switched off")
            self.commit()

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 16.0, 40.0]), wall_jump_s=st.sampled_from([0.0, 0.0, 3e8, -3e8]))
    def time_passes(self, seconds: float, wall_jump_s: float) -> None:
        self.mono_s += seconds
        self.wall_s = max(1.0, self.wall_s + seconds + wall_jump_s)
        for device in self.scheduler.silent_devices(self.now):
            self.workers[device.device_id].connected = False
        self.scheduler.check_leases(self.now)
        self.commit()

    @precondition(lambda self: self.scheduler.ledger.tasks)
    @rule(luck=st.integers(0, 2), unwritten=st.booleans(), back=st.booleans())
    def main_is_killed(self, luck: int, unwritten: bool, back: bool) -> None:
        """Whatever was decided and not written is gone; the file is as a kill -9 leaves it."""
        if luck:
            return
        if unwritten:
            self.scheduler.submit([spec_from_document({"task_type": "echo"})], self.now)
            self.scheduler.take_turn(self.now)
        self.disk.crash()
        self.mono_s = 500.0 + self.random.random()
        for worker in self.workers.values():
            worker.connected = False
        self.scheduler = self.disk.restored(LIMITS, self.random, self.now)
        self.commit()
        if back:
            self.first_devices()

    # -- what must hold after every step

    @invariant()
    def acknowledged_tasks_exist_and_final_states_stay(self) -> None:
        rows = dict(self.disk.rows("SELECT task_id, state FROM tasks"))
        assert self.acknowledged <= rows.keys(), "I1"
        for task_id, state in self.final.items():
            assert rows[task_id] == state, "I2"
        self.final.update({task_id: state for task_id, state in rows.items() if State(state) in FINAL})

    @invariant()
    def memory_and_disk_agree(self) -> None:
        stored = self.disk.rows("SELECT task_id, state, epoch, charged, crashes FROM tasks")
        alive = {row[0]: row[1:] for row in stored if State(row[1]) not in FINAL}
        tasks = self.scheduler.ledger.tasks
        charged = (
            "SELECT task_id FROM tasks WHERE charged != (SELECT total(charged) FROM attempts WHERE task_seq = seq)"
        )
        assert self.disk.rows(charged) == [], "I9"
        assert alive == {t.task_id: (t.state.value, t.epoch, t.charged, t.crashes) for t in tasks.values()}
        counted = {state.value: count for state, count in self.scheduler.ledger.counts.items() if count}
        assert counted == dict(self.disk.rows("SELECT state, count(*) FROM tasks GROUP BY state"))

    @invariant()
    def books_of_devices_balance(self) -> None:
        held = 0
        for device in self.scheduler.devices.values():
            held += len(device.attempts)
            profile = device.profile
            assert len(device.attempts) <= profile.slots + profile.prefetch, "I6 slots"
            demands = [task.queue.demand for task in device.attempts.values()]
            assert sum(d.min_cpu_cores for d in demands) == device.reserved_cores <= profile.cpu_cores, "I6 cores"
            for task in device.attempts.values():
                assert task.state in HELD_BY_DEVICE
                assert task.attempt is not None and task.attempt.device_id == device.device_id, "I5"
        assert held == sum(task.attempt is not None for task in self.scheduler.ledger.tasks.values())

    @invariant()
    def every_task_has_one_mover(self) -> None:
        pending = {(timer.kind, timer.subject, timer.token) for timer in self.scheduler.timers.heap}
        for task in self.scheduler.ledger.tasks.values():
            waiting = any(e[3] is task and e[2] == task.queued_token for e in task.queue.waiting)
            assert waiting == (task.state is State.QUEUED), "I8 queue"
            assert (task.attempt is not None) == (task.state in HELD_BY_DEVICE), "I8 attempt"
            if task.state is State.RETRYING:
                assert ("backoff", task.task_id, task.epoch) in pending, "I8 timer"

    @invariant()
    def nothing_grantable_waits(self) -> None:
        for task in self.scheduler.ledger.tasks.values():
            if task.state is State.QUEUED:
                demand = task.queue.demand
                for device in self.scheduler.devices.values():
                    room = device.accepts and device.fits_now(
                        demand.min_cpu_cores, demand.min_memory_bytes, task.task_type
                    )
                    assert not room or task.queue.misfit(device), "I16: a device with room was left idle"

    @invariant()
    def attempts_are_bounded(self) -> None:
        for task in self.scheduler.ledger.tasks.values():
            assert task.charged <= 1 + task.options.max_retries, "I9"
            if task.options.delivery == "at_most_once":
                assert len(self.starts.get(task.task_id, [])) <= 1, "I5: at most once"

    @invariant()
    def events_have_no_gaps_and_tell_the_state(self) -> None:
        numbers = [row[0] for row in self.disk.rows("SELECT event_no FROM events ORDER BY event_no")]
        assert numbers == list(range(1, len(numbers) + 1))
        last = self.disk.rows(
            "SELECT t.state, json_extract(e.data, '$.status'), t.epoch, json_extract(e.data, '$.epoch') FROM tasks t "
            "JOIN events e ON e.event_no = (SELECT max(event_no) FROM events WHERE task_id = t.task_id)"
        )
        for state, told, epoch, told_epoch in last:
            assert (state, epoch) == (told, told_epoch), "I15"

    @invariant()
    def replaying_the_log_gives_the_tables(self) -> None:
        replayed = replay(self.disk.rows("SELECT * FROM events ORDER BY event_no"))
        stored = self.disk.rows("SELECT task_id, state, epoch, charged, crashes, reason FROM tasks")
        assert replayed.tasks == {row[0]: TaskFacts(*row[1:]) for row in stored}, "I15"
        assert replayed.devices == dict(self.disk.rows("SELECT device_id, presence FROM devices")), "I15"

    # -- once faults stop, everything ends (I12)

    def everything_ends(self) -> None:
        for _ in range(60):
            for name, worker in self.workers.items():
                self.register(name)
                self.flag_off(name)
                for key, state in sorted(worker.journal.items()):
                    if state == "queued":
                        self.begin(worker, key, True)
                    self.finish(worker, key, "completed")
                self.heartbeat(name, True)
            for task in list(self.scheduler.ledger.tasks.values()):
                if task.state is State.HELD:
                    self.scheduler.tasks.release(task, self.now)
            self.time_passes(10.0, 0.0)
            if all(task.queue.demand.gpu for task in self.scheduler.ledger.tasks.values()):
                return
        raise AssertionError(f"I12: {[(t.task_id, t.state) for t in self.scheduler.ledger.tasks.values()]}")

    def flag_off(self, name: str) -> None:
        self.scheduler.fleet.set_flags(self.scheduler.devices[name], self.now, draining=False, cordoned=False)


Lifecycle.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLifecycle = Lifecycle.TestCase
