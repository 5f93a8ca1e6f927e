"""Warm tasks, calls, progress and checkpoints on a real cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import HttpProblem, RealCluster, eventually

pytestmark = pytest.mark.integration
CLI = [sys.executable, "-c", "import sys; from retirecluster.client.cli import main; sys.exit(main())"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    cluster = RealCluster(tmp_path_factory.mktemp("features"))
    cluster.start_main()
    cluster.start_worker("one", "--slots", "1")
    cluster.wait_online("one")
    yield cluster
    cluster.stop()
    cluster.assert_no_tracebacks()


def result(cluster: RealCluster, task_id: str) -> dict[str, Any]:
    cluster.ended(task_id)
    found: dict[str, Any] = cluster.get(f"tasks/{task_id}/result")
    return found


def script(source: str, **more: Any) -> dict[str, Any]:
    return {"task_type": "python_script", "payload": {"source": source}, **more}


def refused(cluster: RealCluster, document: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(HttpProblem) as caught:
        cluster.request("POST", "tasks", document)
    assert caught.value.status == 422
    found: dict[str, str] = json.loads(caught.value.body)["errors"][0]
    return found


def test_warm_tasks_share_a_process_and_fresh_ones_do_not(cluster: RealCluster) -> None:
    pid = {"task_type": "python_eval", "payload": {"expression": "__import__('os').getpid()"}}
    warm = cluster.submit(*[pid | {"mode": "warm"} for _ in range(200)])
    fresh = cluster.submit(*[pid for _ in range(3)])
    pids = [result(cluster, task_id)["output"] for task_id in warm]
    assert len(set(pids)) == 1
    assert len({result(cluster, task_id)["output"] for task_id in fresh} - set(pids)) == 3


def test_each_submitter_has_warm_processes_of_its_own(cluster: RealCluster) -> None:
    body = json.dumps(
        {"task_type": "python_eval", "payload": {"expression": "__import__('os').getpid()"}, "mode": "warm"}
    )

    def submit(name: str) -> str:
        headers = {"Authorization": f"Bearer {cluster.token}", "Content-Type": "application/json", "Submitter": name}
        place = f"http://127.0.0.1:{cluster.web_port}/api/v1/tasks"
        with urllib.request.urlopen(urllib.request.Request(place, body.encode(), headers), timeout=30) as answer:
            task_id: str = json.load(answer)["data"]["task_id"]
        return str(result(cluster, task_id)["output"])

    ann, bob, again = submit("ann"), submit("bob"), submit("ann")
    assert ann == again != bob
    with pytest.raises(urllib.error.HTTPError) as caught:
        submit("../ann")
    assert caught.value.code == 422 and b"Submitter" in caught.value.read()


def test_a_warm_crash_costs_its_task_one_attempt_and_no_other_any(cluster: RealCluster) -> None:
    crash = script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", mode="warm", max_retries=0)
    fine = script("print('fine')", mode="warm", max_retries=0)
    tasks = cluster.submit(*[crash if index == 7 else fine for index in range(20)])
    ended = [cluster.ended(task_id) for task_id in tasks]
    assert [each["status"] for each in ended] == ["failed" if index == 7 else "completed" for index in range(20)]
    assert [len(each["attempts"]) for each in ended] == [1] * 20


def test_short_tasks_do_not_wait_behind_a_long_one(cluster: RealCluster) -> None:
    """Some were given to the process of a long one ahead; they are called back, and run elsewhere."""
    quick = {"task_type": "python_eval", "payload": {"expression": "1"}, "mode": "warm"}
    for task_id in cluster.submit(*[quick] * 50):
        cluster.ended(task_id)
    slow = cluster.submit(script("import time; time.sleep(8)", mode="warm"))[0]
    behind = cluster.submit(*[quick] * 10)
    eventually(lambda: cluster.get(f"tasks/{slow}")["status"] == "running", what="the long one")
    cluster.start_worker("two", "--slots", "1")
    cluster.wait_online("two")
    for task_id in behind:
        task = cluster.ended(task_id)
        assert task["status"] == "completed" and task["device_id"] == "two"
    assert cluster.get(f"tasks/{slow}")["status"] == "running"
    cluster.request("POST", f"tasks/{slow}/cancel", {})
    cluster.ended(slow)


@pytest.mark.parametrize("level", [2, 3])
def test_behind_a_fence(cluster: RealCluster, level: int) -> None:
    """Warm processes and checkpoint folders at the stronger isolation levels."""
    [device] = [each for each in cluster.get("devices")["devices"] if each["device_id"] == "one"]
    reached = cluster.get(f"devices/{device['device_id']}")["isolation"]
    if reached < level:
        pytest.skip(f"this machine reaches level {reached}")
    demand = {"isolation": level, "device": "one"}
    pid = {"task_type": "python_eval", "payload": {"expression": "__import__('os').getpid()"}, "requirements": demand}
    pids = [result(cluster, task_id)["output"] for task_id in cluster.submit(*[pid | {"mode": "warm"}] * 20)]
    assert len(set(pids)) == 1, pids
    source = (
        "import os, sys\nfrom retirecluster import task\npath = task.checkpoint() + '/state'\n"
        "done = os.path.exists(path)\nopen(path, 'w').close()\nsys.exit(0 if done else 1)\n"
    )
    [task_id] = cluster.submit(script(source, checkpoint=True, requirements=demand))
    task = cluster.ended(task_id)
    assert (task["status"], len(task["attempts"])) == ("completed", 2), cluster.get(f"tasks/{task_id}/result")


def test_what_cannot_be_warm_is_refused_with_what_can(cluster: RealCluster) -> None:
    error = refused(cluster, {"task_type": "command", "payload": {"argv": ["true"]}, "mode": "warm"})
    assert (
        error["field"] == "mode" and "python_eval" in error["message"] and "command has to be fresh" in error["message"]
    )
    error = refused(cluster, script("pass", mode="warm", checkpoint=True))
    assert error["field"] == "checkpoint"
    assert refused(cluster, script("pass", submitter="somebody"))["field"] == "submitter"


def test_a_function_is_called_from_the_command_line(cluster: RealCluster, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from helper import add\n"
        "def join(*words, mark='-'):\n    print('joining')\n    return mark.join(words)\n"
        "def fail():\n    raise ValueError('not today')\n"
    )
    (tmp_path / "helper.py").write_text("def add(a, b):\n    return a + b\n")
    environ = {
        **os.environ,
        "RETIRE_CLUSTER_SERVER": f"127.0.0.1:{cluster.web_port}",
        "RETIRE_CLUSTER_TOKEN": cluster.token,
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, "call", *words], env=environ, cwd=tmp_path, text=True, capture_output=True, timeout=60
        )

    done = run("math:factorial", "20")
    assert (done.stdout, done.returncode) == ("2432902008176640000\n", 0), done.stderr
    (tmp_path / "mine.py").write_text((tmp_path / "mine.py").read_text().replace("from helper import add\n", ""))
    done = run("mine:join", "a", "b", "mark=+")
    assert (done.stdout, done.returncode) == ("joining\na+b\n", 0), done.stderr
    done = run("mine:fail")
    assert done.returncode == 1 and "ValueError: not today" in done.stderr
    assert run("mine:nothing").returncode == 2
    assert run("nowhere").returncode == 2


def test_a_call_for_another_python_says_why_it_waits(cluster: RealCluster) -> None:
    [task_id] = cluster.submit({"task_type": "python_call", "payload": {"call": "AAAA", "python": "3.2"}})
    why = cluster.get(f"tasks/{task_id}/why")
    version = ".".join(map(str, sys.version_info[:2]))
    assert f"Python {version} there, the function was pickled by 3.2" in why["devices"][0]["reasons"]
    cluster.request("POST", f"tasks/{task_id}/cancel", {})


def test_progress_from_a_shell_by_descriptor_and_by_file(cluster: RealCluster) -> None:
    for line in ('echo "50 half" >&$RETIRE_PROGRESS_FD', 'echo "50 half" >> "$RETIRE_PROGRESS_FILE"'):
        [task_id] = cluster.submit(
            {"task_type": "command", "payload": {"argv": f"{line}; exec sleep 20", "shell": True}}
        )
        found = eventually(lambda task_id=task_id: cluster.get(f"tasks/{task_id}")["progress"], what="progress")
        assert (found["percent"], found["message"]) == (50, "half")
        cluster.request("POST", f"tasks/{task_id}/cancel", {})


def test_progress_from_python_and_what_a_task_knows_of_itself(cluster: RealCluster) -> None:
    source = (
        "import sys, subprocess\nfrom retirecluster import task\n"
        "assert task.epoch() == 1 and task.device_id() in ('one', 'two') and task.checkpoint() is None\n"
        "import os\nassert task.scratch() == os.getcwd() and task.inputs() == []\n"
        "task.progress(1, 4, 'a quarter')\nprint(task.task_id(), flush=True)\nimport time; time.sleep(20)\n"
    )
    [task_id] = cluster.submit(script(source))
    found = eventually(lambda: cluster.get(f"tasks/{task_id}")["progress"], what="progress")
    assert (found["percent"], found["message"]) == (25, "a quarter")
    cluster.request("POST", f"tasks/{task_id}/cancel", {})


def test_a_dead_runner_charges_no_warm_task_that_only_waited_in_it(cluster: RealCluster) -> None:
    quick = {"task_type": "python_eval", "payload": {"expression": "1"}, "mode": "warm"}
    kill = "__import__('os').kill(__import__('os').getppid(), 9) or __import__('time').sleep(30)"
    killer = quick | {"payload": {"expression": kill}, "max_retries": 0}
    ids = cluster.submit(*[quick] * 100, killer, *[quick] * 30)
    assert result(cluster, ids[100])["error"]["kind"] == "died"
    for task_id in ids[101:]:
        assert cluster.ended(task_id)["status"] == "completed"
        assert len(cluster.get(f"tasks/{task_id}")["attempts"]) == 1


def test_a_checkpoint_goes_though_its_task_was_cancelled_while_the_device_was_away(cluster: RealCluster) -> None:
    source = "import time\ntime.sleep(60)"
    [task_id] = cluster.submit(script(source, checkpoint=True, requirements={"device": "one"}))
    folder = cluster.folder / "one" / "checkpoints" / task_id
    eventually(lambda: folder.is_dir(), what="the folder")
    cluster.kill("one")
    cluster.request("POST", f"tasks/{task_id}/cancel", {})
    cluster.start_worker("one", "--slots", "1")
    assert cluster.ended(task_id)["status"] == "cancelled"
    eventually(lambda: not folder.exists(), what="its removal")


def test_a_checkpoint_survives_a_failed_attempt_and_a_restart_and_goes_at_the_end(cluster: RealCluster) -> None:
    source = (
        "import os, sys\nfrom retirecluster import task\npath = task.checkpoint() + '/state'\n"
        "done = open(path).read() if os.path.exists(path) else ''\nopen(path, 'w').write(done + 'x')\n"
        "print(done)\nsys.exit(0 if len(done) == 2 else 1)\n"
    )
    [task_id] = cluster.submit(script(source, checkpoint=True, requirements={"device": "one"}))
    folder = cluster.folder / "one" / "checkpoints" / task_id
    eventually(lambda: folder.is_dir(), what="the folder")
    cluster.kill("one")
    cluster.start_worker("one", "--slots", "1")
    ended = cluster.ended(task_id)
    assert ended["status"] == "completed"
    assert cluster.get(f"tasks/{task_id}/result")["output"] == "xx\n"
    eventually(lambda: not folder.exists(), what="its removal")
