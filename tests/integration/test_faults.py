"""Processes are killed while they work: nothing is lost, and what still runs is not run again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.integration.cluster import RealCluster, descendants, eventually

pytestmark = pytest.mark.integration


def sleeper(seconds: float, marks: Path) -> dict[str, object]:
    """A task that notes its start in a folder, sleeps, and returns its epoch."""
    source = (
        "import os, time, pathlib\n"
        f"mark = pathlib.Path({str(marks)!r}) / (os.environ['RETIRE_TASK_ID'] + '.' + os.environ['RETIRE_EPOCH'])\n"
        f"mark.write_text(os.environ['RETIRE_DEVICE_ID'])\ntime.sleep({seconds})\nprint(os.environ['RETIRE_EPOCH'])\n"
    )
    return {"task_type": "python_script", "payload": {"source": source}}


def starts(marks: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(marks.iterdir()):
        found.setdefault(path.name.split(".")[0], []).append(path.read_text())
    return found


def test_a_killed_worker_loses_nothing(cluster: RealCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    cluster.start_main()
    for name in ("one", "two", "three"):
        cluster.start_worker(name, "--slots", "1")
    cluster.wait_online("one", "two", "three")
    ids = cluster.submit(*[sleeper(1.0, marks)] * 6)
    eventually(lambda: len(list(marks.iterdir())) >= 3, what="three starts")
    running = eventually(lambda: cluster.get("tasks?device=one&status=running")["tasks"], what="one running on one")
    held = [task["task_id"] for task in running]
    runner_pids = descendants(cluster.processes["one"].pid)
    killed_at = time.monotonic()
    cluster.kill("one")
    eventually(lambda: len(starts(marks).get(held[0], [])) == 2, 20, "the second start")
    assert time.monotonic() - killed_at < 5
    assert all(cluster.ended(task_id)["status"] == "completed" for task_id in ids)
    assert cluster.devices()["one"] in ("disconnected", "offline")
    task = cluster.get(f"tasks/{held[0]}")
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["moved_on", "completed"]
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in runner_pids), 5, "the end of its tasks")


def test_a_killed_main_keeps_a_thousand_tasks(cluster: RealCluster) -> None:
    cluster.start_main()
    ids = cluster.submit(*[{"task_type": "echo", "payload": {"message": number}} for number in range(1000)])
    assert len(set(ids)) == 1000
    cluster.kill("main")
    cluster.start_main()
    assert cluster.counts() == {"queued": 1000}
    for name in ("one", "two", "three"):
        cluster.start_worker(name, "--slots", "2")
    eventually(lambda: cluster.counts().get("completed", 0) >= 300, 60, "the first third")
    cluster.kill("main")
    cluster.start_main()
    eventually(lambda: cluster.counts() == {"completed": 1000}, 90, "all of them")
    for number in (0, 499, 999):
        assert cluster.get(f"tasks/{ids[number]}/result")["output"] == str(number)


def test_running_tasks_outlive_a_restart_of_the_main(cluster: RealCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    cluster.start_main()
    cluster.start_worker("one", "--slots", "2")
    cluster.wait_online("one")
    ids = cluster.submit(*[sleeper(3.0, marks)] * 2)
    eventually(lambda: len(list(marks.iterdir())) == 2, what="two starts")
    cluster.kill("main")
    cluster.start_main()
    for task_id in ids:
        task = cluster.ended(task_id)
        assert (task["status"], task["epoch"], len(task["attempts"])) == ("completed", 1, 1)
    assert all(len(devices) == 1 for devices in starts(marks).values())


def test_results_are_kept_while_the_main_is_away(cluster: RealCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    cluster.start_main()
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    [task_id] = cluster.submit(sleeper(0.7, marks))
    eventually(lambda: list(marks.iterdir()), what="a start")
    cluster.kill("main")
    time.sleep(1.5)  # the task ends with nobody to tell
    cluster.start_main()
    task = cluster.ended(task_id, 40)
    assert (task["status"], task["epoch"]) == ("completed", 1)
    assert len(starts(marks)[task_id]) == 1


def test_a_stopped_worker_hands_back(cluster: RealCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    cluster.start_main()
    (tmp_path / "worker.json").write_text('{"drain_s": 0.2}')
    cluster.start_worker("one", "--slots", "1", "--config", str(tmp_path / "worker.json"))
    cluster.wait_online("one")
    [task_id] = cluster.submit(sleeper(2.0, marks) | {"max_retries": 0})
    eventually(lambda: list(marks.iterdir()), what="a start")
    below = descendants(cluster.processes["one"].pid)
    cluster.kill("one", signal.SIGTERM)
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)
    assert cluster.get(f"tasks/{task_id}")["status"] == "queued"
    cluster.start_worker("two", "--slots", "1")
    task = cluster.ended(task_id)
    assert task["status"] == "completed"
    assert [(a["outcome"], a["charged"]) for a in task["attempts"]] == [("handed_back", False), ("completed", False)]


def test_cancel_ends_the_whole_group(cluster: RealCluster, tmp_path: Path) -> None:
    cluster.start_main()
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    pids = tmp_path / "pids"
    script = f"trap '' TERM; sh -c 'echo $$ >> {pids}; sleep 60' & echo $$ >> {pids}; sleep 60"
    [task_id] = cluster.submit({"task_type": "command", "payload": {"command": script, "shell": True}})
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2, what="two processes")
    cluster.request("POST", f"tasks/{task_id}/cancel", {})
    assert cluster.ended(task_id)["status"] == "cancelled"
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.read_text().split()), 10, "their end")


def test_a_timeout_is_a_failure_with_a_name(cluster: RealCluster) -> None:
    cluster.start_main()
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    [task_id] = cluster.submit(
        {"task_type": "python_eval", "payload": {"expression": "sum(iter(int, 1))"}, "timeout": 0.5, "max_retries": 0}
    )
    task = cluster.ended(task_id)
    assert task["status"] == "failed" and task["reason"].startswith("timeout: ran longer than 0.5s")
    [next_id] = cluster.submit({"task_type": "echo", "payload": {"message": "next"}})
    assert cluster.ended(next_id)["status"] == "completed"


def test_a_task_that_fits_nowhere_blocks_nobody(cluster: RealCluster) -> None:
    cluster.start_main()
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    [stuck] = cluster.submit({"task_type": "echo", "priority": "urgent", "requirements": {"min_memory_gb": 100_000}})
    [fine] = cluster.submit({"task_type": "echo", "priority": "low"})
    assert cluster.ended(fine)["status"] == "completed"
    why = cluster.get(f"tasks/{stuck}/why")
    assert why["devices"][0]["device_id"] == "one" and "min_memory_gb 1e+05 >" in why["devices"][0]["reasons"][0]
    assert "no device fits" in why["reason"]


def test_a_drain_with_a_deadline_moves_what_still_runs(cluster: RealCluster, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    cluster.start_main()
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    [task_id] = cluster.submit(sleeper(4.0, marks) | {"max_retries": 0})
    eventually(lambda: list(marks.iterdir()), what="a start")
    cluster.start_worker("two", "--slots", "1")
    cluster.wait_online("two")
    cluster.request("POST", "devices/one/drain", {"deadline_s": 0.3})
    assert cluster.devices()["one"] == "draining"
    task = cluster.ended(task_id)
    outcomes = [(each["device_id"], each["outcome"], each["charged"]) for each in task["attempts"]]
    assert (task["status"], outcomes) == ("completed", [("one", "handed_back", False), ("two", "completed", False)])
    cluster.request("POST", "devices/one/undrain", {})
    assert cluster.devices()["one"] == "online"
