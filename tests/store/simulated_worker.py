"""A device as the main's tests need one: the worker's rules over a journal, and no processes but names of them.

Whether an assignment counts and when leases end is decided by the rules that the real worker uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field

from retirecluster.domain import fencing
from retirecluster.domain.fencing import AttemptKey, LeaseEnd, Reception
from tests.store.simulation import Link, Message, SimulatedMain

QUEUED, RUNNING, SPOOLED, DIED = "queued", "running", "spooled", "died"
AGREED = "the same everywhere"
"""What copies of some verified tasks are asked for."""


@define(eq=False)
class SimulatedWorker:
    """What a device remembers. `journal` and `results` survive a kill, the rest does not.

    `began(worker, key)` hears of each process that starts. `clock_s` is the monotonic clock of all.
    """

    device_id: str
    profile: Message
    began: Callable[[SimulatedWorker, AttemptKey], None]
    clock_s: Callable[[], float]
    journal: dict[AttemptKey, str] = field(factory=dict)
    results: dict[AttemptKey, Message] = field(factory=dict)
    tasks: dict[AttemptKey, Message] = field(factory=dict)
    known: set[AttemptKey] = field(factory=set)
    link: Link | None = None
    session_no: int | None = None
    claimed_at_s: float = 0.0
    asked_at_s: dict[str, float] = field(factory=dict)
    beats: int = 0
    lease: LeaseEnd | None = None
    draining: bool = False
    finished: int = 0

    @property
    def registered(self) -> bool:
        return self.session_no is not None

    def keys(self, *states: str) -> list[AttemptKey]:
        return sorted(key for key, state in self.journal.items() if state in states)

    # -- the line

    def connect(self, main: SimulatedMain) -> None:
        """Connect, and claim what the journal holds."""
        self.link = main.connect(self.device_id)
        self.claimed_at_s = self.clock_s()
        self.link.claims = dict(self.journal)
        claims = [{"task_id": key[0], "epoch": key[1], "state": state} for key, state in sorted(self.journal.items())]
        self._send("register", self.profile | {"attempts": claims})

    def _send(self, name: str, data: Message, **envelope: Any) -> None:
        assert self.link is not None
        if self.link.open_at_worker:
            message = {"message_type": name, "sender_id": self.device_id, "data": data} | envelope
            self.link.to_main.append(message)

    def say(self, name: str, data: Message, **envelope: Any) -> None:
        if self.registered:
            self._send(name, data, **envelope)

    def line_lost(self) -> None:
        """It notices that its connection is over."""
        if self.link is not None:
            self.link.open_at_worker = False
        self.link = self.session_no = None
        self.asked_at_s.clear()

    def hears(self, link: Link, message: Message) -> None:
        """A message arrives; on a line that it has given up, long after."""
        data, name = message["data"], message["message_type"]
        if name == "task_assign":
            self._assigned(link, data["task"])
        elif name == "task_cancel":
            self._cancelled((data["task_id"], data["epoch"]))
        elif name == "result_ack":
            self._forget((data["task_id"], data["epoch"]))
        elif link is self.link:
            self._hears_now(link, name, message)

    def _hears_now(self, link: Link, name: str, message: Message) -> None:
        data = message["data"]
        if name == "register_ack":
            self._welcomed(link, data)
        elif name == "heartbeat_ack":
            asked_at_s = self.asked_at_s.pop(message["in_reply_to"], None)
            if asked_at_s is not None:
                self.lease = fencing.lease_end(asked_at_s, data["lease_s"])
            self._stop(data["stop"])
        elif name == "drain":
            self.draining = True
            for key in self.keys(QUEUED):
                self.refuse(key)
        elif name == "undrain":
            self.draining = False
        elif name == "ping":
            self._send("pong", {})
        elif name == "disconnect" or (name == "error" and not self.registered):
            self.line_lost()

    def _welcomed(self, link: Link, data: Message) -> None:
        if link.session_no is not None:
            return
        self.session_no = link.session_no = data["session_no"]
        self.lease = fencing.lease_end(self.claimed_at_s, data["lease_s"])
        self._stop(data["stop"])
        for key in self.keys(DIED):
            self._forget(key)
        for key in self.keys(SPOOLED):
            self.say("task_result", self.results[key])
        if self.draining:
            self.say("drain", {})

    # -- tasks

    def _assigned(self, link: Link, task: Message) -> None:
        key = (task["task_id"], task["epoch"])
        if link.session_no is None:
            return
        if fencing.reception(key, link.session_no, self.session_no, self.known) is not Reception.TAKE:
            return
        self.known.add(key)
        self.tasks[key] = task
        if self.draining:
            self.say("task_refused", {"task_id": key[0], "epoch": key[1], "reason": "draining"})
        else:
            self.journal[key] = QUEUED

    def _cancelled(self, key: AttemptKey) -> None:
        if self.journal.get(key) in (QUEUED, RUNNING):
            self.finish(key, "cancelled", 1.0 if self.journal[key] == RUNNING else 0.0)
        elif key not in self.known:
            self.known.add(key)
            self.say("task_refused", {"task_id": key[0], "epoch": key[1], "reason": "it is not here"})

    def _stop(self, attempts: list[Message]) -> None:
        for each in attempts:
            self._forget((each["task_id"], each["epoch"]))

    def _forget(self, key: AttemptKey) -> None:
        self.journal.pop(key, None)
        self.results.pop(key, None)

    def begin(self, key: AttemptKey, told: bool = True) -> None:
        """Its process starts. `told` False: the main hears nothing of that."""
        self.journal[key] = RUNNING
        self.began(self, key)
        if told:
            self.say("task_started", {"task_id": key[0], "epoch": key[1]})

    def finish(self, key: AttemptKey, status: str, seconds: float = 1.0) -> None:
        """Its process is gone; the result stays until the main has answered."""
        self.finished += 1
        self.journal[key] = SPOOLED
        self.results[key] = {
            "task_id": key[0],
            "epoch": key[1],
            "status": status,
            "execution_time": seconds,
            "result": {"output": f"{key[0]} {key[1]} {self.device_id} {self.finished}"},
        }
        if self.tasks[key].get("payload") == {"message": AGREED}:  # what is not compared tells them apart
            self.results[key]["result"] = {"output": AGREED, "stderr": self.results[key]["result"]["output"]}
        self.say("task_result", self.results[key])

    def refuse(self, key: AttemptKey) -> None:
        """Hand back what has not started."""
        self._forget(key)
        self.say("task_refused", {"task_id": key[0], "epoch": key[1], "reason": "it waits behind a long task here"})

    def beat(self) -> None:
        """A heartbeat that names what it holds."""
        if self.registered:
            self.beats += 1
            self.asked_at_s[f"beat-{self.beats}"] = self.clock_s()
            held = [{"task_id": key[0], "epoch": key[1]} for key in self.keys(QUEUED, RUNNING, SPOOLED)]
            data = {"system_metrics": {"cpu_usage": 50.0}, "status": "online", "attempts": held}
            self.say("heartbeat", data, message_id=f"beat-{self.beats}")

    def next_stop_s(self) -> float | None:
        """When its lease is so far over that nothing is left of what stops by itself."""
        return None if self.lease is None else self.lease.at_s + self.lease.grace_s

    def act(self) -> None:
        """What its own timers make it do. Processes take all the time that they are given to end."""
        stop_s = self.next_stop_s()
        if stop_s is not None and self.clock_s() >= stop_s:
            self.lease = None
            for key in self.keys(QUEUED, RUNNING):
                if self.tasks[key]["on_disconnect"] == "stop":
                    self.finish(key, "cancelled")

    # -- ends

    def killed(self) -> None:
        """As by kill -9, and started again: what ran died with it."""
        if self.link is not None:
            self.link.to_worker.clear()
        self.line_lost()
        for key in self.keys(QUEUED):
            self._forget(key)
        for key in self.keys(RUNNING):
            self.journal[key] = DIED
        self._begins_anew()

    def leaves(self) -> None:
        """Stopped in good order: what it runs is ended and handed back, then it says farewell."""
        for key in self.keys(QUEUED, RUNNING):
            ran = self.journal[key] == RUNNING
            self.refuse(key)
            if not self.registered or (ran and self.tasks[key]["delivery"] == "at_most_once"):
                self.journal[key] = DIED if ran else QUEUED
        self.say("disconnect", {"reason": "switched off"})
        self.line_lost()
        for key in self.keys(QUEUED):
            self._forget(key)
        self._begins_anew()

    def _begins_anew(self) -> None:
        self.known = set(self.journal)
        self.lease, self.draining = None, False
