"""A main whose disk gets full, whose database is locked by another program, or which is told nonsense by devices."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import fail
from twisted.internet.task import Clock

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.tasks import spec_from_document
from retirecluster.main import cleaning
from retirecluster.main.space import Reserve, Space
from retirecluster.store import database as database_module
from retirecluster.store.failures import StoreFailure, store_failure
from retirecluster.store.reads import TaskFilter, status_counts_txn
from retirecluster.store.writes import REFUSED_CHARS, REFUSED_KEPT
from tests.support import connect, pause

MIB = 1024 * 1024


def echo(**document: Any) -> Any:
    return spec_from_document({"task_type": "echo"} | document)


def size_of(path: str) -> int:
    return Path(path).stat().st_size


class Disk:
    """Free bytes as told, and how often somebody looked."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    def __call__(self, folder: Path) -> int:
        self.looks += 1
        if self.free < 0:
            raise OSError("gone")
        return self.free


def test_the_disk_is_looked_at_once_a_second(tmp_path: Path) -> None:
    clock, disk = Clock(), Disk(100 * MIB)
    space = Space(tmp_path, 64 * MIB, clock.seconds, disk)
    for _ in range(1000):
        space.check()
    assert disk.looks == 1
    disk.free = 63 * MIB
    space.check()
    clock.advance(1.0)
    with pytest.raises(ClusterError, match=r"has 63 MiB left, min_free_bytes is 64 MiB") as caught:
        space.check()
    assert (caught.value.code, disk.looks) == ("no_space", 2)
    disk.free = -1  # nobody can tell: not a reason to refuse
    clock.advance(1.0)
    space.check()


def test_the_reserve_has_real_blocks_and_leaves_room_for_results(tmp_path: Path) -> None:
    clock, disk = Clock(), Disk(11 * MIB)
    reserve = Reserve(tmp_path / "reserve.bin", 2 * MIB, Space(tmp_path, 10 * MIB, clock.seconds, disk))
    assert not reserve.make() and not reserve.give_back()
    disk.free = 12 * MIB
    clock.advance(2.0)
    assert reserve.make() and reserve.make()
    assert reserve.path.stat().st_blocks * 512 >= 2 * MIB
    reserve.help_start()
    assert reserve.path.exists()
    disk.free = 1000
    clock.advance(2.0)
    reserve.help_start()
    assert not reserve.path.exists() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database is locked"), StoreFailure.BUSY),
        (sqlite3.OperationalError("database table is locked"), StoreFailure.BUSY),
        (sqlite3.OperationalError("database or disk is full"), StoreFailure.FULL),
        (OSError(28, "No space left on device"), StoreFailure.FULL),
        (sqlite3.OperationalError("disk I/O error"), StoreFailure.BROKEN),
        (sqlite3.DatabaseError("database disk image is malformed"), StoreFailure.BROKEN),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), StoreFailure.BROKEN),
        (ValueError("database is locked"), StoreFailure.BROKEN),
    ],
)
def test_kinds_of_failures(error: Exception, kind: StoreFailure) -> None:
    assert store_failure(error) is kind


