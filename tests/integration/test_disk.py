"""The disk of the main, by real processes: databases that are not what they should be, full disks, locks, backups."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from retirecluster.store import migrations
from tests.integration.cluster import HttpProblem, RealCluster, eventually

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
TASKS = 60
STORE_FAILED = 74


# -- databases that are not what they should be


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `main` that took in tasks and was killed, a `backup.db`, and an `old.db` copied by hand."""
    folder = tmp_path_factory.mktemp("killed")
    cluster = RealCluster(folder)
    try:
        cluster.start_main()
        cluster.submit(*[{"task_type": "echo", "payload": {"message": "x" * 500}}] * TASKS)
        cluster.kill("main", signal.SIGTERM)
        shutil.copy(folder / "main" / "cluster.db", folder / "old.db")
        cluster.start_main()
        cluster.submit(*[{"task_type": "echo"}] * 5)
        assert command("backup", "--data-dir", folder / "main", "--output", folder / "backup.db").returncode == 0
        cluster.submit({"task_type": "echo", "name": "after the backup"})
        cluster.kill("main")
    finally:
        cluster.stop()
    return folder


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "retirecluster.store", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def alone(main: Path) -> Path:
    """The database with its -wal merged, as another program leaves it."""
    sql(main / "cluster.db", "PRAGMA wal_checkpoint(TRUNCATE)")
    return main / "cluster.db"


def foreign(main: Path) -> None:
    (alone(main)).unlink()
    sql(main / "cluster.db", "CREATE TABLE photos (a)")


def of_another_cluster(main: Path) -> None:
    sql(alone(main), "UPDATE cluster SET cluster_id = 'cluster-other'")


def flipped_in_the_wal(main: Path) -> None:
    wal = main / "cluster.db-wal"
    at = wal.stat().st_size // 2
    overwrite(wal, at, bytes([wal.read_bytes()[at] ^ 0x10]))


def put_an_old_copy_there(main: Path) -> None:
    alone(main)
    shutil.copy(main.parent / "old.db", main / "cluster.db")


DISASTERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda main: [(main / name).unlink() for name in ("cluster.db", "cluster.db-wal")], "is missing"),
    "zero length": (
        lambda main: [(main / "cluster.db-wal").unlink(), (main / "cluster.db").write_bytes(b"")],
        "is empty",
    ),
    "truncated": (lambda main: os.truncate(alone(main), 24_576), "is damaged"),
    "truncated within the header": (lambda main: os.truncate(alone(main), 50), "is damaged"),
    "a page of noise": (lambda main: overwrite(alone(main), 4 * 4096, b"\xa5\x5a" * 2048), "is damaged"),
    "a flipped bit in the header": (lambda main: overwrite(alone(main), 3, b"\x00"), "is damaged, or no database"),
    "a flipped bit in the -wal": (flipped_in_the_wal, "lacks the last"),
    "the -wal deleted": (lambda main: (main / "cluster.db-wal").unlink(), "lacks the last"),
    "an old copy": (put_an_old_copy_there, "lacks the last"),
    "text": (
        lambda main: (alone(main)).write_text("dear diary\n" * 1000),
        "is damaged, or no database: file is not a database",
    ),
    "of another program": (foreign, "is a database of another program"),
    "of another cluster": (of_another_cluster, "belongs to cluster-other"),
    "rows of nonsense": (
        lambda main: sql(alone(main), "UPDATE tasks SET requirements = '{' WHERE seq = 7"),
        "is damaged: JSONDecodeError",
    ),
    "a newer schema": (lambda main: sql(alone(main), "PRAGMA user_version = 99"), "install the newer retirecluster"),
}


@pytest.mark.parametrize("disaster", DISASTERS)
def test_refused_in_one_line(cluster: RealCluster, killed: Path, disaster: str) -> None:
    main = cluster.folder / "main"
    shutil.copytree(killed / "main", main)
    shutil.copy(killed / "old.db", cluster.folder / "old.db")
    spoil, what = DISASTERS[disaster]
    spoil(main)
    before = contents(main)
    assert main_refuses(cluster, what)
    after = contents(main)
    if disaster != "rows of nonsense":  # seen once it is open: then the start was counted
        assert after.get("cluster.db") == before.get("cluster.db")
        assert after["cluster.mark"] == before["cluster.mark"]


