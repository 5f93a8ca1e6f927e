"""The Python client against a fake main: what it sends, what it makes of answers, and how often it asks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.threads import deferToThread

from retirecluster.client import (
    AsyncCluster,
    Cluster,
    ClusterError,
    ClusterExecutor,
    TaskCancelled,
    TaskFailed,
    TaskOptions,
    TaskTimedOut,
    WaitTimeout,
    result_feed,
)
from retirecluster.client.options import task_document
from tests.client.fake_main import TOKEN, FakeMain
from tests.support import pause

NO_STREAM = 1_000_000


@pytest.fixture
def asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake main ends tasks when it is asked, and tells nobody."""
    monkeypatch.setattr(result_feed, "CHECK_S", 0.1)


def client(fake: FakeMain, **more: Any) -> AsyncCluster:
    return Cluster.twisted(reactor, fake.url, TOKEN, **more)


async def until(check: Callable[[], Any]) -> None:
    for _ in range(1000):
        if check():
            return
        await pause(0.01)
    raise AssertionError("it did not happen")


def asked(fake: FakeMain, part: str) -> list[tuple[str, str, dict[str, str], bytes]]:
    return [each for each in fake.requests if part in each[1]]


def tell_end(fake: FakeMain, task_id: str, status: str = "completed", **result: Any) -> None:
    fake.end(task_id, status, **result)
    fake.send("event: task_update\ndata: " + json.dumps({"task_id": task_id, "status": status}) + "\n\n")


# -- what is sent


def test_arguments_are_the_functions_own_and_options_stand_apart() -> None:
    options = TaskOptions(timeout_s=5, retries=0, labels={"a": "b"}, inputs=["x.txt"], outputs=["*.png"], mode="warm")
    document = task_document("command", (), {"argv": ["true"], "timeout": "mine"}, options)
    assert document == {
        "task_type": "command",
        "payload": {"argv": ["true"], "timeout": "mine"},
        "timeout": 5,
        "max_retries": 0,
        "labels": {"a": "b"},
        "mode": "warm",
        "files": {"inputs": [{"path": "x.txt"}], "outputs": ["*.png"]},
    }
    assert task_document("echo", ({"message": 1},), {}, TaskOptions())["payload"] == {"message": 1}
    call = task_document(max, (1, 2), {"default": 0}, TaskOptions(name="largest"))
    assert (call["task_type"], call["name"], call["payload"]["retry_exceptions"]) == ("python_call", "largest", False)
    assert "retry_exceptions" not in task_document(max, (1,), {}, TaskOptions(retry_exceptions=True))["payload"]
    with pytest.raises(ClusterError, match=r"submit\('echo', name=value\)"):
        task_document("echo", (1,), {}, TaskOptions())
    with pytest.raises(ClusterError, match=r"write outputs=\['\*.png'\]"):
        task_document("echo", (), {}, TaskOptions(outputs="*.png"))
    with pytest.raises(TypeError):
        TaskOptions().merged({"time_out": 5})


@pytest_twisted.ensureDeferred
async def test_a_refused_submit_is_sent_again_with_the_same_keys(fake: FakeMain) -> None:
    async with client(fake) as cluster:
        fake.refusals = [(503, "shutting_down")] * 3
        tasks = await cluster.submit_documents(
            [{"task_type": "echo"}, {"task_type": "echo", "idempotency_key": "mine"}]
        )
        bodies = [json.loads(each[3]) for each in asked(fake, "/tasks")]
        assert len(bodies) == 4 and all(body == bodies[0] for body in bodies)
        assert len(bodies[0][0]["idempotency_key"]) >= 16 and bodies[0][1]["idempotency_key"] == "mine"
        assert await cluster.gather(*tasks) == ["done\n", "done\n"]


@pytest_twisted.ensureDeferred
async def test_a_main_that_was_never_there_is_not_waited_for(fake: FakeMain) -> None:
    async with client(fake) as cluster:
        await fake.close()
        with pytest.raises(ClusterError, match="is it running") as caught:
            await cluster.submit("echo")
        assert caught.value.code == "unreachable"
        fake.listen()


@pytest_twisted.ensureDeferred
async def test_what_is_wrong_is_not_sent_again(fake: FakeMain) -> None:
    async with client(fake) as cluster:
        fake.refusals = [(422, "bad_field")]
        with pytest.raises(ClusterError) as caught:
            await cluster.submit("echo")
        assert caught.value.code == "bad_field" and len(asked(fake, "/tasks")) == 1


# -- waiting


