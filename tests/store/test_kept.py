"""What is kept in memory of tasks is what is on disk: never older than what was shown, never ahead of a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

import pytest_twisted
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from twisted.internet.defer import Deferred, ensureDeferred

from retirecluster.domain.tasks import spec_from_document
from retirecluster.main import views
from retirecluster.store import kept as kept_module
from retirecluster.store.kept import Everything, Kept
from retirecluster.store.reads import TaskFilter, task_txn, tasks_txn
from tests.support import pause

SEQS = st.integers(0, 4)
ALL = TaskFilter()


class KeptModel(RuleBasedStateMachine):
    """A disk that is only versions of five tasks; reads and transactions begin and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = [0] * 5
        self.shown = [0] * 5
        self.reads: list[tuple[Deferred[Any], Any]] = []
        self.writes: list[Collection[int] | None] = []
        self.committed: list[Collection[int] | None] = []
        self.kept = Kept(self.read)

    def read(self, reading: Any, asked: Any) -> Deferred[Any]:
        """A read of the disk as it is now, which is told of later."""
        found: Any = self.document(int(asked)) if reading is task_txn else [self.document(seq) for seq in range(5)]
        told: Deferred[Any] = Deferred()
        self.reads.append((told, found))
        return told

    def document(self, seq: int) -> dict[str, Any]:
        return {"seq": seq, "task_id": str(seq), "version": self.disk[seq]}

    def answered(self, asking: Any) -> list[Any]:
        """What was answered at once, from memory; a read that has to wait answers nothing yet."""
        answers: list[Any] = []
        ensureDeferred(asking).addCallback(answers.append)
        return answers

    @rule(seq=SEQS)
    def ask_for_a_task(self, seq: int) -> None:
        for found in self.answered(self.kept.task(str(seq), dict)):
            assert found["version"] == self.disk[seq]

    @rule()
    def ask_for_all(self) -> None:
        for found in self.answered(self.kept.tasks(ALL, dict)):
            assert [each["version"] for each in found] == self.disk

    @rule(which=st.integers(0, 99))
    def a_read_is_told(self, which: int) -> None:
        if self.reads:
            told, found = self.reads.pop(which % len(self.reads))
            told.callback(found)

    @rule(changed=st.one_of(st.just(Everything), st.frozensets(SEQS)))
    def begin(self, changed: Collection[int] | None) -> None:
        self.kept.begin(changed)
        self.writes.append(changed)

    @rule()
    def commit(self) -> None:
        """The writer's thread is done; the reactor does not know yet."""
        if self.writes:
            changed = self.writes.pop(0)
            for seq in range(5) if changed is None else changed:
                self.disk[seq] += 1
            self.committed.append(changed)

    @rule()
    def end(self) -> None:
        if self.committed:
            self.kept.end(self.committed.pop(0))

    @rule()
    def fail(self) -> None:
        if self.writes and not self.committed:
            self.kept.end(self.writes.pop(0))

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert len(self.kept._tasks) == len(self.kept._ids) <= 5


TestKept = KeptModel.TestCase
TestKept.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def on_disk(node: Any, reading: Any, asked: Any) -> Any:
    """The same read by a connection that nobody else uses."""
    connection = sqlite3.connect(node.rooms.database.path)
    try:
        return reading(connection.cursor(), asked)
    finally:
        connection.close()


def without_live(document: Any) -> dict[str, Any]:
    """What of a document comes from the disk alone."""
    live = ("seq", "progress", "placement", "reason")
    return {name: value for name, value in document.items() if name not in live}


async def assert_same(node: Any, task_id: str) -> None:
    """Asked twice, the second time from memory, a task is what the disk says."""
    wanted = without_live(views.instants(on_disk(node, task_txn, task_id)))
    listed = [without_live(views.instants(each)) for each in on_disk(node, tasks_txn, ALL)]
    for _ in range(2):
        assert without_live(await node.rooms.cluster.task(task_id)) == wanted
        assert [without_live(each) for each in (await node.rooms.cluster.tasks(ALL))[0]] == listed


@pytest_twisted.ensureDeferred
async def test_memory_answers_as_the_disk_through_a_tasks_life(node: Any) -> None:
    cluster = node.rooms.cluster
    echo = {"task_type": "echo", "payload": {}, "labels": {"a": "b"}}
    first, second = await cluster.submit([spec_from_document(echo), spec_from_document(echo)])
    await assert_same(node, first.task_id)
    for act in (cluster.hold, cluster.cancel):
        await act(first.task_id, "for a test")
        await assert_same(node, first.task_id)
        await assert_same(node, second.task_id)
    again = await cluster.retry(first.task_id)
    await assert_same(node, again.task_id)
    await node.rooms.cleaner.clean()
    await assert_same(node, first.task_id)


@pytest_twisted.ensureDeferred
async def test_a_task_that_is_asked_for_again_is_not_read_again(node: Any, monkeypatch: Any) -> None:
    cluster, database = node.rooms.cluster, node.rooms.database
    [submitted] = await cluster.submit([spec_from_document({"task_type": "echo", "payload": {}})])
    await pause(0)
    first = await cluster.task(submitted.task_id)
    first["labels"], first["status"] = "spoiled", "spoiled"
    monkeypatch.setattr(database.kept, "read", None)  # a read would fail from here on
    again = await cluster.task(submitted.task_id)
    assert again["status"] == "queued" and again["labels"] == {}


@pytest_twisted.ensureDeferred
async def test_the_oldest_makes_room(monkeypatch: Any) -> None:
    monkeypatch.setattr(kept_module, "MAX_TASKS", 2)
    asked: list[str] = []

    def read(reading: Any, task_id: str) -> Deferred[Any]:
        asked.append(task_id)
        told: Deferred[Any] = Deferred()
        told.callback({"seq": int(task_id), "task_id": task_id})
        return told

    kept = Kept(read)
    for task_id in ("1", "2", "1", "3", "1", "2"):
        await kept.task(task_id, dict)
    assert asked == ["1", "2", "3", "2"]
