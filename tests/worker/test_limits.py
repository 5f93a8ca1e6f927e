"""Tasks that want too much: each ends in a failure with a name, and the next one runs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.worker.fenced import runner_of
from tests.worker.runner_client import Report, RunnerClient, gone_within, rss_kib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
MIB = 1024 * 1024
Start = Callable[..., RunnerClient]
WAYS = [(1, False), (1, True), (2, False), (2, True), (3, False), (3, True)]
WAY = pytest.mark.parametrize(("level", "groups"), WAYS, ids=[f"level-{a}{'-groups' * b}" for a, b in WAYS])
LEVEL = pytest.mark.parametrize("level", [1, 2, 3])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda level, groups=False: stack.enter_context(runner_of(tmp_path, level, groups))


def limit_of(report: Report) -> tuple[str, Any]:
    assert "limit" in report, report
    return report["limit"]["name"], report["limit"]["allowed"]


def still_runs(runner: RunnerClient) -> None:
    assert runner.run("python_eval", {"expression": "6 * 7"})["value"] == "42"


@WAY
def test_a_fork_bomb(start: Start, level: int, groups: bool) -> None:
    runner = start(level, groups)
    source = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    report = runner.script(source, limits={"processes": 64})
    assert limit_of(report) == ("processes", 64)
    still_runs(runner)


@pytest.mark.slow  # root without control groups: thousands of processes for a moment, not beside other tests
def test_a_fork_bomb_of_a_task_that_asked_for_nothing(start: Start) -> None:
    runner = start(1)
    report = runner.run("command", {"argv": ["sh", "-c", "f() { f | f & }; f; sleep 30"]}, timeout=15.0)
    assert limit_of(report)[0] == "processes" or report.get("timed_out") or report["code"] is not None
    still_runs(runner)


@pytest.mark.skipif(
    os.geteuid() != 0 or os.getpriority(os.PRIO_PROCESS, 0) != 0, reason="for a root that nobody made nicer"
)
def test_the_runner_of_root_gets_to_run_before_its_tasks_and_they_do_not_inherit_that(start: Start) -> None:
    runner = start(1)
    assert os.getpriority(os.PRIO_PROCESS, runner.process.pid) < 0
    assert runner.run("command", {"argv": ["nice"]})["stdout"].strip() == "0"
    source = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
    assert runner.script(source)["stdout"].strip() == "0"


def test_a_fork_bomb_that_leaves_its_session(start: Start) -> None:
    runner = start(1)
    source = (
        "import os, time\n"
        "for _ in range(30):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork(): os._exit(0)\n"
        "        time.sleep(60)\n"
        "while True: time.sleep(1)"
    )
    report = runner.script(source, timeout=1.0)
    assert report["timed_out"]
    still_runs(runner)


@WAY
def test_an_allocation_of_100_gib(start: Start, level: int, groups: bool) -> None:
    runner = start(level, groups)
    source = "whole = []\nfor _ in range(100 * 1024):\n    whole.append(bytearray(1024 * 1024))"
    report = runner.script(source, limits={"memory_bytes": 200 * MIB})
    assert limit_of(report) == ("memory_bytes", 200 * MIB)
    assert report["peak"] > 100 * MIB
    still_runs(runner)


def test_the_memory_of_the_whole_tree_counts(start: Start) -> None:
    """Each process stays below the limit, all together do not."""
    runner = start(1)
    source = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: break\n"
        "block = bytearray(40 * 1024 * 1024)\n"
        "for place in range(0, len(block), 4096): block[place] = 1\n"
        "time.sleep(30)"
    )
    report = runner.script(source, limits={"memory_bytes": 120 * MIB})
    assert limit_of(report) == ("memory_bytes", 120 * MIB) and report["limit"]["killed"]
    assert report["peak"] > 120 * MIB


@LEVEL
def test_a_busy_loop(start: Start, level: int) -> None:
    runner = start(level)
    report = runner.script("while True: pass", limits={"cpu_time_s": 0.5})
    assert limit_of(report) == ("cpu_time_s", 0.5)
    assert 0.4 <= report["cpu"] < 3.0
    still_runs(runner)


def test_a_busy_loop_that_ignores_the_signal_of_its_limit(start: Start) -> None:
    runner = start(1)
    source = (
        "import signal\n"
        "for number in (signal.SIGXCPU, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        "while True: pass"
    )
    report = runner.script(source, limits={"cpu_time_s": 1})
    assert limit_of(report) == ("cpu_time_s", 1) and report["signal"] == signal.SIGKILL


@pytest.mark.parametrize("groups", [False, True])
def test_half_a_processor_is_half_a_processor(start: Start, groups: bool) -> None:
    """By a quota of the kernel, or by stopping and going on."""
    runner = start(1, groups)
    source = "import time\nbegin = time.monotonic()\nwhile time.monotonic() - begin < 1.5: pass"
    report = runner.script(source, limits={"cpu_cores": 0.3})
    assert report["code"] == 0
    assert report["cpu"] / report["wall"] < 0.55


@LEVEL
def test_a_disk_filler_in_one_file(start: Start, level: int) -> None:
    runner = start(level)
    source = "with open('big', 'wb') as file:\n    while True: file.write(bytes(1 << 20))"
    report = runner.script(source, limits={"file_size_bytes": 8 * MIB})
    assert limit_of(report) == ("file_size_bytes", 8 * MIB)
    command = {"argv": ["dd", "if=/dev/zero", "of=big", "bs=1M"]}
    report = runner.run("command", command, limits={"file_size_bytes": 8 * MIB})
    assert limit_of(report) == ("file_size_bytes", 8 * MIB) and report["signal"] == signal.SIGXFSZ
    still_runs(runner)


@LEVEL
def test_a_disk_filler_in_many_files(start: Start, level: int) -> None:
    runner = start(level)
    source = (
        "import itertools\n"
        "for number in itertools.count():\n"
        "    with open(f'{number}', 'wb') as file: file.write(bytes(1 << 20))"
    )
    report = runner.script(source, limits={"disk_bytes": 32 * MIB})
    assert limit_of(report) == ("disk_bytes", 32 * MIB)
    still_runs(runner)


@pytest.mark.slow
def test_two_hundred_thousand_files(start: Start) -> None:
    """They are removed while the next tasks run."""
    runner = start(1)
    source = "import os\nfor number in range(200_000): os.close(os.open(str(number), os.O_CREAT | os.O_WRONLY))"
    assert runner.script(source, timeout=120.0)["code"] == 0
    begin = time.monotonic()
    still_runs(runner)
    assert time.monotonic() - begin < 5.0


@LEVEL
def test_a_hundred_thousand_descriptors(start: Start, level: int) -> None:
    runner = start(level)
    source = "import os\nheld = [os.open('/dev/null', 0) for _ in range(100_000)]"
    assert limit_of(runner.script(source)) == ("open_files", 1024)
    expression = "[open('/dev/null') for _ in range(100_000)]"
    report = runner.run("python_eval", {"expression": expression}, limits={"open_files": 50})
    assert limit_of(report) == ("open_files", 50)
    still_runs(runner)


def test_a_spawned_command_cannot_raise_its_limits(start: Start) -> None:
    """They are there from the first instruction, and hard before it can do much."""
    runner = start(1)
    report = runner.run("command", {"argv": ["sh", "-c", "sleep 0.05; ulimit -Hn; ulimit -Sn; ulimit -Hf; ulimit -c"]})
    assert report["stdout"].split() == ["1024", "1024", str(1024**3 // 512), "0"]


def test_output_beyond_its_cap_keeps_the_tail(start: Start) -> None:
    runner = start(1)
    command = {"argv": ["sh", "-c", "yes | head -c 3000000; echo the end"]}
    runner.start("command", command, limits={"output_bytes": 100_000})
    reports = runner.until_end()
    streamed = sum(len(each["data"]) for each in reports if each["e"] == "output")
    assert 100_000 <= streamed < 300_000
    assert reports[-1]["truncated"] and reports[-1]["stdout"].endswith("the end\n")


def test_the_grace_of_a_task_is_kept(start: Start) -> None:
    runner = start(1)
    source = (
        "import signal, time\n"
        "signal.signal(15, lambda *_: (time.sleep(0.6), print('saved', flush=True), exit(0)))\n"
        "while True: time.sleep(1)"
    )
    assert runner.script(source, timeout=0.3, grace=10.0)["stdout"] == "saved\n"
    report = runner.script(source, timeout=0.3, grace=0.1)
    assert report["signal"] == signal.SIGKILL and "stdout" not in report


def test_processor_time_of_orphans_counts(start: Start) -> None:
    """Work done by a process that nobody in the task waits for."""
    runner = start(1)
    source = (
        "import os, time\n"
        "readable, writable = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    begin = time.process_time()\n"
        "    while time.process_time() - begin < 0.4: pass\n"
        "    os._exit(0)\n"
        "os.close(writable)\n"
        "os.read(readable, 1)  # until the other one has ended"
    )
    report = runner.script(source)
    assert report["code"] == 0 and report["cpu"] > 0.35


def test_a_folder_that_was_given_is_used_and_left_alone(start: Start, tmp_path: Path) -> None:
    runner = start(1)
    given = tmp_path / "given"
    given.mkdir()
    (given / "input").write_text("42")
    report = runner.script("open('output', 'w').write(open('input').read() + '!')", folder=str(given))
    assert report["code"] == 0
    assert (given / "output").read_text() == "42!"


def test_limits_cost_no_memory_of_the_runner(start: Start) -> None:
    runner = start(2)
    for _ in range(20):
        still_runs(runner)
    assert rss_kib(runner.pid) < 16 * 1024


@LEVEL
def test_nothing_of_a_task_outlives_it(start: Start, level: int) -> None:
    runner = start(level)
    source = (
        "import os, signal, time\n"
        "for leave in (0, 1):\n"
        "    if os.fork() == 0:\n"
        "        if leave: os.setsid()\n"
        "        if os.fork(): os._exit(0)\n"
        "        signal.signal(15, signal.SIG_IGN)\n"
        "        open(f'mark-{leave}', 'w').write('x')\n"
        "        while True: time.sleep(1)\n"
        "while not (os.path.exists('mark-0') and os.path.exists('mark-1')): time.sleep(0.01)\n"
    )
    assert runner.script(source)["code"] == 0
    count = "len([1 for name in __import__('os').listdir('/proc') if name.isdigit()])"
    if level == 3:  # its namespace has bubblewrap, the runner, the task that counts, and for a while what cleans up
        counts = [int(runner.run("python_eval", {"expression": count})["value"]) for _ in range(20)]
        assert min(counts) == 3
    else:
        children = Path(f"/proc/{runner.pid}/task/{runner.pid}/children").read_text().split()
        assert gone_within([int(each) for each in children], 2.0)