@pytest_twisted.ensureDeferred
async def test_many_tasks_are_waited_for_with_one_stream_and_few_requests(fake: FakeMain) -> None:
    fake.ends_after_gets = NO_STREAM
    async with client(fake) as cluster:
        tasks = await cluster.submit_documents({"task_type": "echo"} for _ in range(450))
        gathering = ensureDeferred(cluster.gather(*tasks))
        await until(lambda: fake.streams and len(asked(fake, "/results")) >= 3)
        before = len(fake.requests)
        for number, task in enumerate(tasks):
            tell_end(fake, task.id, output=str(number))
        assert await gathering == [str(number) for number in range(450)]
        assert len(asked(fake, "/stream/tasks")) == 1
        assert len(fake.requests) - before <= 12


@pytest_twisted.ensureDeferred
async def test_without_a_stream_it_asks(fake: FakeMain) -> None:
    fake.ends_after_gets, fake.refuses_streams = 3, True
    async with client(fake) as cluster:
        task = await cluster.submit("echo")
        assert await task == "done\n"
        assert len(asked(fake, "/results")) >= 3


@pytest_twisted.ensureDeferred
async def test_answers_that_come_in_parts_and_tasks_that_are_gone(fake: FakeMain) -> None:
    fake.results_at_once = 2
    async with client(fake) as cluster:
        tasks = await cluster.submit_documents({"task_type": "echo"} for _ in range(7))
        assert await cluster.gather(*tasks) == ["done\n"] * 7
        gone = await cluster.task(tasks[0].id)
        del fake.tasks[gone.id]
        with pytest.raises(ClusterError, match="there is no task") as caught:
            await gone
        assert caught.value.code == "not_found"


@pytest_twisted.ensureDeferred
async def test_an_end_that_comes_before_the_answer_to_the_submit_is_not_missed(fake: FakeMain) -> None:
    fake.ends_after_gets = NO_STREAM
    async with client(fake) as cluster:
        first = await cluster.submit("echo")
        waiting = ensureDeferred(first.result())
        await until(lambda: fake.streams and asked(fake, "/results"))
        second = await cluster.submit("echo")
        tell_end(fake, second.id, output="early")
        await pause(0.05)
        assert await second.result(timeout=2) == "early"
        tell_end(fake, first.id, output="late")
        assert await waiting == "late"


@pytest_twisted.ensureDeferred
async def test_as_completed_wait_and_time_that_is_over(fake: FakeMain, asks_often: None) -> None:
    fake.ends_after_gets = NO_STREAM
    async with client(fake) as cluster:
        one, two = await cluster.submit_documents({"task_type": "echo"} for _ in range(2))
        with pytest.raises(WaitTimeout, match="cancel") as caught:
            await one.result(timeout=0.05)
        assert isinstance(caught.value, TimeoutError) and caught.value.code == "timeout"
        fake.end(two.id, output="two")
        coming = cluster.as_completed([one, two])
        assert (await coming.__anext__()) is two
        assert await cluster.wait([one, two], timeout=0.05) == ({two}, {one})
        fake.end(one.id, output="one")
        assert (await coming.__anext__()) is one
        assert await cluster.gather(one, two) == ["one", "two"]


@pytest_twisted.ensureDeferred
async def test_how_tasks_end_badly(fake: FakeMain, asks_often: None) -> None:
    ways = [
        ("failed", {"kind": "exit", "message": "exit code 3"}, TaskFailed, "output"),
        ("failed", {"kind": "timeout", "message": "ran too long"}, TaskTimedOut, "timeout_s"),
        ("expired", {"message": "its deadline passed"}, TaskTimedOut, "deadline_s"),
        ("cancelled", {"message": "cancelled"}, TaskCancelled, "retry"),
        ("lost", {"message": "nobody knows"}, TaskFailed, "retry"),
    ]
    async with client(fake) as cluster:
        for status, error, kind, hint in ways:
            task = await cluster.submit("echo", message={"outcome": {"status": status, "error": error}})
            with pytest.raises(TaskFailed, match=hint) as caught:
                await task
            assert type(caught.value) is kind and caught.value.task_id == task.id
            assert caught.value.result["status"] == status and isinstance(caught.value, ClusterError)


@pytest_twisted.ensureDeferred
async def test_a_main_that_stays_away_is_given_up_after_the_patience(fake: FakeMain) -> None:
    fake.ends_after_gets = NO_STREAM
    async with client(fake, patience_s=0.2) as cluster:
        task = await cluster.submit("echo")
        waiting = ensureDeferred(task.result())
        await until(lambda: fake.streams)
        await fake.close()
        with pytest.raises(ClusterError) as caught:
            await waiting
        assert caught.value.code == "unreachable"
        fake.listen()
        fake.end(task.id, output="after all")
        async with client(fake) as again:  # the fake main has another port now
            assert await (await again.task(task.id)) == "after all"


@pytest_twisted.ensureDeferred
async def test_closing_tells_those_who_wait(fake: FakeMain) -> None:
    fake.ends_after_gets = NO_STREAM
    cluster = client(fake)
    waiting: Deferred[Any] = ensureDeferred((await cluster.submit("echo")).result())
    await until(lambda: fake.streams)
    await cluster.close()
    with pytest.raises(ClusterError, match="closed"):
        await waiting