def contents(main: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in main.iterdir() if path.is_file() and path.suffix != ".db-shm"}


def ended(cluster: RealCluster) -> int:
    """The exit status of a main that ends by itself."""
    status = cluster.processes["main"].wait(30)
    del cluster.processes["main"]
    return status


def main_refuses(cluster: RealCluster, what: str) -> bool:
    log = cluster.launch_main()
    assert ended(cluster) == 2
    said = log.read_text()
    assert said.startswith("retire-main: ") and said.count("\n") == 1 and what in said, said
    assert str(cluster.folder / "main" / "cluster.db") in said
    assert "retire-cluster restore" in said or "newer retirecluster" in said
    return True


@pytest.mark.parametrize("disaster", ["missing", "a page of noise"])
def test_the_way_back_that_was_named_works(cluster: RealCluster, killed: Path, disaster: str) -> None:
    main = cluster.folder / "main"
    shutil.copytree(killed / "main", main)
    DISASTERS[disaster][0](main)
    done = command("restore", killed / "backup.db", "--data-dir", main)
    assert done.returncode == 0, done.stderr
    cluster.start_main()
    assert cluster.counts() == {"queued": TASKS + 5}
    cluster.start_worker("one", "--slots", "4")
    eventually(lambda: cluster.counts() == {"completed": TASKS + 5}, 60, "all of them")


def test_without_the_wal_what_is_left_can_be_restored(cluster: RealCluster, killed: Path) -> None:
    main = cluster.folder / "main"
    shutil.copytree(killed / "main", main)
    (main / "cluster.db-wal").unlink()
    assert command("restore", main / "cluster.db", "--data-dir", main).returncode == 0
    cluster.start_main()
    [task] = cluster.get("tasks?limit=1")["tasks"]
    assert task["epoch"] == 1_000_000


def test_a_kill_alone_is_no_disaster(cluster: RealCluster, killed: Path) -> None:
    main = cluster.folder / "main"
    shutil.copytree(killed / "main", main)
    # Another program that looked at it has merged the -wal: nothing is missing.
    alone(main)
    assert not (main / "cluster.db-wal").exists()
    cluster.start_main()
    assert cluster.counts() == {"queued": TASKS + 6}


def test_a_failed_start_spoils_nothing(cluster: RealCluster, killed: Path) -> None:
    main = cluster.folder / "main"
    shutil.copytree(killed / "main", main)
    cluster.folder.joinpath("busy").mkdir()
    other = RealCluster(cluster.folder / "busy")
    try:
        other.start_main()
        log = cluster.launch_main("--web-port", str(other.web_port))
        assert ended(cluster) == 2
        assert "retire-main: web_port: " in log.read_text()
    finally:
        other.stop()
    cluster.start_main()
    assert cluster.counts() == {"queued": TASKS + 6}


def test_a_database_of_the_first_version(cluster: RealCluster) -> None:
    main = cluster.folder / "main"
    main.mkdir()
    connection = sqlite3.connect(main / "cluster.db")
    connection.isolation_level = None
    migrations.apply(connection, *migrations.scripts()[0])
    connection.close()
    cluster.start_main()
    cluster.submit({"task_type": "echo"})
    assert (main / "cluster.db.before-002").exists()


# -- backup and restore, with a worker that remembers more than the main


