"""A real runner told to stop a task where it stands: all of its tree, its timeout too, and to let it go on."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worker.fenced import runner_of
from tests.worker.runner_client import RunnerClient, alive

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
TREE = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("leaf", os.getpid(), flush=True)
        while True:
            time.sleep(0.01)
print("root", os.getpid(), flush=True)
time.sleep(60)
"""

GROWING = """
import os, time
print(os.getpid(), flush=True)
for _ in range(300):
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    time.sleep(0.001)
time.sleep(30)
"""


def state(pid: int) -> str:
    """One letter: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def within(seconds: float, check: object) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def tree_of(runner: RunnerClient) -> list[int]:
    """The processes of the task that was started last, once all have said who they are."""
    printed = ""
    while printed.count("leaf") < 2 or "root" not in printed:
        report = runner.report()
        printed += report.get("data", "")
    return [int(line.split()[1]) for line in printed.splitlines()]


def test_processes_that_left_the_group_and_the_session_stop_too(runner: RunnerClient) -> None:
    number = runner.start("python_script", {"source": TREE})
    pids = tree_of(runner)
    runner.order({"do": "pause", "n": number})
    assert within(5, lambda: all(state(pid) == "T" for pid in pids)), [state(pid) for pid in pids]
    runner.order({"do": "continue", "n": number})
    assert within(5, lambda: all(state(pid) == "S" for pid in pids))
    runner.order({"do": "pause", "n": number})
    assert within(5, lambda: all(state(pid) == "T" for pid in pids))
    runner.order({"do": "cancel", "n": number, "grace": 5.0})
    end = runner.until_end(number)[-1]
    assert end["cancelled"] and within(5, lambda: not any(alive(pid) for pid in pids))


def test_a_tree_that_grows_while_it_is_stopped_stops(runner: RunnerClient) -> None:
    number = runner.start("python_script", {"source": GROWING})
    while "data" not in (report := runner.report()):
        pass
    leader = int(report["data"])

    def family() -> list[int]:
        kids = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        return [leader, *map(int, kids)]

    runner.order({"do": "pause", "n": number})
    assert within(5, lambda: all(state(pid) == "T" for pid in family()))
    count = len(family())
    time.sleep(0.1)
    assert len(family()) == count and all(state(pid) == "T" for pid in family())
    runner.order({"do": "cancel", "n": number, "grace": 0.0})
    assert runner.until_end(number)[-1]["cancelled"]


def test_time_that_it_stands_still_counts_neither_for_its_timeout_nor_for_its_time(runner: RunnerClient) -> None:
    source = "import time\nprint('on', flush=True)\nfor _ in range(10):\n    time.sleep(0.05)\nprint('done')"
    number = runner.start("python_script", {"source": source}, timeout=4.0)
    while "data" not in runner.report():
        pass
    began = time.monotonic()
    runner.order({"do": "pause", "n": number})
    time.sleep(5.0)  # longer than the timeout
    runner.order({"do": "continue", "n": number})
    end = runner.until_end(number)[-1]
    stood_still_s = time.monotonic() - began
    assert not end.get("timed_out") and end["code"] == 0 and "done" in end["stdout"]
    assert stood_still_s > 5.0 > end["wall"]


def test_a_timeout_still_comes_after_it_went_on(runner: RunnerClient) -> None:
    number = runner.start("python_script", {"source": "import time\ntime.sleep(60)"}, timeout=1.0)
    runner.order({"do": "pause", "n": number})
    time.sleep(0.2)
    runner.order({"do": "continue", "n": number})
    assert runner.until_end(number)[-1]["timed_out"]


def test_a_stopped_task_dies_with_its_runner(tmp_path: Path) -> None:
    client = RunnerClient(tmp_path / "scratch")
    number = client.start("python_script", {"source": TREE})
    pids = tree_of(client)
    client.order({"do": "pause", "n": number})
    assert within(5, lambda: all(state(pid) == "T" for pid in pids))
    client.close()
    assert within(5, lambda: not any(alive(pid) for pid in pids))


def test_orders_about_what_is_not_there_are_ignored(runner: RunnerClient) -> None:
    for do in ("pause", "continue"):
        runner.order({"do": do, "n": 4711})
    assert runner.run("python_eval", {"expression": "1 + 1"})["value"] == "2"


COUNTING = """
import os, time
kid = os.fork()
if kid == 0:
    os.setsid()
while True:
    name = 'parent' if kid else 'child'
    with open(name, 'a') as file:
        file.write('x')
    time.sleep(0.01)
"""


@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "warm"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_it_stands_still_and_goes_on_at_every_level(tmp_path: Path, level: int, warm: bool) -> None:
    with runner_of(tmp_path, level) as runner:
        more: dict[str, Any] = {"lane": "a"} if warm else {}
        if warm:
            assert runner.script("pass", **more)["code"] == 0
        number = runner.start("python_script", {"source": COUNTING}, **more)
        assert runner.report()["e"] == "started"

        def counts() -> list[int]:
            return [path.stat().st_size for name in ("parent", "child") for path in runner.scratch.rglob(name)]

        def stands_still() -> bool:
            before = counts()
            time.sleep(0.2)
            return counts() == before

        assert within(10, lambda: len(counts()) == 2 and min(counts()) > 3), counts()
        runner.order({"do": "pause", "n": number})
        assert within(10, stands_still), "it does not stand still"
        before = counts()
        time.sleep(0.5)
        assert counts() == before
        runner.order({"do": "continue", "n": number})
        assert within(10, lambda: all(now > then for now, then in zip(counts(), before, strict=True)))
        runner.order({"do": "pause", "n": number})
        assert within(10, stands_still)
        runner.order({"do": "cancel", "n": number, "grace": 0.5})
        assert runner.until_end(number)[-1]["cancelled"]
        assert runner.script("print('next')", **more)["stdout"] == "next\n"


@pytest.mark.parametrize("level", [1, 2, 3])
def test_what_waits_behind_a_warm_task_that_stands_still_waits_too(tmp_path: Path, level: int) -> None:
    with runner_of(tmp_path, level) as runner:
        first = runner.start("python_script", {"source": "import time; time.sleep(0.5)"}, lane="a")
        second = runner.start("python_eval", {"expression": "2"}, lane="a")
        assert runner.report() | {"pid": 0} == {"e": "started", "n": first, "pid": 0}
        runner.order({"do": "pause", "n": first})
        time.sleep(1.5)
        runner.order({"do": "continue", "n": first})
        reports = runner.until_end(second)
        ends = [each["n"] for each in reports if each["e"] == "end"]
        assert ends == [first, second] and reports[-1]["value"] == "2"
        assert next(each for each in reports if each["e"] == "end")["wall"] < 1.4
