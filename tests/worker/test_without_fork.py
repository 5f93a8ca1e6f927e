"""The worker and its runner where processes cannot be forked: real processes, in which those names are missing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from retirecluster.worker.runner_process import RunnerSettings
from tests.integration.cluster import RealCluster
from tests.worker import without_fork
from tests.worker.runner_client import RunnerClient, alive, gone_within

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[RunnerClient]:
    scratch = tmp_path / "scratch"
    variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "RETIRE_DEVICE_ID": "device-1"}
    settings = RunnerSettings(str(scratch), variables, executable=without_fork.interpreter(tmp_path))
    client = RunnerClient(scratch, settings=settings)
    yield client
    client.close()
    assert not list(scratch.glob("*")), "scratch folders were left behind"


def test_no_fork_means_the_plain_runner(plain: RunnerClient) -> None:
    assert plain.ready["level"] == 0 and plain.ready["layers"] == []


def test_values(plain: RunnerClient) -> None:
    assert plain.run("echo", {"message": {"a": [1]}})["value"] == '{"a": [1]}'
    assert plain.run("python_eval", {"expression": "6 * n", "environment": {"n": 7}})["value"] == "42"
    assert plain.run("system_info", {})["value"]["device_id"] == "device-1"
    plain.start("sleep", {"duration_s": 1.2})
    reports = plain.until_end()
    assert reports[-1]["value"] == "slept 1.2 s"
    assert any(each["e"] == "progress" and each["percent"] > 50 for each in reports)
    called = plain.run("python_call", {"function": "math:sqrt", "arguments": [2.25]})
    assert called["value"]["repr"] == "1.5"


def test_two_scripts_know_nothing_of_each_other(plain: RunnerClient) -> None:
    first = plain.script("import math; math.pi = 3; open('left', 'w').write('x')")
    second = plain.script("import math, os; print(math.pi > 3.1, os.listdir())")
    assert (first["code"], second["stdout"]) == (0, "True []\n")


def test_scripts_arguments_input_and_exit(plain: RunnerClient) -> None:
    source = "import sys; print(sys.argv[1:], sys.stdin.read().upper()); print('bad', file=sys.stderr); sys.exit(3)"
    report = plain.script(source, payload={"arguments": ["a b", "ü"], "stdin": "straße\n"})
    assert report["stdout"] == "['a b', 'ü'] STRASSE\n\n"
    assert (report["stderr"], report["code"]) == ("bad\n", 3)
    failed = plain.script("1 / 0")
    assert failed["code"] == 1 and "ZeroDivisionError" in failed["stderr"]


def test_commands(plain: RunnerClient) -> None:
    report = plain.run("command", {"argv": ["sh", "-c", "cat; echo $RETIRE_TASK_ID $0; pwd"], "stdin": "in\n"})
    words = report["stdout"].split()
    assert words[:3] == ["in", f"task-{plain.count}", "sh"] and words[3].startswith(str(plain.scratch))
    missing = plain.run("command", {"argv": ["no-such-program"]})
    assert missing["error"]["kind"] == "exec" and missing["error"]["retryable"] is False
    report = plain.run("command", {"argv": ["sh", "-c", 'echo "40 half" >> "$RETIRE_PROGRESS_FILE"; kill -9 $$']})
    assert report["signal"] == 9


def test_output_comes_while_it_runs_and_in_order(plain: RunnerClient) -> None:
    plain.start("python_script", {"source": "import time\nfor n in range(3): print(n); time.sleep(0.3)"})
    seen = [each for each in plain.until_end() if each["e"] == "output"]
    assert len(seen) >= 2 and [each["seq"] for each in seen] == list(range(len(seen)))
    assert "".join(each["data"] for each in seen) == "0\n1\n2\n"


def test_output_for_ever_is_cut_and_ends(plain: RunnerClient) -> None:
    plain.start("python_script", {"source": "while True: print('x' * 1000)"}, timeout=3)
    reports = plain.until_end()
    streamed = sum(len(each["data"]) for each in reports if each["e"] == "output")
    assert reports[-1]["timed_out"] and reports[-1]["truncated"]
    assert len(reports[-1]["stdout"]) <= 96 * 1024 and streamed <= 8 * 1024 * 1024 + 64 * 1024


def test_a_timeout_takes_the_whole_group(plain: RunnerClient, tmp_path: Path) -> None:
    place = tmp_path / "pid"
    source = f"trap '' TERM; sleep 60 & echo $! > {place}; while :; do sleep 1; done"
    began = time.monotonic()
    report = plain.run("command", {"argv": ["sh", "-c", source]}, timeout=1, grace=0.5)
    assert report["timed_out"] and report["signal"] == 9 and time.monotonic() - began < 15
    assert gone_within([int(place.read_text())], 5)


def test_cancelling(plain: RunnerClient) -> None:
    number = plain.start("sleep", {"duration_s": 60})
    assert plain.report()["e"] == "started"
    plain.order({"do": "cancel", "n": number, "grace": 0.2})
    assert plain.until_end(number)[-1]["cancelled"]
    assert plain.run("echo", {"message": "next"})["value"] == "next"


def test_tasks_of_a_lane_follow_each_other(plain: RunnerClient) -> None:
    source = {"source": "import os, time; print(time.time(), os.getpid()); time.sleep(0.3); print(time.time())"}
    numbers = [plain.start("python_script", source, lane="a") for _ in range(3)]
    ends: dict[int, list[str]] = {}
    while len(ends) < 3:
        report = plain.report()
        if report["e"] == "end":
            ends[report["n"]] = report["stdout"].split()
    for before, after in pairwise(numbers):
        assert float(ends[before][2]) <= float(ends[after][0])
    assert len({words[1] for words in ends.values()}) == 3


def test_what_waits_in_a_lane_is_called_back_or_cancelled(plain: RunnerClient) -> None:
    first, second, third = [plain.start("sleep", {"duration_s": 30}, lane="a") for _ in range(3)]
    assert plain.report()["n"] == first
    plain.order({"do": "cancel", "n": second})
    assert plain.until_end(second)[-1]["cancelled"]
    plain.order({"do": "recall", "lane": "a"})
    assert plain.report() == {"e": "returned", "n": third}
    plain.order({"do": "cancel", "n": first, "grace": 0})
    assert plain.until_end(first)[-1]["cancelled"]


def test_no_task_outlives_the_channel(plain: RunnerClient) -> None:
    plain.start("command", {"argv": ["sleep", "60"]})
    pid = plain.report()["pid"]
    assert alive(pid)
    plain.close()
    assert gone_within([pid], 10)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path)
    made.start_main()
    yield made
    made.stop()
    made.assert_no_tracebacks()


def _output(cluster: RealCluster, task_id: str) -> object:
    assert cluster.ended(task_id)["status"] == "completed"
    return cluster.get(f"tasks/{task_id}/result")["output"]


def test_a_worker_without_fork_does_its_work_and_claims_no_more_than_it_has(
    cluster: RealCluster, tmp_path: Path
) -> None:
    cluster.start_worker("old-pc", environ={"PYTHONPATH": without_fork.startup(tmp_path / "startup")})
    cluster.wait_online("old-pc")
    assert cluster.get("devices/old-pc")["isolation"] == 0
    assert "cannot be forked" in (tmp_path / "old-pc" / "fences.json").read_text()
    submitted = cluster.submit(
        {"task_type": "echo", "payload": {"message": "hi"}},
        {"task_type": "sleep", "payload": {"duration_s": 0.2}},
        {"task_type": "python_eval", "payload": {"expression": "sum(range(10))"}},
        {"task_type": "python_script", "payload": {"source": "print('script')"}},
        {"task_type": "command", "payload": {"argv": ["echo", "program"]}},
        {"task_type": "python_eval", "payload": {"expression": "3"}, "mode": "warm"},
    )
    outputs = [_output(cluster, task_id) for task_id in submitted]
    assert outputs == ["hi", "slept 0.2 s", "45", "script\n", "program\n", "3"]
    late, fenced, wanted = cluster.submit(
        {"task_type": "command", "payload": {"argv": ["sleep", "60"]}, "timeout": 1, "max_retries": 0},
        {"task_type": "echo", "payload": {"message": ""}, "requirements": {"isolation": 1}},
        {"task_type": "command", "payload": {"argv": ["sleep", "60"]}},
    )
    assert cluster.ended(late)["status"] == "failed"
    assert cluster.get(f"tasks/{late}/result")["error"]["kind"] == "timeout"
    cluster.request("POST", f"tasks/{wanted}/cancel", {})
    assert cluster.ended(wanted)["status"] == "cancelled"
    assert cluster.get(f"tasks/{fenced}")["status"] in ("pending", "queued")
