"""What was promised, what happened, and whether the two agree.

The checker knows only what anyone outside can know: the answers that a client got to its submits, the marks that
tasks left on the disk while they ran, the workers' journals, and the final state as the API tells it.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from retirecluster.worker.journal import replay
from tests.integration.cluster import HttpProblem, RealCluster, eventually

AT_LEAST_ONCE, AT_MOST_ONCE = "at_least_once", "at_most_once"
FINAL = frozenset({"completed", "failed", "cancelled", "expired", "lost"})
SOURCE = """
import fcntl, json, os, time
task, epoch = os.environ["RETIRE_TASK_ID"], int(os.environ["RETIRE_EPOCH"])
marks = os.open({marks!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
lock = os.open({locks!r} + task, os.O_RDWR | os.O_CREAT, 0o644)
def mark(what, **more):
    record = {{"is": what, "task": task, "epoch": epoch, "device": os.environ["RETIRE_DEVICE_ID"], **more}}
    os.write(marks, json.dumps(record | {{"pid": os.getpid(), "at": time.monotonic()}}).encode() + b"\\n")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    overlap = False
except OSError:
    overlap = True
mark("start", overlap=overlap)
time.sleep({seconds!r})
with open("epoch.txt", "w") as file:
    file.write(str(epoch))
mark("end")
print(epoch)
"""


@frozen
class Run:
    """One start of a task's process. `ended_s` is None where it was killed (or still runs).

    `overlap`: another process of the same task was alive when it began, by a lock that dies with its holder.
    """

    task_id: str
    epoch: int
    device_id: str
    pid: int
    began_s: float
    ended_s: float | None
    overlap: bool


@define
class Marks:
    """The file to which tasks append a line when they begin and when they end."""

    folder: Path

    def __attrs_post_init__(self) -> None:
        (self.folder / "locks").mkdir(parents=True, exist_ok=True)

    @property
    def path(self) -> Path:
        return self.folder / "marks.jsonl"

    def source(self, seconds: float) -> str:
        """A Python program that marks its start, sleeps, marks its end, and prints its epoch."""
        return SOURCE.format(marks=str(self.path), locks=f"{self.folder / 'locks'}/", seconds=seconds)

    def runs(self) -> list[Run]:
        """Every run so far, in the order they began."""
        text = self.path.read_text() if self.path.exists() else ""
        records = [json.loads(line) for line in text.splitlines()]
        ends = {(each["task"], each["epoch"], each["pid"]): each["at"] for each in records if each["is"] == "end"}
        return [
            Run(
                each["task"],
                each["epoch"],
                each["device"],
                each["pid"],
                each["at"],
                ends.get((each["task"], each["epoch"], each["pid"])),
                each["overlap"],
            )
            for each in records
            if each["is"] == "start"
        ]


@define
class Client:
    """Submits tasks, each under a key of its own, and remembers every answer it got."""

    cluster: RealCluster
    marks: Marks
    prefix: str = ""
    """Put before its keys, which tells them from those of other clients."""
    documents: dict[str, dict[str, Any]] = field(factory=dict)
    answers: dict[str, list[str]] = field(factory=dict)
    """Key to the id in each acknowledgement."""

    def submit(self, count: int, seconds: float = 0.1, **fields: Any) -> None:
        """Make tasks and send each in a request of its own; what is not acknowledged is sent again by `repeat`."""
        for _ in range(count):
            key = f"{self.prefix}{len(self.documents)}"
            payload = {"source": self.marks.source(seconds)}
            self.documents[key] = {"task_type": "python_script", "payload": payload, "idempotency_key": key, **fields}
            self.send([key])

    def repeat(self) -> None:
        """Send everything once more, as a client does that does not know what became of it."""
        assert self.send(list(self.documents)), "the main does not answer"

    def send(self, keys: list[str]) -> bool:
        """Send tasks; whether they were acknowledged."""
        try:
            made = self.cluster.request("POST", "tasks", [self.documents[key] for key in keys], timeout_s=10.0)
        except (HttpProblem, urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if isinstance(error, HttpProblem) and error.status != 503:
                raise
            return False
        for key, task in zip(keys, made["tasks"], strict=True):
            self.answers.setdefault(key, []).append(task["task_id"])
        return True


@define
class Checker:
    """Holds the final state against the promises. Every broken one is named in the failure."""

    client: Client
    timeout_s: float = 40.0

    def check(self, workers: Iterable[str]) -> dict[str, int]:
        """Wait for the end of everything acknowledged, and check; returns counts of what happened."""
        tasks = {key: self._ended(ids[0]) for key, ids in self.client.answers.items()}
        runs = self.client.marks.runs()
        broken = self.broken(tasks, runs)
        assert not broken, "\n".join(broken)
        for name in workers:
            eventually(lambda name=name: not self._journal(name), 10, f"an empty journal of {name}")
        return {
            "tasks": len(tasks),
            "starts": len(runs),
            "epochs": sum(task["epoch"] for task in tasks.values()),
            "lost": sum(task["status"] == "lost" for task in tasks.values()),
            "overlaps": sum(run.overlap for run in runs),
        }

    def broken(self, tasks: dict[str, dict[str, Any]], runs: list[Run]) -> list[str]:
        """Every promise that was not kept, one line each; `tasks` are documents of tasks that have ended, by key."""
        found = [*self._promises(tasks), *self._histories(tasks, runs), *self._results(tasks, runs)]
        return found + self._second_look(tasks)

    def _ended(self, task_id: str) -> dict[str, Any]:
        """I1 and I12: the task exists, and ends."""
        return self.client.cluster.ended(task_id, self.timeout_s)

    def _promises(self, tasks: dict[str, dict[str, Any]]) -> list[str]:
        """I10: one id for each key, one task for each key; I12: only at_most_once may end as lost."""
        broken = [f"I10 {key}: ids {ids}" for key, ids in self.client.answers.items() if len(set(ids)) > 1]
        if len({task["task_id"] for task in tasks.values()}) != len(tasks):
            broken.append("I10: one task for two keys")
        for key, task in tasks.items():
            lost_is_fine = self.client.documents[key].get("delivery") == AT_MOST_ONCE
            if task["status"] not in (("completed", "lost") if lost_is_fine else ("completed",)):
                broken.append(f"I12 {task['task_id']} ended {task['status']}: {task['reason']}")
        return broken

    def _histories(self, tasks: dict[str, dict[str, Any]], runs: list[Run]) -> list[str]:
        """I4, I5, I11: epochs, starts, and what ran at the same time."""
        broken = []
        runs_of: dict[str, list[Run]] = {}
        for run in runs:
            runs_of.setdefault(run.task_id, []).append(run)
        for key, task in tasks.items():
            task_id, document = task["task_id"], self.client.documents[key]
            mine = runs_of.get(task_id, [])
            granted = {attempt["epoch"]: attempt["device_id"] for attempt in task["attempts"]}
            if list(granted) != list(range(1, task["epoch"] + 1)):
                broken.append(f"I4 {task_id}: epochs {list(granted)}, now {task['epoch']}")
            if len({run.epoch for run in mine}) != len(mine):
                broken.append(f"I5 {task_id}: an attempt was started twice: {mine}")
            broken += [f"I5 {task_id}: {run} of {granted}" for run in mine if granted.get(run.epoch) != run.device_id]
            once = document.get("delivery") == AT_MOST_ONCE
            if once and len(mine) > 1:
                broken.append(f"I5 {task_id}: at_most_once was started {len(mine)} times: {mine}")
            if (once or document.get("on_disconnect") == "stop") and any(run.overlap for run in mine):
                broken.append(f"I11 {task_id}: two runs at the same time: {mine}")
        return broken

    def _results(self, tasks: dict[str, dict[str, Any]], runs: list[Run]) -> list[str]:
        """I3: the result on record is of the epoch that the API names, and that attempt ran to its end."""
        broken = []
        ended = {(run.task_id, run.epoch) for run in runs if run.ended_s is not None}
        for task in tasks.values():
            if task["status"] != "completed":
                continue
            task_id, epoch = task["task_id"], task["epoch"]
            output = self.client.cluster.get(f"tasks/{task_id}/result")["output"]
            outcomes = {attempt["epoch"]: attempt["outcome"] for attempt in task["attempts"]}
            if output.strip() != str(epoch) or outcomes[epoch] != "completed" or (task_id, epoch) not in ended:
                broken.append(f"I3 {task_id}: epoch {epoch}, its result is of {output.strip()}, outcomes {outcomes}")
        return broken

    def _second_look(self, tasks: dict[str, dict[str, Any]]) -> list[str]:
        """I2: what has ended stays as it is."""
        time.sleep(0.2)
        again = {key: self.client.cluster.get(f"tasks/{task['task_id']}") for key, task in tasks.items()}
        return [f"I2 {key}: {tasks[key]} became {again[key]}" for key in tasks if again[key] != tasks[key]]

    def _journal(self, worker: str) -> object:
        """What a worker still has to report."""
        path = self.client.cluster.folder / worker / "journal.jsonl"
        return replay(path.read_bytes()) if path.exists() else None
