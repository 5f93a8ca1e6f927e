"""The worker as twistd starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.worker.fake_main import FakeMain
from tests.worker.runner_client import alive, gone_within

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]
REPOSITORY = str(Path(__file__).parents[2])
TWISTD = [sys.executable, "-c", "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"]


class Program:
    """One worker process."""

    def __init__(self, folder: Path, port: int, *options: str) -> None:
        command = [
            *TWISTD,
            "-n",
            "--pidfile=",
            "retire-worker",
            "--join",
            f"127.0.0.1:{port}",
            "--data-dir",
            str(folder),
        ]
        environment = {**os.environ, "PYTHONPATH": REPOSITORY, "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [*command, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    async def ended(self) -> str:
        """Wait for its end; what it printed."""
        end = time.monotonic() + 20
        while self.process.poll() is None:
            assert time.monotonic() < end, "the worker does not end"
            await deferLater(reactor, 0.02, lambda: None)
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def main() -> Iterator[FakeMain]:
    from twisted.internet.defer import Deferred

    made = FakeMain()
    made.listen()
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


@pytest.fixture
def start(main: FakeMain, tmp_path: Path) -> Iterator[object]:
    programs: list[Program] = []

    def begin(*options: str, port: int = 0) -> Program:
        programs.append(Program(tmp_path / "data", port or main.port.getHost().port, *options))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()


def printed_pids(main: FakeMain) -> list[int]:
    return [int(word) for each in main.all("task_output") for word in each["data"].split()]


@pytest_twisted.ensureDeferred
async def test_it_registers_runs_and_ends_at_sigterm(main: FakeMain, start: type[Program], tmp_path: Path) -> None:
    register = main.next("register")
    worker = start("--device-id", "phone-1", "--role", "mobile", "--slots", "3", "--tag", "a", "--tag", "b",
                   "--platform", "android", "--memory-gb", "2")  # fmt: skip
    data = await register
    assert (data["slots"], data["tags"], data["prefetch"]) == (3, ["a", "b"], 32)
    assert data["isolation"] >= data["fences"]["default"] == 1
    assert (data["device_info"]["platform"], data["device_info"]["role"]) == ("android", "mobile")
    assert data["hardware_specs"]["memory_total"] == 2 * 1024**3
    assert "python_eval" in data["task_types"] and data["speed"] > 0
    result = main.next("task_result")
    main.assign("t", "python_eval", {"expression": "sum(range(100000))"})
    assert (await result)["result"]["output"] == "4999950000"
    disconnect = main.next("disconnect")
    worker.process.send_signal(signal.SIGTERM)
    await disconnect
    output = await worker.ended()
    assert worker.process.returncode in (0, -signal.SIGTERM) and "Traceback" not in output
    assert not list((tmp_path / "data" / "scratch").iterdir())


@pytest_twisted.ensureDeferred
async def test_tasks_die_with_a_worker_that_is_killed_and_are_reported_later(
    main: FakeMain, start: type[Program]
) -> None:
    register = main.next("register")
    worker = start()
    await register
    output = main.next("task_output")
    source = "import os, time\nos.fork()\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    main.assign("t", "python_script", {"source": source})
    await output
    await deferLater(reactor, 0.2, lambda: None)
    pids = printed_pids(main)
    assert len(pids) == 2 and all(map(alive, pids))
    worker.process.kill()
    assert gone_within(pids, 1.0)
    again = main.next("register")
    start()
    assert (await again)["attempts"] == [{"task_id": "t", "epoch": 1, "state": "died"}]


@pytest_twisted.ensureDeferred
async def test_tasks_of_a_worker_and_runner_killed_together_are_killed_by_the_next_life(
    main: FakeMain, start: type[Program]
) -> None:
    register = main.next("register")
    worker = start()
    await register
    output = main.next("task_output")
    main.assign(
        "t",
        "python_script",
        {"source": "import os, time\nprint(os.getpid(), os.getppid(), flush=True)\ntime.sleep(60)"},
    )
    await output
    task, runner = printed_pids(main)
    worker.process.send_signal(signal.SIGSTOP)
    os.kill(runner, signal.SIGKILL)
    worker.process.kill()
    worker.process.wait()
    assert alive(task)
    again = main.next("register")
    start()
    assert (await again)["attempts"][0]["state"] == "died"
    assert gone_within([task], 1.0)


@pytest_twisted.ensureDeferred
async def test_a_second_worker_on_the_same_folder_says_so_and_leaves(main: FakeMain, start: type[Program]) -> None:
    register = main.next("register")
    start()
    await register
    second = start()
    output = await second.ended()
    assert second.process.returncode == 2
    assert "another worker uses the data folder" in output and "Traceback" not in output


@pytest_twisted.ensureDeferred
async def test_a_mistake_in_the_settings_is_one_line(main: FakeMain, start: type[Program]) -> None:
    for options in (("--join", "a:b:c"), ("--slots", "0"), ("--config", "/nowhere.json")):
        program = start(*options)
        output = await program.ended()
        assert program.process.returncode == 2
        assert len(output.strip().splitlines()) == 1, output


@pytest_twisted.ensureDeferred
async def test_the_test_option(main: FakeMain, start: type[Program]) -> None:
    found = start("--test")
    output = await found.ended()
    assert found.process.returncode == 0
    assert "main main-node at 127.0.0.1:" in output and "round trip" in output
    assert not main.all("register")
    missing = start("--test", port=1)
    output = await missing.ended()
    assert missing.process.returncode == 4
    assert "no main at 127.0.0.1:1" in output and "Traceback" not in output