# -- from other threads and loops


@pytest_twisted.ensureDeferred
async def test_the_blocking_client(fake: FakeMain) -> None:
    def use() -> None:
        with Cluster(fake.url, TOKEN) as cluster:
            tasks = [cluster.submit("echo") for _ in range(3)]
            done, left = cluster.wait(tasks, return_when=FIRST_COMPLETED)
            assert done and done | left == set(tasks)
            assert cluster.gather(*tasks) == ["done\n"] * 3
            assert {task.id for task in cluster.as_completed(tasks)} == {task.id for task in tasks}
            assert tasks[0].status == "completed" and tasks[0].done() and tasks[0].why()["reason"]
            failed = cluster.submit("echo", message={"outcome": {"status": "failed", "error": {"message": "no"}}})
            assert isinstance(failed.exception(), TaskFailed) and tasks[0].exception() is None
            [before, error] = cluster.gather(tasks[0], failed, return_exceptions=True)
            assert before == "done\n" and isinstance(error, TaskFailed)
            with pytest.raises(TaskFailed):
                cluster.gather(tasks[0], failed)
            assert cluster.task(tasks[1].id) == tasks[1]
            assert len(cluster.tasks(limit=2)) == 2 and cluster.devices() == []
        with pytest.raises(ClusterError, match="was closed"):
            cluster.submit("echo")

    await deferToThread(use)


@pytest_twisted.ensureDeferred
async def test_from_an_asyncio_loop(fake: FakeMain) -> None:
    async def use() -> None:
        async with Cluster.asyncio(fake.url, TOKEN) as cluster:
            tasks = [await cluster.with_options(name="n").submit("echo") for _ in range(3)]
            assert await asyncio.gather(*(task.result() for task in tasks)) == ["done\n"] * 3
            fake.ends_after_gets = NO_STREAM
            waiting = await cluster.submit("echo")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waiting.result(), 0.05)

    await deferToThread(asyncio.run, use())
    assert {each["submitted"]["name"] for each in list(fake.tasks.values())[:3]} == {"n"}


@pytest_twisted.ensureDeferred
async def test_settings_are_found_as_the_command_line_finds_them(
    fake: FakeMain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "admin.token").write_text(TOKEN)
    monkeypatch.setenv("RETIRE_CLUSTER_SERVER", fake.url)
    monkeypatch.delenv("RETIRE_CLUSTER_TOKEN", raising=False)
    monkeypatch.setenv("RETIRE_CLUSTER_DATA_DIR", str(tmp_path))

    def use() -> Any:
        with Cluster() as cluster:
            assert TOKEN not in repr(cluster)
            return cluster.submit("echo").result()

    assert await deferToThread(use) == "done\n"
    with pytest.raises(ClusterError, match="that is not a token"):
        Cluster(fake.url, "two words")


@pytest_twisted.ensureDeferred
async def test_futures_of_the_executor(fake: FakeMain, asks_often: None) -> None:
    fake.ends_after_gets = NO_STREAM

    def submit() -> tuple[ClusterExecutor, list[Any]]:
        executor = Cluster(fake.url, TOKEN).executor(2)
        return executor, [executor.submit(abs, -number) for number in range(4)]

    executor, futures = await deferToThread(submit)
    await until(lambda: len(fake.tasks) == 2)
    assert [future.running() for future in futures] == [True, True, False, False]
    assert not futures[0].cancel() and futures[3].cancel() and futures[3].cancelled()
    called: list[Any] = []
    futures[0].add_done_callback(called.append)
    fake.ends_after_gets = 1
    python = ".".join(map(str, sys.version_info[:2]))
    for task in list(fake.tasks.values()):
        fake.end(task["task_id"], output={"python": python, "repr": "7", "pickle": "gAVLBy4="})
    assert [await deferToThread(future.result) for future in futures[:2]] == [7, 7]
    assert await deferToThread(futures[2].exception) is None
    assert called == [futures[0]] and futures[0].task.id in fake.tasks and len(fake.tasks) == 3
    with pytest.raises(CancelledError):
        futures[3].result()
    await deferToThread(executor.shutdown)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)
    await deferToThread(executor._cluster.close)


def test_the_names_are_there_and_help_stays_quick() -> None:
    import subprocess

    program = (
        "import sys, retirecluster.client as c\n"
        "assert not {'twisted', 'treq'} & set(sys.modules)\n"
        "assert all(getattr(c, name) for name in c.__all__)\n"
        "assert 'twisted.internet.reactor' not in sys.modules, 'the global reactor is not ours to install'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    with pytest.raises(ImportError):
        exec("from retirecluster.client import Clutter")
