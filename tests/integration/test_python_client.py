"""The Python client with real processes: functions, files, threads, forks, the end of programs, and a killed main."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from retirecluster.client import Cluster, ClusterExecutor, TaskCancelled, TaskFailed, TaskTimedOut
from tests.integration.cluster import RealCluster, eventually

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    real = RealCluster(tmp_path_factory.mktemp("python"))
    real.start_main()
    for name in ("one", "two"):
        real.start_worker(name, "--slots", "2")
    real.wait_online("one", "two")
    yield real
    real.stop()
    real.assert_no_tracebacks()


@pytest.fixture
def client(real: RealCluster) -> Iterator[Cluster]:
    with Cluster(f"127.0.0.1:{real.web_port}", real.token) as cluster:
        yield cluster


def run_program(real: RealCluster, text: str) -> subprocess.CompletedProcess[str]:
    """A Python program of its own, which finds the cluster in its environment."""
    environ = {
        **os.environ,
        "RETIRE_CLUSTER_SERVER": f"127.0.0.1:{real.web_port}",
        "RETIRE_CLUSTER_TOKEN": real.token,
    }
    program = [sys.executable, "-W", "error", "-c", text]
    return subprocess.run(program, env=environ, text=True, capture_output=True, timeout=60)


def output_of(real: RealCluster, text: str) -> list[str]:
    done = run_program(real, text)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.splitlines()


# -- functions, and tasks of other types


def test_values_and_exceptions_come_back(client: Cluster) -> None:
    def divide(number: int, by: int = 1) -> float:
        return number / by

    assert client.submit(divide, 6, by=4).result() == 1.5
    task = client.submit(divide, 6, by=0)
    with pytest.raises(ZeroDivisionError) as caught:
        task.result()
    assert isinstance(caught.value.__cause__, TaskFailed)
    assert "in divide" in caught.value.__cause__.remote_traceback
    assert len(task.document()["attempts"]) == 1
    assert client.submit("command", argv=["echo", "hello"]).result() == "hello\n"


def test_map_keeps_the_order_and_yields_what_came_before_an_exception(client: Cluster) -> None:
    warm = client.with_options(mode="warm")
    assert list(warm.map(pow, range(50), range(50))) == list(map(pow, range(50), range(50)))
    assert list(warm.map(pow, range(50), range(40), chunksize=7)) == list(map(pow, range(50), range(40)))
    for chunksize in (1, 2, 4):
        coming = warm.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=chunksize)
        assert [next(coming), next(coming)] == [(0, 1), (0, 1)]
        with pytest.raises(ZeroDivisionError):
            next(coming)


def test_output_progress_cancel_and_timeout(client: Cluster) -> None:
    def talk() -> str:
        from retirecluster import task

        for number in range(3):
            print("line", number, flush=True)
            task.progress(number, 4, "so far")
            time.sleep(0.2)
        time.sleep(60)
        return "never"

    task = client.submit(talk)
    pieces = task.output()
    assert next(pieces).startswith("line 0")
    assert eventually(lambda: task.progress)["message"] == "so far"
    eventually(lambda: task.status == "running", what="running")
    assert task.cancel()
    assert "never" not in "".join(pieces)
    with pytest.raises(TaskCancelled, match="retry"):
        task.result()
    assert not task.cancel() and task.done()
    with pytest.raises(TaskTimedOut, match="timeout_s"):
        client.with_options(timeout_s=0.5, retries=0).submit(time.sleep, 60).result()
    waiting = client.with_options(requirements={"gpu": True}).submit("echo")
    assert [device["fits"] for device in waiting.why()["devices"]] == [False, False]
    assert waiting.cancel()


def test_files_go_there_and_come_back(client: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a film")

    def shout() -> None:
        Path("out.txt").write_text(Path("in.txt").read_text().upper())

    task = client.with_options(inputs=[tmp_path / "in.txt"], outputs=["out.txt"]).submit(shout)
    assert task.result() is None
    [path] = client.download(task, tmp_path / "back")
    assert path.read_text() == "A FILM"
    assert len(client.upload(path)["sha256"]) == 64


def test_from_several_threads_at_once(client: Cluster) -> None:
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        results[number] = list(client.with_options(mode="warm").map(lambda x: x + number, range(20)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {number: [x + number for x in range(20)] for number in range(6)}


# -- asyncio, notebooks, forks, the end


def test_asyncio_and_a_blocking_call_in_a_running_loop(real: RealCluster, client: Cluster) -> None:
    async def use() -> list[Any]:
        assert client.submit(abs, -1).result() == 1  # as in a notebook: a loop runs, and one blocks all the same
        async with Cluster.asyncio(f"127.0.0.1:{real.web_port}", real.token) as cluster:
            tasks = [await cluster.submit(pow, 2, number) for number in range(4)]
            values = [value async for value in cluster.map(abs, range(-5, 0), chunksize=2)]
            ended = [task async for task in cluster.as_completed(tasks)]
            assert set(ended) == set(tasks)
            pieces = [piece async for piece in (await cluster.submit("command", argv=["echo", "hi"])).output()]
            with pytest.raises(ZeroDivisionError):
                await (await cluster.submit(divmod, 1, 0))
            return [await cluster.gather(*tasks), values, "".join(pieces)]

    assert asyncio.run(use()) == [[1, 2, 4, 8], [5, 4, 3, 2, 1], "hi\n"]


def test_a_forked_process_has_connections_of_its_own(real: RealCluster) -> None:
    text = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any fork beside threads
from retirecluster.client import Cluster
cluster = Cluster()
executor = cluster.executor()
task, slow = cluster.submit(pow, 2, 10), cluster.submit("sleep", seconds=1)
before = executor.submit(pow, 2, 3)
pid = os.fork()
if pid == 0:
    assert task.result() == 1024 and cluster.submit(abs, -5).result() == 5
    try:
        executor.submit(abs, 1)
    except RuntimeError as error:
        print("child:", error, flush=True)
    raise SystemExit(0)
assert os.waitpid(pid, 0)[1] == 0
print("parent:", task.result(), before.result(), slow.result(), executor.submit(abs, -7).result())
cluster.close()
"""
    lines = output_of(real, text)
    assert lines[0].startswith("child: this executor was made before the process was forked")
    assert lines[1] == "parent: 1024 8 slept 1 s 7"