@pytest_twisted.ensureDeferred
async def test_submits_are_refused_and_results_are_not(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    peer = await connect(node.worker_port)
    peer.say(**seed_messages[0])
    await peer.expect("register_ack")
    cluster, space = node.rooms.cluster, node.rooms.desk.space
    [submitted] = await cluster.submit([echo()])
    await peer.expect("task_assign")
    space.look = Disk(1000)
    space._looked_at_s = None
    with pytest.raises(ClusterError) as caught:
        await cluster.submit([echo()])
    assert (caught.value.code, caught.value.kind.http_status) == ("no_space", 507)
    health = cluster.health()
    assert health["status"] != "ok" and "min_free_bytes" in health["problems"][0]
    peer.say("task_result", {"task_id": submitted.task_id, "epoch": 1, "status": "completed"})
    assert (await peer.expect("result_ack"))["data"]["accepted"] is True
    assert (await cluster.task(submitted.task_id))["status"] == "completed"
    space.look = Disk(10**12)
    space._looked_at_s = None
    await cluster.submit([echo()])
    assert cluster.health()["status"] == "ok"
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_refused_results_are_kept(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    register, _, _, _ = seed_messages
    holder, other = await connect(node.worker_port), await connect(node.worker_port)
    holder.say(**register)
    await holder.expect("register_ack")
    cluster = node.rooms.cluster
    [submitted] = await cluster.submit([echo()])
    await holder.expect("task_assign")
    other.say(**register | {"sender_id": "device-002"})
    await other.expect("register_ack")
    task_id = submitted.task_id

    async def send(peer: Any, **data: Any) -> bool:
        peer.say("task_result", {"task_id": task_id, "status": "completed", "result": {"output": "x"}} | data)
        return bool((await peer.expect("result_ack"))["data"]["accepted"])

    assert not await send(other, epoch=1)
    assert not await send(holder, epoch=7)
    assert not await send(holder, task_id="task-unknown", epoch=1)
    assert await send(holder, epoch=1)
    assert await send(holder, epoch=1)  # the same again is no conflict
    assert not await send(holder, epoch=1, result={"output": "y" * (REFUSED_CHARS + 1)})
    assert not await send(holder, epoch=3)
    assert not await send(other, epoch=1, status="failed")
    [unknown] = await cluster.refused_results("task-unknown", 10)
    assert (unknown["kind"], unknown["device_id"]) == ("not_found", "device-001")
    with pytest.raises(ClusterError, match="there is no task task-nowhere"):
        await cluster.refused_results("task-nowhere", 10)
    kept = await cluster.refused_results(task_id, 100)
    assert [(each["kind"], each["device_id"], each["epoch"]) for each in reversed(kept)] == [
        ("not_holder", "device-002", 1),
        ("stale_attempt", "device-001", 7),
        ("result_conflict", "device-001", 1),
        ("stale_attempt", "device-001", 3),
        ("stale_attempt", "device-002", 1),
    ]
    assert kept[-1]["result"] == {"epoch": 1, "status": "completed", "result": {"output": "x"}}
    assert kept[2]["result"]["cut_after_chars"] == REFUSED_CHARS and len(kept[2]["result"]["text"]) == REFUSED_CHARS
    assert kept[0]["at"].endswith("Z") and len(await cluster.refused_results(task_id, 2)) == 2
    await holder.leave()
    await other.leave()


@pytest_twisted.ensureDeferred
async def test_refused_results_are_bounded(node: Any, seed_messages: list[dict[str, Any]]) -> None:
    peer = await connect(node.worker_port)
    peer.say(**seed_messages[0])
    await peer.expect("register_ack")
    many = REFUSED_KEPT + 50
    for number in range(many):
        peer.say("task_result", {"task_id": f"task-{number}", "epoch": 1, "status": "completed"})
    for _ in range(many):
        await peer.expect("result_ack")
    peer.say("task_result", {"task_id": "the-last", "epoch": 1, "status": "completed"})
    await peer.expect("result_ack")
    kept = await node.rooms.database.read(
        lambda cursor: cursor.execute("SELECT task_id FROM refused_results").fetchall()
    )
    assert len(set(kept)) == REFUSED_KEPT and kept[-1] == ("the-last",)
    assert len(await node.rooms.cluster.refused_results("the-last", many)) == 1
    await peer.leave()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.2)


@pytest_twisted.ensureDeferred
async def test_a_lock_of_another_program_is_waited_for(
    impatient: None, make_node: Any, seed_messages: list[dict[str, Any]]
) -> None:
    node = make_node()
    cluster, turns = node.rooms.cluster, node.rooms.turns
    peer = await connect(node.worker_port)
    peer.say(**seed_messages[0])
    await peer.expect("register_ack")
    [running] = await cluster.submit([echo()])
    await peer.expect("task_assign")
    lock = sqlite3.connect(node.rooms.database.path)
    lock.execute("BEGIN IMMEDIATE")

    async def code_of(waiting: Any) -> str:
        with pytest.raises(ClusterError) as caught:
            await waiting
        return caught.value.code

    peer.say("task_result", {"task_id": running.task_id, "epoch": 1, "status": "completed"})
    assert await code_of(cluster.submit([echo(name="waited")])) == "store_busy"
    assert await code_of(cluster.submit([echo(name="refused")])) == "store_busy"
    assert turns.busy_s() > 0 and "locked" in cluster.health()["problems"][0]
    assert (await cluster.task(running.task_id))["status"] == "assigned"  # reads go on
    peer.say("heartbeat", {})
    await peer.expect("heartbeat_ack")
    await pause(0.5)
    lock.rollback()
    lock.close()
    assert (await peer.expect("result_ack"))["data"]["accepted"] is True
    tasks, _ = await cluster.tasks(TaskFilter())
    told = {task["name"]: task["status"] for task in tasks}
    assert told["waited"] == "cancelled" and "refused" not in told
    assert cluster.health()["status"] == "ok" and turns.busy_s() == 0
    await cluster.submit([echo()])
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_key_that_was_answered_with_busy_is_one_task(impatient: None, make_node: Any) -> None:
    node = make_node()
    cluster = node.rooms.cluster
    spec = echo(idempotency_key="k")
    lock = sqlite3.connect(node.rooms.database.path)
    lock.execute("BEGIN IMMEDIATE")
    for _ in range(2):
        with pytest.raises(ClusterError, match="locked"):
            await cluster.submit([spec])
    lock.rollback()
    lock.close()
    await node.rooms.turns.committed()
    again = (await cluster.submit([spec]))[0]
    assert not again.created
    assert (await cluster.task(again.task_id))["status"] == "queued"
    assert node.rooms.scheduler.ledger.counts[State.QUEUED] == 1


class FailingWrites:
    """Stands in for the database: writes fail as told, then go through."""

    def __init__(self, real: Any, *errors: Exception) -> None:
        self.real, self.errors, self.calls = real, list(errors), 0

    def __call__(self, *arguments: Any) -> Any:
        self.calls += 1
        return fail(self.errors.pop(0)) if self.errors else self.real(*arguments)


@pytest_twisted.ensureDeferred
async def test_a_full_disk_takes_the_last_turn_from_the_reserve(make_node: Any) -> None:
    node = make_node(reserve_bytes=MIB, min_free_bytes=0)
    reserve = Path(node.settings["data_dir"]) / "reserve.bin"
    assert reserve.exists()
    told: list[str] = []
    node.rooms.turns.fatal = lambda failure: told.append(failure.getErrorMessage())
    turns, database = node.rooms.turns, node.rooms.database
    writes = FailingWrites(database.write, sqlite3.OperationalError("database or disk is full"))
    turns.database = type("Failing", (), {"write": writes})()
    [submitted] = await node.rooms.cluster.submit([echo()])
    await pause(0.01)
    assert told == ["database or disk is full"] and not reserve.exists() and writes.calls == 2
    assert (await node.rooms.cluster.task(submitted.task_id))["status"] == "queued"
    with pytest.raises(ClusterError) as caught:
        await node.rooms.cluster.submit([echo()])
    assert caught.value.code == "shutting_down"


@pytest_twisted.ensureDeferred
async def test_any_other_failure_stops_at_once(make_node: Any) -> None:
    node = make_node(reserve_bytes=MIB, min_free_bytes=0)
    told: list[str] = []
    node.rooms.turns.fatal = lambda failure: told.append(failure.getErrorMessage())
    writes = FailingWrites(node.rooms.database.write, sqlite3.OperationalError("disk I/O error"))
    node.rooms.turns.database = type("Failing", (), {"write": writes})()
    with pytest.raises(ClusterError) as caught:
        await node.rooms.cluster.submit([echo()])
    assert caught.value.code == "shutting_down"
    await pause(0.01)
    assert told == ["disk I/O error"] and writes.calls == 1
    assert (Path(node.settings["data_dir"]) / "reserve.bin").exists()


@pytest_twisted.ensureDeferred
async def test_clean_up_while_it_runs(make_node: Any, seed_messages: list[dict[str, Any]]) -> None:
    node = make_node(keep_tasks_days=0, keep_events=1000)
    peer = await connect(node.worker_port)
    peer.say(**seed_messages[0])
    await peer.expect("register_ack")
    cluster, counts = node.rooms.cluster, node.rooms.scheduler.ledger.counts
    submitted = await cluster.submit([echo(name=str(number)) for number in range(400)])
    waiting = [node.rooms.scheduler.task(each.task_id) for each in submitted]
    for task in [task for task in waiting if task.state is State.QUEUED]:
        node.rooms.scheduler.tasks.cancel(task, node.rooms.desk.moment(), "enough")
    await node.rooms.turns.committed()
    removed = await node.rooms.cleaner.clean()
    assert removed >= 390 and counts[State.CANCELLED] == 0
    status = cluster.status()["tasks"]
    found = await node.rooms.database.read(status_counts_txn)
    assert {name: count for name, count in status.items() if count} == found
    assert sum(found.values()) >= 1 and node.rooms.cleaner.errors == 0
    node.rooms.heartbeat.update_cluster_metrics()
    assert node.rooms.heartbeat.throughput_per_s() >= 0
    assert size_of(f"{node.rooms.database.path}-wal") == 0
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_round_that_fails_is_not_the_last(make_node: Any, logged_failures: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cleaning, "FIRST_AFTER_S", 0.01)
    monkeypatch.setattr(cleaning, "EVERY_S", 0.03)
    node = make_node()
    change = FailingWrites(node.rooms.database.change, sqlite3.OperationalError("no"))
    checkpoint = node.rooms.database.checkpoint
    node.rooms.cleaner.database = type("Failing", (), {"change": change, "checkpoint": staticmethod(checkpoint)})()
    await pause(0.3)
    assert node.rooms.cleaner.errors == 1 and change.calls > 6
    assert len(logged_failures.flush()) == 1