def test_a_restored_main_and_a_worker_that_knows_better(cluster: RealCluster) -> None:
    cluster.start_main()
    cluster.start_worker("one", "--slots", "2")
    cluster.wait_online("one")
    nap = {"task_type": "command", "payload": {"command": "sleep 2; echo done", "shell": True}}
    [again] = cluster.submit(nap)
    [once] = cluster.submit(nap | {"delivery": "at_most_once"})
    eventually(lambda: cluster.counts() == {"running": 2}, what="two running")
    main, backup = cluster.folder / "main", cluster.folder / "b.db"
    words = [sys.executable, "-c", "from retirecluster.client.cli import main; raise SystemExit(main())"]
    made = subprocess.run(
        [*words, "backup", "--data-dir", main, "--output", backup], capture_output=True, text=True, timeout=60
    )
    assert (made.returncode, made.stdout) == (0, f"{backup}\n")
    refused = subprocess.run([*words, "restore", backup, "--data-dir", main], capture_output=True, timeout=60)
    assert refused.returncode == 2 and b"in use by another main" in refused.stderr
    cluster.kill("main")
    done = subprocess.run([*words, "restore", backup, "--data-dir", main], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "1 lost, 1 queued" in done.stdout, done.stderr
    cluster.start_main()
    task = cluster.ended(again)
    assert task["status"] == "completed" and task["epoch"] == 1_000_002
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["restored", "completed"]
    assert cluster.get(f"tasks/{once}")["status"] == "lost"
    events = cluster.get("events?subject=cluster")["events"]
    assert [event["event"] for event in events] == ["restored"] and events[0]["epochs_raised_by"] == 1_000_000


# -- disks that are full


@pytest.fixture
def small_disk(cluster: RealCluster) -> Iterator[Path]:
    """The data folder of the main on a file system of 6 MiB."""
    main = cluster.folder / "main"
    main.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small file system to fill")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", str(main)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield main
        cluster.stop()
    finally:
        subprocess.run(["umount", "--lazy", str(main)], check=True)


def fill(folder: Path, leave_bytes: int) -> Path:
    """Take up the room on a disk but for that much."""
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        while (free := shutil.disk_usage(folder).free) > leave_bytes:
            file.write(b"\xff" * min(65_536, max(4096, free - leave_bytes)))
    return path


def environ(**settings: int) -> dict[str, str]:
    return {f"RETIRE_CLUSTER_{name.upper()}": str(value) for name, value in settings.items()}


def post(cluster: RealCluster, document: Any) -> tuple[int, Any, Any]:
    """Status, headers and body of a submission."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{cluster.web_port}/api/v1/tasks",
        json.dumps(document).encode(),
        {"Authorization": f"Bearer {cluster.token}", "Content-Type": "application/json"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.headers, json.load(error)


def test_little_room_refuses_submits_and_nothing_else(cluster: RealCluster, small_disk: Path) -> None:
    cluster.start_main(environ=environ(min_free_bytes=2 * MIB, reserve_bytes=MIB))
    assert (small_disk / "reserve.bin").stat().st_blocks * 512 >= MIB
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    [running] = cluster.submit({"task_type": "command", "payload": {"command": "sleep 2; echo ok", "shell": True}})
    waiting = cluster.submit(*[{"task_type": "echo", "payload": {"message": "x"}}] * 20)
    filler = fill(small_disk, MIB)
    time.sleep(1.1)  # it is looked at once a second
    status, headers, answer = post(cluster, {"task_type": "echo"})
    assert (status, answer["error_code"]) == (507, "no_space") and int(headers["Retry-After"]) > 0
    assert "min_free_bytes" in answer["detail"]
    health = cluster.get("cluster/health")
    assert health["status"] != "ok" and "no new tasks are taken in" in health["problems"][0]
    for task_id in (running, *waiting):
        assert cluster.ended(task_id)["status"] == "completed"
    filler.unlink()
    time.sleep(1.1)
    assert post(cluster, {"task_type": "echo"})[0] in (200, 201, 202)
    assert cluster.get("cluster/health")["status"] == "ok"


def test_a_full_disk_stops_the_main_and_loses_nothing(cluster: RealCluster, small_disk: Path) -> None:
    settings = environ(min_free_bytes=0, reserve_bytes=MIB)
    cluster.start_main(environ=settings)
    fill(small_disk, MIB // 2)
    acknowledged: list[str] = []
    main = cluster.processes["main"]
    try:
        for _ in range(200):
            status, _, answer = post(cluster, {"task_type": "echo", "payload": {"message": "x" * 20_000}})
            assert status in (200, 201, 202), answer
            acknowledged.append(answer["data"]["task_id"])
    except (urllib.error.URLError, ConnectionError):
        pass
    assert main.wait(30) == STORE_FAILED
    cluster.processes.pop("main")
    said = cluster.logs("main")
    assert said.count("the store failed, the main stops") == 1 and "full" in said
    assert not (small_disk / "reserve.bin").exists()
    assert len(acknowledged) > 5
    # There is room again for what is left to do; the reserve is not made anew while that is little.
    cluster.start_main(environ=settings | environ(min_free_bytes=2 * MIB))
    assert post(cluster, {"task_type": "echo"})[0] == 507
    assert cluster.counts() == {"queued": len(acknowledged)}
    for task_id in acknowledged[-3:]:
        assert cluster.get(f"tasks/{task_id}")["status"] == "queued"


def test_a_start_on_a_full_disk_takes_the_reserve(cluster: RealCluster, small_disk: Path) -> None:
    settings = environ(min_free_bytes=0, reserve_bytes=2 * MIB)
    cluster.start_main(environ=settings)
    [task_id] = cluster.submit({"task_type": "echo"})
    cluster.kill("main")
    fill(small_disk, 0)
    cluster.start_main(environ=settings)
    assert not (small_disk / "reserve.bin").exists()
    assert cluster.get(f"tasks/{task_id}")["status"] == "queued"
    cluster.kill("main")
    fill(small_disk, 0)
    log = cluster.launch_main(environ=settings)
    assert ended(cluster) == 2
    said = log.read_text()
    assert said.count("\n") == 1 and "cannot be used" in said and "make room" in said, said
    (small_disk / "filler").unlink()
    cluster.start_main(environ=settings)
    assert cluster.get(f"tasks/{task_id}")["status"] == "queued"


def test_a_folder_that_cannot_be_written(cluster: RealCluster, small_disk: Path) -> None:
    cluster.start_main(environ=environ(min_free_bytes=0, reserve_bytes=MIB))
    cluster.submit({"task_type": "echo"})
    cluster.kill("main")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    log = cluster.launch_main()
    assert ended(cluster) == 2
    said = log.read_text()
    assert said.count("\n") == 1 and str(small_disk) in said and "cannot be used" in said, said


# -- a database that others hold or break


def test_a_store_that_breaks_stops_the_main(cluster: RealCluster) -> None:
    cluster.start_main()
    main = cluster.processes["main"]
    sql(cluster.folder / "main" / "cluster.db", "ALTER TABLE tasks RENAME TO gone")
    with pytest.raises(HttpProblem) as caught:
        cluster.submit({"task_type": "echo"})
    assert caught.value.status == 503
    assert main.wait(30) == STORE_FAILED
    cluster.processes.pop("main")
    assert cluster.logs("main").count("the store failed, the main stops: no such table") == 1


def test_a_stop_in_order_is_no_failure(cluster: RealCluster) -> None:
    cluster.start_main()
    main = cluster.processes["main"]
    cluster.kill("main", signal.SIGTERM)
    assert main.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("seconds", [6.5, pytest.param(31.0, marks=pytest.mark.slow)])
def test_a_lock_of_another_program(cluster: RealCluster, seconds: float) -> None:
    cluster.start_main(
        environ={
            "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "1",
            "RETIRE_CLUSTER_OFFLINE_AFTER_S": "4",
            "RETIRE_CLUSTER_LEASE_S": "4",
        }
    )
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    [task_id] = cluster.submit({"task_type": "command", "payload": {"command": "sleep 1; echo ok", "shell": True}})
    eventually(lambda: cluster.counts().get("running"), what="a start")
    lock = sqlite3.connect(cluster.folder / "main" / "cluster.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    until = time.monotonic() + seconds
    began = time.monotonic()
    status, headers, answer = post(cluster, {"task_type": "echo", "name": "in vain"})
    assert (status, answer["error_code"]) == (503, "store_busy") and int(headers["Retry-After"]) > 0
    assert 3 < time.monotonic() - began < 7
    began = time.monotonic()
    assert post(cluster, {"task_type": "echo", "name": "in vain"})[0] == 503
    assert time.monotonic() - began < 1
    while time.monotonic() < until:
        began = time.monotonic()
        assert cluster.get(f"tasks/{task_id}")["status"] in ("assigned", "running")
        assert cluster.devices() == {"one": "online"}  # heartbeats are taken in
        assert "locked" in cluster.get("cluster/health")["problems"][0]
        assert time.monotonic() - began < 2
        time.sleep(0.2)
    lock.rollback()
    lock.close()
    assert cluster.ended(task_id, 10)["status"] == "completed"
    assert cluster.get("cluster/health")["status"] == "ok"
    assert len(cluster.get(f"tasks/{task_id}")["attempts"]) == 1
    assert post(cluster, {"task_type": "echo"})[0] in (200, 201, 202)
    assert [task["status"] for task in cluster.get("tasks")["tasks"] if task["name"] == "in vain"] == ["cancelled"]