def test_a_program_that_closes_nothing_ends(real: RealCluster) -> None:
    text = """
from retirecluster.client import Cluster
cluster = Cluster()
task = cluster.submit("sleep", seconds=300)
print(task.id)
next(cluster.as_completed([cluster.submit(abs, -1), task]))
"""
    [task_id] = output_of(real, text)
    assert real.get(f"tasks/{task_id}")["status"] in ("queued", "assigned", "running")
    real.request("POST", f"tasks/{task_id}/cancel", {})


def test_the_global_reactor_stays_free(real: RealCluster) -> None:
    text = """
from twisted.internet import task
from twisted.internet.defer import ensureDeferred
from retirecluster.client import Cluster
with Cluster() as blocking:
    print(blocking.submit(abs, -1).result())
    async def use(reactor):
        async with Cluster.twisted(reactor) as cluster:
            print(await (await cluster.submit(abs, -2)))
        print(blocking.submit(abs, -3).result())
    task.react(lambda reactor: ensureDeferred(use(reactor)))
"""
    assert output_of(real, text) == ["1", "2", "3"]


def test_the_end_of_a_program_waits_for_its_executor(real: RealCluster) -> None:
    text = """
import atexit, time
@atexit.register
def last():
    try:
        executor.submit(abs, -1)
    except RuntimeError as error:
        print(error)
from retirecluster.client import ClusterExecutor
executor = ClusterExecutor()
executor.submit(time.sleep, 1).add_done_callback(lambda future: print("done:", future.result()))
"""
    assert output_of(real, text) == ["done: None", "cannot schedule new futures after interpreter shutdown"]
    text = """
import time
from retirecluster.client import ClusterExecutor
executor = ClusterExecutor()
executor.submit(time.sleep, 1).add_done_callback(lambda future: print("done:", future.result()))
executor.shutdown(wait=False)
"""
    assert output_of(real, text) == ["done: None"]


# -- the executor


def test_what_is_cancelled_is_cancelled_on_the_cluster(real: RealCluster, client: Cluster) -> None:
    with client.executor(requirements={"gpu": True}) as executor:
        futures = [executor.submit(abs, -1) for _ in range(20)]
        eventually(lambda: all(future.task for future in futures), what="submits")
        assert not any(future.running() for future in futures)
        executor.shutdown(cancel_futures=True)
        assert all(future.cancelled() for future in futures)
    task_ids = [future.task.id for future in futures if future.task]
    eventually(lambda: all(client.task(task_id).status == "cancelled" for task_id in task_ids), what="cancels")


def test_chunks_of_the_executor(client: Cluster) -> None:
    with client.executor() as executor:
        assert list(executor.map(pow, range(30), range(30), chunksize=8)) == list(map(pow, range(30), range(30)))
        coming = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5], chunksize=4)
        assert [next(coming), next(coming)] == [(0, 1), (0, 1)]
        with pytest.raises(ZeroDivisionError) as caught:
            next(coming)
        assert "Traceback" in str(caught.value.__cause__)
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(abs, [1], chunksize=0)
        bad = executor.submit(abs, threading.Lock())
        assert "cannot be pickled" in str(bad.exception())
    with pytest.raises(ValueError, match="max_workers"):
        ClusterExecutor(0)


# -- crashes


def test_all_results_come_though_the_main_is_killed(cluster: RealCluster) -> None:
    cluster.choose_ports()
    cluster.start_main()
    for name in ("one", "two"):
        cluster.start_worker(name, "--slots", "2")
    cluster.wait_online("one", "two")

    def square(number: int) -> int:
        time.sleep(0.02)
        return number * number

    with Cluster(f"127.0.0.1:{cluster.web_port}", cluster.token) as client, client.executor() as executor:
        came: list[int] = []
        coming = client.with_options(mode="warm").map(square, range(300))
        futures = [executor.submit(square, number) for number in range(300)]
        for value in coming:
            came.append(value)
            if len(came) in (20, 150):
                cluster.kill("main")
                more = [executor.submit(square, number) for number in range(300, 310)]
                futures += more
                cluster.start_main()
        assert came == [number * number for number in range(300)]
        expected = [number * number for number in [*range(300), *range(300, 310), *range(300, 310)]]
        assert [future.result(60) for future in futures] == expected
    counts = cluster.counts()
    assert counts == {"completed": 620}, counts
