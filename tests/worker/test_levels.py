"""The worker with tasks of several isolation levels: the right runner, named refusals, what an end costs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred

from retirecluster.worker.assignment import Assignment, read_assignment
from retirecluster.worker.executor import TaskExecutor, TaskFailure
from retirecluster.worker.fences import Fences, Proof
from retirecluster.worker.runner_process import RunnerProcess
from tests.worker.fenced import make_fences, need_level

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fences are Linux's")


class Listener:
    """Keeps what the executor reports."""

    def __init__(self) -> None:
        self.results: dict[str, dict[str, Any]] = {}
        self.pids: dict[str, int | None] = {}
        self._waiting: dict[str, Deferred[dict[str, Any]]] = {}
        self._started: dict[str, Deferred[None]] = {}

    def task_starting(self, assignment: Assignment) -> Awaitable[None] | None:
        return None

    def task_started(self, assignment: Assignment, pid: int | None) -> None:
        self.pids[assignment.task_id] = pid
        if waiter := self._started.pop(assignment.task_id, None):
            waiter.callback(None)

    def task_output(self, assignment: Assignment, stream: str, seq: int, data: str) -> None: ...

    def task_progress(self, assignment: Assignment, percent: float | None, message: str) -> None: ...

    def task_finished(self, assignment: Assignment, data: dict[str, Any]) -> None:
        self.results[assignment.task_id] = data
        if waiter := self._waiting.pop(assignment.task_id, None):
            waiter.callback(data)

    def result(self, task_id: str) -> Deferred[dict[str, Any]]:
        self._waiting[task_id] = Deferred()
        return self._waiting[task_id].addTimeout(20, reactor)

    def start(self, task_id: str) -> Deferred[None]:
        self._started[task_id] = Deferred()
        return self._started[task_id].addTimeout(20, reactor)


class Stage:
    """An executor with real runners. `broken` levels are started with a fence that cannot be put on."""

    def __init__(self, folder: Path) -> None:
        self.fences: Fences = make_fences(folder)
        self.listener = Listener()
        self.broken: set[int] = set()
        self.executor = TaskExecutor(reactor, self.start, slots=2, kill_rest=self.fences.kill_rest)
        self.executor.listener = self.listener
        self.executor.start()

    def start(self, process: RunnerProcess, level: int) -> None:
        more = {"root": "/nowhere", "uid": -5} if level in self.broken else {}
        settings = self.fences.runner(level)
        process.start(reactor, type(settings)(settings.scratch, settings.variables, {**settings.fence, **more}))

    async def run(self, task_id: str, expression: str, level: int, **more: Any) -> dict[str, Any]:
        result = self.listener.result(task_id)
        self.executor.execute_task(task(task_id, expression, level, **more))
        return await result


def task(task_id: str, expression: str, level: int = 0, **more: Any) -> Assignment:
    document = {"task_id": task_id, "epoch": 1, "task_type": "python_eval", "payload": {"expression": expression}}
    return read_assignment(document | {"requirements": {"isolation": level}} | more)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    pytest_twisted.blockon(ensureDeferred(made.executor.stop()))
    made.fences.tidy()


NO_NEW_PRIVS = "open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0]"
INTERFACES = "[name for _, name in __import__('socket').if_nameindex() if name != 'lo']"


@pytest_twisted.ensureDeferred
async def test_each_task_runs_at_the_level_that_it_demands(stage: Stage) -> None:
    need_level(3)
    assert (await stage.run("a", NO_NEW_PRIVS, 0))["result"]["output"] == "0"
    assert stage.executor.runner_pid_of(2) is None  # started when the first task needs it
    assert (await stage.run("b", NO_NEW_PRIVS, 2))["result"]["output"] == "1"
    assert (await stage.run("c", INTERFACES, 3))["result"]["output"] == "[]"
    assert stage.listener.pids["a"] and stage.listener.pids["b"] and stage.listener.pids["c"] is None


@pytest_twisted.ensureDeferred
async def test_the_owners_level_is_the_least(stage: Stage) -> None:
    need_level(2)
    stage.executor.level = 2
    assert (await stage.run("a", NO_NEW_PRIVS, 0))["result"]["output"] == "1"


@pytest_twisted.ensureDeferred
async def test_a_level_that_is_not_reached_is_a_named_failure_and_not_a_weaker_run(stage: Stage) -> None:
    if os.geteuid() != 0:
        pytest.skip("breaks the fence by a user that does not exist, which only root gets as far as")
    stage.broken.add(2)
    result = await stage.run("a", NO_NEW_PRIVS, 2)
    assert (result["status"], result["error"]["kind"]) == ("failed", "isolation")
    assert "level 2 is not reached on this device: own user:" in result["error"]["message"]
    assert (await stage.run("b", "1", 0))["status"] == "completed"


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest_twisted.ensureDeferred
async def test_a_runner_that_dies_costs_its_tasks_one_attempt_and_others_nothing(stage: Stage, level: int) -> None:
    need_level(level)
    other = 2 if level == 1 else 1
    beside = stage.listener.result("beside")
    need_level(other)
    started = [stage.listener.start("beside"), stage.listener.start("a")]
    stage.executor.execute_task(task("beside", "__import__('time').sleep(1.5)", other))
    result = stage.listener.result("a")
    stage.executor.execute_task(task("a", "__import__('time').sleep(60)", level))
    for each in started:
        await each
    pid = stage.executor.runner_pid_of(level)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    data = await result
    assert (data["status"], data["error"]["kind"], data["error"]["retryable"]) == ("failed", "died", True)
    assert (await stage.run("b", "6 * 7", level))["result"]["output"] == "42"
    assert (await beside)["status"] == "completed"


@pytest_twisted.ensureDeferred
async def test_limits_of_task_cluster_and_device_meet(stage: Stage) -> None:
    stage.executor.device_limits = {"open_files": 64}
    stage.executor.task_limits = {"open_files": 32}
    files = "__import__('resource').getrlimit(7)[0]"
    assert (await stage.run("a", files, 0))["result"]["output"] == "32"
    assert (await stage.run("b", files, 0, limits={"open_files": 48}))["result"]["output"] == "48"
    assert (await stage.run("c", files, 0, limits={"open_files": 100}))["result"]["output"] == "64"


@pytest_twisted.ensureDeferred
async def test_the_limit_that_was_hit_is_named_in_the_result(stage: Stage) -> None:
    result = await stage.run("a", "bytes(1 << 33)", 0, limits={"memory_bytes": 512 << 20})
    assert result["error"]["kind"] == "memory_limit"
    assert result["error"]["message"] == "failed: memory limit 512 MiB: MemoryError"
    script = {"task_type": "python_script", "payload": {"source": "while True: pass"}, "limits": {"cpu_time_s": 0.3}}
    result = await stage.run("b", "", 0, **script)
    assert (result["error"]["kind"], result["error"]["message"]) == ("cpu_limit", "killed: processor time limit 0.3 s")


class Folders:
    """Makes a folder for each attempt, and looks into it when the processes are gone."""

    def __init__(self, fences: Fences) -> None:
        self.fences = fences
        self.found: dict[str, list[str]] = {}

    async def _made(self, assignment: Assignment, level: int) -> str | None:
        if assignment.task_id == "bad":
            raise TaskFailure("input", "the input cannot be had")
        folder = self.fences.folder_of(level) / f"staged-{assignment.task_id}"
        folder.mkdir(0o700)
        if (uid := self.fences.owner_of(level)) is not None:
            os.chown(folder, uid, uid)
        return str(folder)

    def prepare(self, assignment: Assignment, level: int) -> Awaitable[str | None]:
        return self._made(assignment, level)

    def collect(self, assignment: Assignment, data: dict[str, Any]) -> Awaitable[dict[str, Any]]:
        return self._collected(assignment, data)

    def _empty(self, task_id: str, folder: Path) -> None:
        self.found[task_id] = sorted(each.name for each in folder.iterdir())
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()

    async def _collected(self, assignment: Assignment, data: dict[str, Any]) -> dict[str, Any]:
        self._empty(assignment.task_id, Path(assignment.folder or ""))
        return data | {"artifacts": []}


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest_twisted.ensureDeferred
async def test_a_staged_folder_is_prepared_before_and_collected_after(stage: Stage, level: int) -> None:
    need_level(level)
    folders = Folders(stage.fences)
    stage.executor.folders = folders
    result = await stage.run("a", "open('left', 'w').write('x')", level)
    assert (result["status"], result["artifacts"]) == ("completed", [])
    assert folders.found == {"a": ["left"]}
    result = await stage.run("bad", "1", level)
    assert (result["error"]["kind"], result["error"]["message"]) == ("input", "the input cannot be had")


def test_a_proof_tells_why_a_demand_is_refused() -> None:
    found = Proof(2, (), {"3": "bubblewrap (bwrap) is not installed"})
    expected = "isolation level 3 is not reached on this device; level 3: bubblewrap (bwrap) is not installed"
    assert found.why_not(3) == expected
