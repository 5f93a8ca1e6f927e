"""The worker against a scripted main over real TCP, with a real runner."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.application.internet import ClientService
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher

from retirecluster.domain.task_types import BUILT_IN
from retirecluster.worker.agent import Agent
from retirecluster.worker.assignment import read_assignment
from retirecluster.worker.backoff import Backoff
from retirecluster.worker.connection import Registrar, WorkerFactory
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.executor import TaskExecutor
from retirecluster.worker.journal import Journal
from retirecluster.worker.runner_process import RunnerSettings, task_variables
from retirecluster.worker.service import seconds_since_boot, utc_now
from retirecluster.worker.worker_service import WorkerService
from tests.worker.fake_main import FakeMain, Message
from tests.worker.runner_client import alive, gone_within, rss_kib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


async def at_once(function: Callable[[], Any]) -> Any:
    return function()


async def metrics() -> Message:
    return {"cpu_usage": 1.0}


def sleep(seconds: float) -> Deferred[None]:
    return deferLater(reactor, seconds, lambda: None)


async def eventually(check: Callable[[], Any], what: str = "it") -> None:
    for _ in range(1000):
        if check():
            return
        await sleep(0.01)
    raise AssertionError(f"{what} did not happen")


class Worker:
    """A whole worker, wired as the service does it, with short times."""

    def __init__(self, folder: Path, port: int, slots: int = 2, drain_s: float = 5.0) -> None:
        self.folder = DataFolder(str(folder))
        self.folder.open()
        settings = RunnerSettings(str(self.folder.scratch), task_variables(os.environ))
        self.executor = TaskExecutor(reactor, lambda process, level: process.start(reactor, settings), slots)
        self.journal = Journal(self.folder.journal, at_once)
        self.agent = Agent(
            reactor, self.executor, self.journal, frozenset(BUILT_IN) - {"system_info"}, seconds_since_boot, utc_now
        )
        self.executor.listener = self.agent
        self.backoff = Backoff(Random(1))
        self.shutdowns = 0
        self.registrar = Registrar(
            reactor,
            self.agent,
            "device-1",
            lambda: succeed({"device_info": {"hostname": "h"}, "slots": slots}),
            metrics,
            utc_now,
            Random(1),
            self.backoff,
            self.shut_down,
        )
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", port)
        client = ClientService(endpoint, WorkerFactory(self.registrar), retryPolicy=self.backoff, clock=reactor)
        self.service = WorkerService(self.folder, self.agent, self.registrar, client, drain_s, seconds_since_boot)

    def shut_down(self) -> None:
        self.shutdowns += 1


class Stage:
    """A main and the workers that join it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.main = FakeMain()
        self.port = self.main.listen()
        self.workers: list[Worker] = []

    async def worker(self, **more: Any) -> Worker:
        worker = Worker(self.folder / "data", self.port, **more)
        self.workers.append(worker)
        registered = self.main.next("register")
        worker.service.startService()
        await registered
        await eventually(lambda: worker.agent.uplink is not None, "registration")
        return worker

    async def close(self) -> None:
        for worker in self.workers:
            if worker.service.running:
                worker.service.drain_s = 0.0
                await worker.service.stopService()
        await self.main.close()
        await sleep(0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    pytest_twisted.blockon(_deferred(made.close()))


def _deferred(awaitable: Awaitable[None]) -> Deferred[None]:
    return Deferred.fromCoroutine(awaitable)  # type: ignore[arg-type]


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Texts of the warnings that are logged."""
    from twisted.logger import LogLevel, formatEvent

    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.warn, LogLevel.error):
            found.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@pytest_twisted.ensureDeferred
async def test_a_task_is_run_and_reported(stage: Stage) -> None:
    worker = await stage.worker()
    started, result = stage.main.next("task_started"), stage.main.next("task_result")
    stage.main.assign("t", "python_eval", {"expression": "6 * 7"})
    assert await started == {"task_id": "t", "epoch": 1}
    data = await result
    assert (data["status"], data["result"]["output"]) == ("completed", "42")
    assert data["result"]["metrics"]["memory_peak"] > 0
    await eventually(lambda: not worker.agent.claims(), "forgetting")


@pytest_twisted.ensureDeferred
async def test_a_profile_that_takes_its_time_holds_up_nothing_but_itself(stage: Stage, logged_failures: Any) -> None:
    """Some programs that it asks take seconds. What is held is told as of when the message leaves."""
    worker = Worker(stage.folder / "data", stage.port)
    stage.workers.append(worker)
    profile: Deferred[Any] = Deferred()
    worker.registrar.profile = lambda: profile
    registered, reported = stage.main.next("register"), stage.main.next("task_result")
    worker.service.startService()
    await eventually(lambda: worker.registrar.connection is not None, "a connection")
    worker.executor.execute_task(
        read_assignment({"task_id": "t", "epoch": 1, "task_type": "echo", "payload": {"message": "hi"}})
    )
    await eventually(lambda: worker.agent.claims(), "a task that ran meanwhile")
    profile.callback({"device_info": {"hostname": "h"}, "slots": 2})
    assert [each["task_id"] for each in (await registered)["attempts"]] == ["t"]
    await reported


@pytest_twisted.ensureDeferred
async def test_a_profile_that_fails_is_asked_for_again(stage: Stage, logged_failures: Any) -> None:
    worker = Worker(stage.folder / "data", stage.port)
    stage.workers.append(worker)
    profiles = [fail(RuntimeError("a bug in a probe")), succeed({"device_info": {"hostname": "h"}, "slots": 2})]
    worker.registrar.profile = lambda: profiles.pop(0)
    registered = stage.main.next("register")
    worker.service.startService()
    assert (await registered)["slots"] == 2 and len(logged_failures.flush()) == 1
    await eventually(lambda: worker.agent.uplink is not None, "registration")


@pytest_twisted.ensureDeferred
async def test_output_and_progress_come_while_it_runs(stage: Stage) -> None:
    await stage.worker()
    output, progress = stage.main.next("task_output"), stage.main.next("task_progress")
    result = stage.main.next("task_result")
    source = "import os, time\nprint('hällo')\nos.write(3, b'{\"percent\": 5}\\n')\ntime.sleep(0.3)\nprint('more')"
    stage.main.assign("t", "python_script", {"source": source})
    assert await output == {"task_id": "t", "epoch": 1, "stream": "stdout", "seq": 0, "data": "hällo\n"}
    assert (await progress)["percent"] == 5
    assert (await result)["result"]["output"] == "hällo\nmore\n"
    assert [each["seq"] for each in stage.main.all("task_output")] == [0, 1]


@pytest_twisted.ensureDeferred
async def test_progress_is_not_sent_more_than_five_times_a_second(stage: Stage) -> None:
    await stage.worker()
    result = stage.main.next("task_result")
    source = "import os, time\nfor i in range(100):\n os.write(3, b'{\"percent\": %d}\\n' % i)\n time.sleep(0.01)"
    stage.main.assign("t", "python_script", {"source": source})
    await result
    told = [each["percent"] for each in stage.main.all("task_progress")]
    assert 3 <= len(told) <= 9 and told[-1] == 99


@pytest_twisted.ensureDeferred
async def test_slots_are_kept_and_the_rest_waits(stage: Stage) -> None:
    worker = await stage.worker(slots=2)
    for number in range(6):
        stage.main.assign(f"t{number}", "sleep", {"seconds": 0.1})
    await eventually(lambda: worker.executor.active == 2)
    assert worker.executor.waiting == 4
    assert [each["state"] for each in worker.agent.claims()] == ["running"] * 2 + ["queued"] * 4
    await eventually(lambda: len(stage.main.all("task_result")) == 6, "six results")


@pytest_twisted.ensureDeferred
async def test_what_waits_behind_a_long_task_is_handed_back(stage: Stage) -> None:
    worker = await stage.worker(slots=1)
    refused = stage.main.next("task_refused")
    for number in range(3):
        stage.main.assign(f"t{number}", "sleep", {"seconds": 3})
    assert (await refused)["reason"] == "it waits behind a long task here"
    await eventually(lambda: len(stage.main.all("task_refused")) == 2, "both handed back")
    assert [each["task_id"] for each in stage.main.all("task_refused")] == ["t1", "t2"]
    assert [each["task_id"] for each in worker.agent.claims()] == ["t0"]
    stage.main.peer.say("task_cancel", {"task_id": "t0", "epoch": 1})
    await eventually(lambda: stage.main.all("task_result"), "the end of the long one")


@pytest_twisted.ensureDeferred
async def test_heartbeats_name_what_is_held(stage: Stage) -> None:
    await stage.worker()
    stage.main.assign("t", "sleep", {"seconds": 1}, epoch=4)
    held = [{"task_id": "t", "epoch": 4}]
    beat = await stage.main.next("heartbeat", lambda data: data["attempts"] == held and data["active_tasks"] == 1)
    assert beat["status"] == "online"
    assert beat["system_metrics"] == {"cpu_usage": 1.0}
    assert beat["last_activity"].endswith("Z")


@pytest_twisted.ensureDeferred
async def test_a_failing_probe_does_not_end_the_heartbeats(stage: Stage, logged_failures: Any) -> None:
    worker = await stage.worker()

    async def broken() -> Message:
        raise RuntimeError("probe")

    worker.registrar.metrics = broken
    await sleep(1.5)
    worker.registrar.metrics = metrics
    await stage.main.next("heartbeat")
    assert logged_failures.flush()


@pytest_twisted.ensureDeferred
async def test_a_known_epoch_is_ignored_and_a_newer_one_is_not(stage: Stage) -> None:
    await stage.worker()
    first = stage.main.next("task_result")
    stage.main.assign("t", "echo", {"message": "a"})
    await first
    stage.main.assign("t", "echo", {"message": "again"})
    second = stage.main.next("task_result")
    stage.main.assign("t", "echo", {"message": "b"}, epoch=2)
    assert (await second)["result"]["output"] == "b"
    assert len(stage.main.all("task_started")) == 2


@pytest_twisted.ensureDeferred
async def test_what_is_not_offered_is_refused_and_a_bad_payload_fails_for_good(stage: Stage) -> None:
    await stage.worker()
    refused = stage.main.next("task_refused")
    stage.main.assign("t", "system_info", {})
    assert "not offered" in (await refused)["reason"]
    failed = stage.main.next("task_result")
    stage.main.assign("u", "python_eval", {"wrong": 1})
    error = (await failed)["error"]
    assert (error["kind"], error["retryable"]) == ("payload", False)
    assert "expression" in error["message"]


@pytest_twisted.ensureDeferred
async def test_cancelling(stage: Stage) -> None:
    worker = await stage.worker(slots=1)
    started = stage.main.next("task_started")
    stage.main.assign("t", "sleep", {"seconds": 60})
    stage.main.assign("u", "sleep", {"seconds": 60})
    await started
    for task_id in ("u", "t"):
        result = stage.main.next("task_result", lambda data, task_id=task_id: data["task_id"] == task_id)
        stage.main.peer.say("task_cancel", {"task_id": task_id, "epoch": 1, "reason": "a person said so"})
        data = await result
        assert (data["status"], data["error"]["message"]) == ("cancelled", "a person said so")
    refused = stage.main.next("task_refused")
    stage.main.peer.say("task_cancel", {"task_id": "never seen", "epoch": 1})
    await refused
    assert worker.executor.active == 0


@pytest_twisted.ensureDeferred
async def test_results_wait_for_their_acknowledgement_across_a_reconnection(stage: Stage) -> None:
    stage.main.acknowledges = False
    worker = await stage.worker()
    result = stage.main.next("task_result")
    stage.main.assign("t", "echo", {"message": "a"})
    first = await result
    stage.main.assign("u", "sleep", {"seconds": 1.0})
    await stage.main.next("task_started")
    register, again = stage.main.next("register"), stage.main.next("task_result")
    stage.main.acknowledges = True
    stage.main.peer.transport.abortConnection()  # type: ignore[union-attr]
    claimed = (await register)["attempts"]
    assert claimed == [
        {"task_id": "u", "epoch": 1, "state": "running"},
        {"task_id": "t", "epoch": 1, "state": "spooled"},
    ]
    assert await again == first
    resumed = await stage.main.next("task_result")
    assert (resumed["task_id"], resumed["status"]) == ("u", "completed")
    assert len(stage.main.all("task_started")) == 2
    await eventually(lambda: not worker.agent.claims())


@pytest_twisted.ensureDeferred
async def test_attempts_that_are_not_current_are_stopped_and_forgotten(stage: Stage) -> None:
    worker = await stage.worker()
    started = stage.main.next("task_started")
    stage.main.assign("t", "sleep", {"seconds": 60})
    await started
    stage.main.stop = [{"task_id": "t", "epoch": 1}]
    register = stage.main.next("register")
    stage.main.peer.transport.abortConnection()  # type: ignore[union-attr]
    await register
    await eventually(lambda: worker.executor.active == 0, "stopping")
    await sleep(0.1)
    assert not worker.agent.claims() and not stage.main.all("task_result")


@pytest_twisted.ensureDeferred
async def test_a_silent_main_is_pinged_and_then_left(stage: Stage) -> None:
    await stage.worker()
    stage.main.answers = False
    ping, register = stage.main.next("ping"), stage.main.next("register")
    await ping
    await register
    # A bare close would look as if the worker had been killed.
    assert [each.get("returning") for each in stage.main.all("disconnect")] == [True]
    stage.main.answers = True


@pytest_twisted.ensureDeferred
async def test_a_lease_counts_from_the_claim_and_not_from_the_answer(stage: Stage) -> None:
    stage.main.lease_s = 2.0
    answer, asked = stage.main._registered, []

    def late(peer: Any) -> None:
        asked.append(reactor.seconds())
        reactor.callLater(0.6, answer, peer)

    stage.main._registered = late  # type: ignore[method-assign]
    worker = await stage.worker()
    assert worker.agent._lease is not None
    assert worker.agent._lease.getTime() <= asked[0] + 1.5


@pytest_twisted.ensureDeferred
async def test_a_ping_is_answered(stage: Stage) -> None:
    await stage.worker()
    pong = stage.main.next("pong")
    stage.main.peer.say("ping", {})
    await pong


@pytest_twisted.ensureDeferred
async def test_a_task_that_must_stop_alone_is_stopped_before_the_lease_ends(stage: Stage) -> None:
    stage.main.lease_s = 1.0
    worker = await stage.worker()
    for task_id, mode in (("stops", "stop"), ("goes on", "keep")):
        stage.main.assign(task_id, "sleep", {"seconds": 60}, on_disconnect=mode)
    await eventually(lambda: len(stage.main.all("task_started")) == 2)
    begin = reactor.seconds()
    await stage.main.close()
    await eventually(lambda: worker.executor.active == 1, "stopping")
    assert reactor.seconds() - begin < 1.0
    assert worker.executor.monitor_task_progress("goes on") is not None
    stage.main.listen(stage.port)
    claimed = (await stage.main.next("register"))["attempts"]
    assert [(each["task_id"], each["state"]) for each in claimed] == [("goes on", "running"), ("stops", "spooled")]


@pytest_twisted.ensureDeferred
async def test_a_refused_registration_is_tried_again_with_growing_pauses(stage: Stage, warnings: list[str]) -> None:
    stage.main.refuses = "duplicate_device"
    worker = Worker(stage.folder / "data", stage.port)
    stage.workers.append(worker)
    worker.service.startService()
    await eventually(lambda: worker.backoff.failures >= 4)
    stage.main.refuses = None
    await eventually(lambda: worker.agent.uplink is not None)
    assert worker.backoff.failures == 0
    assert len([each for each in warnings if "duplicate_device" in each]) >= 4


def test_the_pauses_grow_to_half_a_minute() -> None:
    backoff = Backoff(Random(7))
    pauses = [backoff(1) for _ in range(20)]
    assert pauses[0] <= 0.03
    assert max(pauses) <= 30.0 and max(pauses[12:]) > 10.0


def test_under_a_short_lease_the_pauses_stay_short() -> None:
    backoff = Backoff(Random(7))
    backoff.registered(lease_s=3.0)
    assert max(backoff(1) for _ in range(50)) <= 0.75
    backoff.registered(lease_s=300.0)
    assert 0.75 < max(backoff(1) for _ in range(50)) <= 30.0


@pytest_twisted.ensureDeferred
async def test_bad_lines_are_one_warning_each(stage: Stage, warnings: list[str]) -> None:
    await stage.worker()
    lines = [b"garbage", b"[]", b'{"message_type":"register","data":{}}', b'{"message_type":"x"}', b'{"a":NaN}']
    for line in lines:
        stage.main.peer.send_line(line + b"\n")
    stage.main.peer.say("task_assign", {"task": {"task_id": "t", "epoch": 1}})
    refused = await stage.main.next("task_refused")
    assert refused["task_id"] == "t"
    assert len(warnings) == len(lines) + 1
    assert not any("Traceback" in each for each in warnings)


@pytest_twisted.ensureDeferred
async def test_draining_hands_back_what_waits_and_lets_the_rest_end(stage: Stage) -> None:
    worker = await stage.worker(slots=1)
    stage.main.assign("runs", "sleep", {"seconds": 0.5})
    stage.main.assign("waits", "sleep", {"seconds": 0.5})
    await stage.main.next("task_started")
    refused, result = stage.main.next("task_refused"), stage.main.next("task_result")
    stage.main.peer.say("drain", {"reason": "maintenance"})
    assert (await refused)["task_id"] == "waits"
    assert (await result)["status"] == "completed"
    late = stage.main.next("task_refused")
    stage.main.assign("late", "echo", {"message": "x"})
    assert "draining" in (await late)["reason"]
    stage.main.peer.say("undrain", {})
    # A refused epoch is over: when it comes again it comes late, and the main counts on.
    stage.main.assign("late", "echo", {"message": "x"})
    stage.main.assign("late", "echo", {"message": "x"}, epoch=2)
    ended = await stage.main.next("task_result")
    assert (ended["task_id"], ended["epoch"]) == ("late", 2)
    assert [each["epoch"] for each in stage.main.all("task_started") if each["task_id"] == "late"] == [2]
    assert worker.executor.active == 0


@pytest_twisted.ensureDeferred
async def test_stopping_waits_for_what_ends_in_time_and_hands_back_the_rest(stage: Stage) -> None:
    worker = await stage.worker(slots=2, drain_s=0.8)
    runner_pid = worker.executor.runner_pid
    assert runner_pid is not None and alive(runner_pid)
    for task_id, seconds in (("short", 0.3), ("long", 60), ("waits", 1)):
        stage.main.assign(task_id, "sleep", {"seconds": seconds})
    await eventually(lambda: len(stage.main.all("task_started")) == 2)
    await worker.service.stopService()
    await eventually(lambda: stage.main.all("(closed)"))
    left_out = ("heartbeat", "ping", "task_progress")
    names = [(name, data.get("task_id")) for name, data in stage.main.messages if name not in left_out]
    assert names[-6:] == [
        ("drain", None),
        ("task_refused", "waits"),
        ("task_result", "short"),
        ("task_refused", "long"),
        ("disconnect", None),
        ("(closed)", None),
    ]
    assert gone_within([runner_pid], 1.0)


@pytest_twisted.ensureDeferred
async def test_what_is_handed_back_is_gone_by_then(stage: Stage) -> None:
    worker = await stage.worker(drain_s=0.1)
    said = stage.main.next("task_output")
    stage.main.assign("t", "command", {"command": "echo $$; exec sleep 60", "shell": True})
    pid = int((await said)["data"])
    living: list[bool] = []
    stage.main.next("task_refused", lambda data: living.append(alive(pid)) is None)
    await worker.service.stopService()
    await eventually(lambda: living, "handing back")
    assert living == [False]


@pytest_twisted.ensureDeferred
async def test_a_result_that_is_being_synced_goes_before_the_farewell(stage: Stage) -> None:
    worker = await stage.worker()
    waiting: list[Deferred[None]] = []

    async def slowly(function: Callable[[], Any]) -> Any:
        if worker.agent.spool.results:
            waiting.append(sleep(0.3))
            await waiting[-1]
        return function()

    worker.journal.in_thread = slowly
    stage.main.assign("t", "echo", {"message": "once"}, delivery="at_most_once")
    await eventually(lambda: waiting, "the sync of the result")
    await worker.service.stopService()
    await eventually(lambda: stage.main.all("(closed)"))
    names = [name for name, _ in stage.main.messages if name in ("task_result", "task_refused", "disconnect")]
    assert names == ["task_result", "disconnect"]


@pytest_twisted.ensureDeferred
async def test_a_dead_runner_is_replaced_and_its_tasks_are_reported(stage: Stage, warnings: list[str]) -> None:
    worker = await stage.worker()
    started = stage.main.next("task_output")
    source = "import os, time\nos.fork()\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    stage.main.assign("t", "python_script", {"source": source})
    await started
    await sleep(0.1)
    pids = [int(word) for each in stage.main.all("task_output") for word in each["data"].split()]
    result = stage.main.next("task_result")
    assert worker.executor.runner_pid is not None
    os.kill(worker.executor.runner_pid, signal.SIGKILL)
    data = await result
    assert (data["status"], data["error"]["kind"]) == ("failed", "died")
    assert len(pids) == 2 and gone_within(pids, 1.0)
    again = stage.main.next("task_result")
    stage.main.assign("u", "echo", {"message": "new runner"})
    assert (await again)["result"]["output"] == "new runner"


@pytest_twisted.ensureDeferred
async def test_a_new_life_reports_what_the_old_one_left(stage: Stage) -> None:
    folder = stage.folder / "data"
    folder.mkdir()
    lines = [
        {"is": "accepted", "task": "only accepted", "epoch": 1},
        {"is": "started", "task": "died", "epoch": 2},
        {
            "is": "result",
            "task": "spooled",
            "epoch": 3,
            "result": {"task_id": "spooled", "epoch": 3, "status": "failed"},
        },
    ]
    import json

    (folder / "journal.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines) + '{"torn')
    register, result = stage.main.next("register"), stage.main.next("task_result")
    worker = await stage.worker()
    assert (await register)["attempts"] == [
        {"task_id": "spooled", "epoch": 3, "state": "spooled"},
        {"task_id": "died", "epoch": 2, "state": "died"},
    ]
    assert (await result)["task_id"] == "spooled"
    await eventually(lambda: not worker.agent.claims())
    assert not stage.main.all("task_started")


@pytest_twisted.ensureDeferred
async def test_output_for_ever_to_a_main_that_does_not_read_leaves_the_memory_flat(stage: Stage) -> None:
    stage.main.heartbeat_interval_s = 30.0
    worker = await stage.worker()
    stage.main.peer.transport.pauseProducing()  # type: ignore[union-attr]
    for number in range(2):
        stage.main.assign(f"t{number}", "command", {"argv": ["yes", "x" * 1000]}, timeout=60)
    await eventually(lambda: worker.executor._paused, "the line getting full")
    await sleep(0.3)
    first = rss_kib(os.getpid()), rss_kib(worker.executor.runner_pid or 0)
    await sleep(1.0)
    second = rss_kib(os.getpid()), rss_kib(worker.executor.runner_pid or 0)
    assert second[0] - first[0] < 4096 and second[1] - first[1] < 1024
    stage.main.peer.transport.resumeProducing()  # type: ignore[union-attr]
    results = stage.main.next("task_result", lambda data: data["task_id"] == "t1")
    for number in range(2):
        stage.main.peer.say("task_cancel", {"task_id": f"t{number}", "epoch": 1})
    assert (await results)["result"]["truncated"] is True


@pytest_twisted.ensureDeferred
async def test_an_attempt_that_must_not_run_twice_is_on_disk_before_it_starts(stage: Stage) -> None:
    worker = await stage.worker()
    order: list[str | None] = []

    async def noting(function: Callable[[], Any]) -> Any:
        order.append(worker.executor.state_of(("t", 1)))
        assert "task_result" not in dict(stage.main.messages)
        return function()

    worker.journal.in_thread = noting
    result = stage.main.next("task_result")
    stage.main.assign("t", "echo", {"message": "once"}, delivery="at_most_once")
    await result
    assert order == ["starting", None], "once before it runs, once after it has ended and before that is told"


@pytest_twisted.ensureDeferred
async def test_a_full_disk_refuses_new_tasks_and_reports_the_old_ones(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, warnings: list[str]
) -> None:
    worker = await stage.worker()
    stage.main.assign("old", "sleep", {"seconds": 0.3})
    await stage.main.next("task_started")
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if fd == worker.journal._fd:
            real(fd, data[:5])
            raise OSError(28, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(os, "write", full)
    refused, result = stage.main.next("task_refused"), stage.main.next("task_result")
    stage.main.assign("new", "echo", {"message": "x"})
    assert "No space left" in (await refused)["reason"]
    assert (await result)["task_id"] == "old"
    monkeypatch.undo()
    again = stage.main.next("task_result")
    stage.main.assign("new", "echo", {"message": "x"}, epoch=2)
    assert (await again)["status"] == "completed"
    assert any("journal" in each for each in warnings)


@pytest_twisted.ensureDeferred
async def test_the_main_can_ask_for_the_end(stage: Stage) -> None:
    worker = await stage.worker()
    stage.main.peer.say("broadcast", {"message": "good night"})
    stage.main.peer.say("shutdown", {})
    await eventually(lambda: worker.shutdowns == 1)
