"""The invariants of the lifecycle contract, as checks of the memory and the disk of a simulated main."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis.stateful import invariant

from retirecluster.domain.lifecycle import FINAL, HELD_BY_DEVICE, State
from retirecluster.domain.replay import TaskFacts, replay
from retirecluster.domain.scheduler import Device, Task
from retirecluster.domain.scheduler.tail import LONGEST_WAIT_S
from tests.store.simulated_worker import QUEUED, RUNNING, SPOOLED
from tests.store.stage import Stage

CRASHES = 3
TICK_S = 2.0
"""The main looks at leases once a second."""


class Invariants(Stage):
    """What must hold after every step; `check_agreement` after whatever was said has arrived."""

    @invariant()
    def acknowledged_tasks_exist_and_final_states_stay(self) -> None:
        found = self.main.rows(
            "SELECT t.task_id, t.state, r.document FROM tasks t LEFT JOIN results r ON r.task_seq = t.seq"
        )
        rows = {task_id: (state, document) for task_id, state, document in found}
        assert self.acknowledged <= rows.keys(), "I1"
        for task_id, ended in self.final.items():
            assert rows[task_id] == ended, "I2"
        self.final.update({task_id: row for task_id, row in rows.items() if State(row[0]) in FINAL})

    @invariant()
    def results_are_of_the_attempts_that_count(self) -> None:
        query = (
            "SELECT t.task_id, t.state, r.epoch, coalesce(json_extract(r.document, '$.result.stderr'), "
            "json_extract(r.document, '$.result.output')), a.device_id, a.outcome, "
            "(SELECT count(*) FROM attempts WHERE task_seq = t.seq AND outcome = 'completed') FROM results r "
            "JOIN tasks t ON t.seq = r.task_seq JOIN attempts a ON a.task_seq = t.seq AND a.epoch = r.epoch"
        )
        for task_id, state, epoch, output, device_id, outcome, completed in self.main.rows(query):
            assert output.startswith(f"{task_id} {epoch} {device_id} "), "I3: a result of another attempt"
            assert (completed, outcome == "completed") == ((1, True) if state == "completed" else (0, False)), "I7"
        current = "SELECT count(*) FROM attempts WHERE outcome IS NULL GROUP BY task_seq HAVING count(*) > 1"
        assert self.main.rows(current) == [], "I5: more than one attempt is current"

    @invariant()
    def verified_tasks_are_what_their_copies_came_to(self) -> None:
        query = (
            "SELECT t.seq, t.state, v.state, v.copies, r.document FROM tasks t LEFT JOIN verifications v "
            "ON v.task_seq = t.seq LEFT JOIN results r ON r.task_seq = t.seq WHERE t.verify = 2"
        )
        for _, state, verdict, text, document in self.main.rows(query):
            copies = json.loads(text)
            assert (state == "blocked") == (verdict == "pending"), "I8: a verified task that nothing moves"
            allowed = {"agreed": ["completed"], "differ": ["failed"], "stopped": ["cancelled", "expired"]}
            assert state in allowed.get(verdict, [state])
            done = [each for each in copies if each["sha256"]]
            assert len({each["device_id"] for each in done}) == len(done), "two copies ran on one device"
            if verdict == "agreed":
                assert max(Counter(each["sha256"] for each in done).values()) > 1 and document is not None
            for each in done:
                assert self.main.rows("SELECT state FROM tasks WHERE task_id = ?", each["task_id"]) == [("completed",)]
        if self.main.quiet:
            verifications, tasks = self.main.scheduler.verifications, self.main.scheduler.ledger.tasks
            assert verifications.pending.keys() == {t.task_id for t in tasks.values() if t.state is State.BLOCKED}, "I8"
            assert verifications.by_copy.keys() <= tasks.keys(), "I8: a copy that has ended"
            assert len(verifications.by_copy) == len(verifications.pending), "I8"

    @invariant()
    def one_task_for_each_key(self) -> None:
        keys = dict(self.main.rows("SELECT idempotency_key, task_id FROM tasks WHERE idempotency_key IS NOT NULL"))
        assert all(keys.get(key) == task_id for key, (_, task_id) in self.keys.items()), "I10"

    @invariant()
    def memory_and_disk_agree(self) -> None:
        charged = (
            "SELECT task_id FROM tasks WHERE charged != (SELECT total(charged) FROM attempts WHERE task_seq = seq)"
        )
        assert self.main.rows(charged) == [], "I9"
        if not self.main.quiet:
            return
        stored = self.main.rows("SELECT task_id, state, epoch, charged, crashes FROM tasks")
        alive = {row[0]: row[1:] for row in stored if State(row[1]) not in FINAL}
        ledger = self.main.scheduler.ledger
        assert alive == {t.task_id: (t.state.value, t.epoch, t.charged, t.crashes) for t in ledger.tasks.values()}
        counted = {state.value: count for state, count in ledger.counts.items() if count}
        assert counted == dict(self.main.rows("SELECT state, count(*) FROM tasks GROUP BY state"))

    @invariant()
    def books_of_devices_balance(self) -> None:
        held = 0
        for device in self.main.scheduler.devices.values():
            held += len(device.attempts)
            profile = device.profile
            assert len(device.attempts) <= profile.slots + profile.prefetch, "I6 slots"
            demands = [task.queue.demand for task in device.attempts.values()]
            assert sum(d.min_cpu_cores for d in demands) == device.reserved_cores <= profile.cpu_cores, "I6 cores"
            for task in device.attempts.values():
                assert task.state in HELD_BY_DEVICE
                assert task.attempt is not None and task.attempt.device_id == device.device_id, "I5"
        assert held == sum(task.attempt is not None for task in self.main.scheduler.ledger.tasks.values())

    @invariant()
    def a_session_that_both_sides_hold_open_is_the_devices(self) -> None:
        for name, worker in self.workers.items():
            if worker.registered and worker.link is not None and worker.link.open_at_main:
                assert self.main.rooms.registry.sessions.get(name) is worker.link.peer, "a session was ended by another"

    @invariant()
    def every_task_has_one_mover(self) -> None:
        pending = {(timer.kind, timer.subject, timer.token) for timer in self.main.scheduler.timers.heap}
        for task in self.main.scheduler.ledger.tasks.values():
            waiting = any(e[3] is task and e[2] == task.queued_token for e in task.queue.waiting)
            assert waiting == (task.state is State.QUEUED), "I8 queue"
            assert (task.attempt is not None) == (task.state in HELD_BY_DEVICE), "I8 attempt"
            if task.state is State.RETRYING:
                assert ("backoff", task.task_id, task.epoch) in pending, "I8 timer"
            if task.deadline_at is not None:
                assert ("deadline", task.task_id, 0) in pending, "I8 deadline"

    @invariant()
    def leases_end(self) -> None:
        scheduler, now_s = self.main.scheduler, self.main.moment().mono_s
        for task in scheduler.ledger.tasks.values():
            if task.attempt is not None:
                silent_s = now_s - task.attempt.renewed_mono_s
                assert silent_s <= scheduler.settings.lease_s + TICK_S, "I8: nobody gives up an attempt without a lease"

    @invariant()
    def nothing_grantable_waits(self) -> None:
        if not self.main.quiet:
            return
        for task in self.main.scheduler.ledger.tasks.values():
            if task.state is State.QUEUED:
                demand = task.queue.demand
                for device in self.main.scheduler.devices.values():
                    room = device.accepts and len(device.attempts) < device.profile.slots
                    room = room and device.fits_now(demand.min_cpu_cores, demand.min_memory_bytes, task.task_type)
                    if room and not task.queue.misfit(device):
                        self.waits_for_a_faster_device(task, device)

    def waits_for_a_faster_device(self, task: Task, free: Device) -> None:
        """The one excuse for a task that could begin on `free`: the first of its class waits for a device that works,
        would be done sooner, and is not waited for without end; tasks behind the first must not go before it.
        """
        scheduler, each = self.main.scheduler, task.queue
        wait, head = each.wait, each.head()
        assert wait is not None and head is not None, "I16: a device with room was left idle"
        assert (wait.task, wait.token) == (head[3], head[2]), "I16: a wait of a task that is not the first"
        pending = {(timer.kind, timer.subject, timer.token, timer.at_mono_s) for timer in scheduler.timers.heap}
        assert ("tail", wait.task.task_id, wait.token, wait.until_mono_s) in pending, "I8: nothing ends the wait"
        assert self.clock_s() < wait.until_mono_s <= wait.since_mono_s + LONGEST_WAIT_S, "I12: it waits too long"
        assert self.prefers_another(task, free), "I16: it waits for a device that is slower, or not there, or idle"

    @invariant()
    def attempts_are_bounded(self) -> None:
        for task in self.main.scheduler.ledger.tasks.values():
            assert task.charged <= 1 + task.options.max_retries, "I9"
            assert task.crashes < CRASHES or task.state not in (State.QUEUED, State.RETRYING), "I9: not held"

    @invariant()
    def events_have_no_gaps_and_tell_the_state(self) -> None:
        numbers = [row[0] for row in self.main.rows("SELECT event_no FROM events ORDER BY event_no")]
        assert numbers == list(range(1, len(numbers) + 1))
        replayed = replay(self.main.rows("SELECT * FROM events ORDER BY event_no"))
        stored = self.main.rows("SELECT task_id, state, epoch, charged, crashes, reason FROM tasks")
        assert replayed.tasks == {row[0]: TaskFacts(*row[1:]) for row in stored}, "I15"
        assert replayed.devices == dict(self.main.rows("SELECT device_id, presence FROM devices")), "I15"

    def check_agreement(self) -> None:
        for name, worker in self.workers.items():
            if worker.registered and worker.link is not None and worker.link.open_at_main:
                for key in worker.keys(QUEUED, RUNNING):
                    task = self.main.scheduler.task(key[0])
                    assert task is not None and task.attempt is not None, "I14: it runs, and its task has ended"
                    assert (task.attempt.device_id, task.attempt.epoch) == (name, key[1]), "I14: it is not current"
                    assert task.state is not State.CANCELLING, "I14: nobody told the device"
                assert not worker.keys(SPOOLED), "a result was not answered"
