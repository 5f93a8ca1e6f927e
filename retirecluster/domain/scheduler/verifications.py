"""Tasks with `verify: 2`: they run as copies on different devices, and count once two of these gave the same result.

The verified task itself never runs. It is `blocked` while its copies do, which are tasks of their own with all rules of
the lifecycle; the second is made when the first has completed, for a device that has not run it yet. So a verified task
has exactly one thing that moves it: the copy that is under way. docs/adr/0009 says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from attrs import define, evolve, field, frozen

from retirecluster.domain.devices import Presence
from retirecluster.domain.lifecycle import State
from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.domain.scheduler.picture import Device, Moment, Task
from retirecluster.domain.scheduler.standing import Standing
from retirecluster.domain.scheduler.tasks import TaskEvents
from retirecluster.domain.scheduler.turn import Copied
from retirecluster.domain.tasks import TaskSpec, encode
from retirecluster.domain.trust import Blame

PENDING, AGREED, DIFFER, IMPOSSIBLE, STOPPED = "pending", "agreed", "differ", "impossible", "stopped"
MAX_COPIES = 4
"""Two that agree, one that differs, and one that fails."""
VERIFY_WITHIN_S = 3600.0
"""How long a second or third copy may wait for its device, beyond the time that it may run."""
LABEL = "retire.verifies"
SHOWN_DIGITS = 12


@frozen
class Copy:
    """One run. `device_id` and `state` once it has ended, `sha256` of what it gave if it completed."""

    task_id: str
    seq: int
    device_id: str | None = None
    state: str = ""
    sha256: str = ""


@define(eq=False)
class Verification:
    """The copies of one task, and what they came to."""

    task: Task
    copies: list[Copy] = field(factory=list)
    state: str = PENDING
    reason: str = ""

    @property
    def done(self) -> list[Copy]:
        """The copies that completed."""
        return [each for each in self.copies if each.sha256]

    @property
    def used(self) -> frozenset[str]:
        """Devices that have run it."""
        return frozenset(each.device_id for each in self.copies if each.device_id)


@define(eq=False)
class Verifications:
    """All that are under way, by the id of the verified task and by that of the copy that runs."""

    ledger: Ledger
    fleet: Fleet
    tasks: TaskEvents
    standing: Standing
    pending: dict[str, Verification] = field(factory=dict)
    by_copy: dict[str, Verification] = field(factory=dict)

    def begin(self, task: Task, now: Moment) -> None:
        """A task that is to be verified was submitted: its first copy is queued in its place."""
        verification = self.pending[task.task_id] = Verification(task)
        self._copy(verification, now)

    def restored(self, task: Task, copies: list[Copy]) -> None:
        """One that was under way when the main ended. Raises LookupError if its copy is not."""
        verification = self.pending[task.task_id] = Verification(task, copies)
        self.by_copy[self.ledger.tasks[copies[-1].task_id].task_id] = verification

    def live_copy(self, task: Task) -> Task | None:
        """The copy that is under way of a task that is to be verified; None for any other."""
        verification = self.pending.get(task.task_id)
        return None if verification is None else self.ledger.tasks.get(verification.copies[-1].task_id)

    def ended(self, task: Task, result: Mapping[str, Any] | None, now: Moment) -> None:
        """A task has ended; `result` is the data of its `task_result` if it came in this turn."""
        if task.task_id in self.pending:  # cancelled, or its deadline passed
            self._stop(self.pending[task.task_id], now)
            return
        verification = self.by_copy.pop(task.task_id, None)
        if verification is not None:
            completed = task.state is State.COMPLETED
            digest = digest_of(result or {}) if completed else ""
            last = evolve(verification.copies[-1], device_id=task.device_id, state=task.state.value, sha256=digest)
            verification.copies[-1] = last
            if verification.task.started_at is None:
                verification.task.started_at = task.started_at  # a verified task has begun when its first copy has
                self.ledger.turn.tasks[verification.task.seq] = verification.task
            self._decide(verification, task, now)

    def _decide(self, verification: Verification, last: Task, now: Moment) -> None:
        """Enough is known, or another copy has to run."""
        done = verification.done
        if not done:
            self._finish(verification, IMPOSSIBLE, last.reason or f"its copy was {last.state}", now, last.seq)
            return
        digest, votes = Counter(each.sha256 for each in done).most_common(1)[0]
        if votes > 1:
            self._agreed(verification, digest, now)
        elif last.state in (State.EXPIRED, State.CANCELLED) or len(verification.copies) == MAX_COPIES:
            self._undecided(verification, f"its copy {last.task_id} has {last.state}: {last.reason}", now)
        elif self._candidates(verification):
            self._copy(verification, now)
        else:
            self._undecided(verification, "no other device fits", now)

    def _agreed(self, verification: Verification, digest: str, now: Moment) -> None:
        right = [each for each in verification.done if each.sha256 == digest]
        wrong = [each for each in verification.done if each.sha256 != digest]
        for copies, what in ((right, Blame.GOOD), (wrong, Blame.WRONG)):
            for each in copies:
                device = self.fleet.devices.get(each.device_id or "")
                if device is not None:
                    self.standing.note(device, what, now)
        words = f"{_on(right)} agree" + (f", {_on(wrong)} differs" if wrong else "")
        self._finish(verification, AGREED, words, now, right[0].seq)

    def _undecided(self, verification: Verification, why: str, now: Moment) -> None:
        """One result that nobody can confirm counts, and says so; of two that differ neither does."""
        done = verification.done
        if len(done) == 1:
            self._finish(verification, IMPOSSIBLE, why, now, done[0].seq)
            return
        found = ", ".join(f"{each.sha256[:SHOWN_DIGITS]} on {each.device_id}" for each in done)
        self._finish(verification, DIFFER, f"{found}; {why}", now, None)

    def _finish(self, verification: Verification, state: str, why: str, now: Moment, counts: int | None) -> None:
        """End the verified task; the copy with the seq `counts` gives it its result."""
        verification.state, verification.reason = state, why
        task = verification.task
        del self.pending[task.task_id]
        self.ledger.turn.verifications[task.seq] = verification
        chosen = next((each for each in verification.copies if each.seq == counts), None)
        if chosen is not None:
            task.device_id = chosen.device_id
            self.ledger.turn.adopted.append(Copied(task.seq, chosen.seq))
        if state == DIFFER:
            self.ledger.step("verified", task, State.FAILED, now, f"results_differ: {why}")
        elif not verification.done:
            self.ledger.step("verified", task, State.FAILED, now, why)
        else:
            reason = f"verification impossible: {why}" if state == IMPOSSIBLE else ""
            self.ledger.step("verified", task, State.COMPLETED, now, reason)

    def _stop(self, verification: Verification, now: Moment) -> None:
        """The verified task has ended by itself: its copy is not wanted any more."""
        task, copy = verification.task, verification.copies[-1]
        verification.state, verification.reason = STOPPED, f"the task has {task.state}"
        del self.pending[task.task_id]
        self.by_copy.pop(copy.task_id, None)
        self.ledger.turn.verifications[task.seq] = verification
        live = self.ledger.tasks.get(copy.task_id)
        if live is not None:
            self.tasks.cancel(live, now, f"{task.task_id}, which it verifies, has {task.state}")

    def _copy(self, verification: Verification, now: Moment) -> None:
        """Queue one more copy, for a device that has not run it."""
        task = verification.task
        copy = self.tasks.submit(_spec(verification), now)
        copy.body = task.body  # None where only the store has it: it is copied there
        copy.inputs = task.inputs
        verification.copies.append(Copy(copy.task_id, copy.seq))
        self.by_copy[copy.task_id] = verification
        self.ledger.turn.copied.append(Copied(copy.seq, task.seq))
        self.ledger.turn.verifications[task.seq] = verification

    def _candidates(self, verification: Verification) -> list[Device]:
        """Devices that could run the next copy: what is offline, distrusted or set aside is not waited for."""
        demand, task = _demand(verification), verification.task
        return [
            device
            for device in self.fleet.devices.values()
            if device.presence is not Presence.OFFLINE
            and not (device.distrusted or device.cordoned or device.draining)
            and not unmet(demand, task.task_type, task.options.at_most_once, device.profile)
        ]


def digest_of(document: Mapping[str, Any]) -> str:
    """SHA-256 of what a result is about: its output, its exit code, and the names and contents of its files.

    What differs from run to run by nature is left out: times, memory, stderr.
    """
    result = document.get("result") or {}
    files = sorted((str(each.get("name")), str(each.get("sha256"))) for each in document.get("artifacts") or ())
    said = [result.get("output"), result.get("exit_code") or 0, bool(result.get("truncated")), files]
    return sha256(json.dumps(said, sort_keys=True).encode("ascii")).hexdigest()


def _demand(verification: Verification) -> Requirements:
    demand = verification.task.queue.demand
    return evolve(demand, not_devices=demand.not_devices | verification.used)


def _spec(verification: Verification) -> TaskSpec:
    """The next copy. Its deadline begins with the second: the first may wait as long as the task itself."""
    task, demand = verification.task, _demand(verification)
    requirements = demand.document()
    return TaskSpec(
        task_type=task.task_type,
        name=f"copy of {task.name or task.task_id}"[:200],
        priority=task.priority,
        requirements=demand,
        requirements_text=encode(requirements) if requirements else "",
        options=evolve(task.options, verify=1),
        labels=encode({LABEL: task.task_id}),
        body=task.body or "",
        deadline_s=VERIFY_WITHIN_S + task.options.timeout_s if verification.copies else None,
    )


def _on(copies: list[Copy]) -> str:
    return " and ".join(str(each.device_id) for each in copies)
