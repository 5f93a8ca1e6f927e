"""How a run's end becomes a result."""

from __future__ import annotations

from typing import Any

import pytest

from retirecluster.wire.messages import MESSAGES
from retirecluster.worker.assignment import Assignment
from retirecluster.worker.outcome import cancelled_data, failure_data, result_data

SCRIPT = Assignment("t", 3, "python_script", {}, 5.0)


def result(assignment: Assignment = SCRIPT, **report: Any) -> dict[str, Any]:
    data = result_data(assignment, {"code": 0, "signal": None, "wall": 1.5, "cpu": 0.5, "peak": 1024} | report, "why")
    problems = MESSAGES["task_result"].data.problems(data)
    assert not problems
    return data


def test_success() -> None:
    assert result(stdout="out") == {
        "task_id": "t",
        "epoch": 3,
        "status": "completed",
        "execution_time": 1.5,
        "result": {"output": "out", "exit_code": 0, "metrics": {"cpu_time": 0.5, "memory_peak": 1024}},
    }


@pytest.mark.parametrize(
    ("report", "status", "kind", "retryable"),
    [
        ({"code": 2, "stderr": "a\nno such thing\n"}, "failed", "exit", True),
        ({"code": None, "signal": 9}, "failed", "signal", True),
        ({"timed_out": True}, "failed", "timeout", True),
        ({"cancelled": True, "code": 0}, "cancelled", "cancelled", False),
        ({"code": 1, "error": {"kind": "exec", "message": "m", "retryable": False}}, "failed", "exec", False),
    ],
)
def test_the_ways_to_fail(report: dict[str, Any], status: str, kind: str, retryable: bool) -> None:
    data = result(**report)
    assert (data["status"], data["error"]["kind"], data["error"]["retryable"]) == (status, kind, retryable)


def test_messages_say_what_happened() -> None:
    assert result(code=2, stderr="a\nno such thing\n")["error"]["message"] == "exit code 2: no such thing"
    assert "SIGKILL" in result(code=None, signal=9)["error"]["message"]
    assert result(code=None, signal=9)["result"]["exit_code"] == -9
    assert "5 s" in result(timed_out=True)["error"]["message"]
    assert result(cancelled=True)["error"]["message"] == "why"


def test_a_value_that_the_wire_does_not_take_is_a_failure() -> None:
    deep: Any = 0
    for _ in range(40):
        deep = [deep]
    for value in (deep, 2**70, {"a": "\ud800"}):
        data = result(Assignment("t", 3, "mine", {}), value=value)
        assert (data["status"], data["error"]["kind"], data["result"]["output"]) == ("failed", "result", "")


def test_ends_without_a_report_are_valid_messages_too() -> None:
    for data in (cancelled_data(SCRIPT, "no"), failure_data(SCRIPT, "died", "gone", True)):
        assert not MESSAGES["task_result"].data.problems(data)


@pytest.mark.parametrize(
    ("limit", "kind", "message"),
    [
        (("memory_bytes", 512 << 20, True), "memory_limit", "killed: memory limit 512 MiB"),
        (("cpu_time_s", 1.5, True), "cpu_limit", "killed: processor time limit 1.5 s"),
        (("file_size_bytes", 1 << 30, True), "file_size_limit", "killed: file size limit 1 GiB"),
        (("disk_bytes", 1 << 20, True), "disk_limit", "killed: disk limit 1 MiB"),
        (("processes", 64, True), "processes_limit", "killed: processes limit 64"),
        (("open_files", 1024, False), "open_files_limit", "failed: open files limit 1024: OSError: too many"),
    ],
)
def test_the_limit_that_was_hit_is_named(limit: tuple[str, float, bool], kind: str, message: str) -> None:
    name, allowed, killed = limit
    told = {"name": name, "allowed": allowed, "killed": killed}
    error = result(code=1, stderr="Traceback\nOSError: too many\n", limit=told)["error"]
    assert (error["kind"], error["message"], error["retryable"]) == (kind, message, True)
