"""What the runner reports at a task's end, as the result that goes to the main. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.codec import MAX_LINE_BYTES, decode, encode_line
from retirecluster.worker.assignment import Assignment

PRINTS = frozenset({"python_script", "command"})
"""Types whose output is what they print; the others give a value."""

MAX_RESULT_BYTES = MAX_LINE_BYTES - 16_384
"""How long output and stderr may be as JSON, so that the line has room for everything else."""


def result_data(assignment: Assignment, report: Mapping[str, Any], cancel_reason: str = "") -> dict[str, Any]:
    """The data of `task_result` for the runner's `end` report."""
    status, error = _verdict(assignment, report, cancel_reason)
    output = report.get("stdout", "") if assignment.task_type in PRINTS else report.get("value", "")
    stderr = report.get("stderr", "")
    truncated = bool(report.get("truncated"))
    if not isinstance(output, str):
        if problem := _unsendable(output):
            status, error, output = "failed", _error("result", f"the result cannot be sent: {problem}", False), ""
        elif len(encode_line({"": output})) + len(encode_line({"": stderr})) > MAX_RESULT_BYTES:
            stderr, truncated = "", True
    result: dict[str, Any] = {
        "output": output,
        "exit_code": _exit_code(report),
        "metrics": {"cpu_time": report.get("cpu", 0.0), "memory_peak": report.get("peak", 0)},
    }
    if stderr:
        result["stderr"] = stderr
    if truncated:
        result["truncated"] = True
    data = _frame(assignment, status, report.get("wall", 0.0))
    data["result"] = result
    if error is not None:
        data["error"] = error
    return data


def failure_data(
    assignment: Assignment, kind: str, message: str, retryable: bool, seconds: float = 0.0
) -> dict[str, Any]:
    """The data of `task_result` for an attempt that failed without a report: bad payload, dead runner."""
    return _frame(assignment, "failed", seconds) | {"error": _error(kind, message, retryable)}


def cancelled_data(assignment: Assignment, reason: str) -> dict[str, Any]:
    """The data of `task_result` for an attempt that was cancelled before it started."""
    return _frame(assignment, "cancelled", 0.0) | {"error": _error("cancelled", reason or "cancelled", False)}


def _frame(assignment: Assignment, status: str, seconds: float) -> dict[str, Any]:
    return {
        "task_id": assignment.task_id,
        "epoch": assignment.epoch,
        "status": status,
        "execution_time": round(seconds, 6),
    }


def _error(kind: str, message: str, retryable: bool) -> dict[str, Any]:
    return {"kind": kind, "message": message, "retryable": retryable}


def _verdict(
    assignment: Assignment, report: Mapping[str, Any], cancel_reason: str
) -> tuple[str, dict[str, Any] | None]:
    """Status and error. A run that was cut off is never called completed, whatever it left as exit code."""
    if report.get("cancelled"):
        return "cancelled", _error("cancelled", cancel_reason or "cancelled", False)
    if report.get("timed_out"):
        return "failed", _error("timeout", f"it ran longer than its timeout of {assignment.timeout_s:g} s", True)
    if isinstance(said := report.get("error"), dict):
        return "failed", _error(
            str(said.get("kind") or "exception"), str(said.get("message") or ""), bool(said.get("retryable", True))
        )
    if (number := report.get("signal")) is not None:
        return "failed", _error("signal", f"its process was ended by {_signal_name(number)}", True)
    if code := report.get("code"):
        return "failed", _error("exit", _last_words(code, report.get("stderr", "")), True)
    return "completed", None


def _exit_code(report: Mapping[str, Any]) -> int | None:
    """The exit code; the negative number of the signal where one ended it."""
    number = report.get("signal")
    return report.get("code") if number is None else -number


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_words(code: int, stderr: str) -> str:
    lines = stderr.strip().splitlines()
    return f"exit code {code}" + (f": {lines[-1][-500:]}" if lines else "")


def _unsendable(value: object) -> str:
    """Why a value cannot go over the wire (numbers beyond 64 bits, nesting, broken text); empty if it can."""
    try:
        decode(encode_line({"value": value}))
    except ClusterError as error:
        return error.message
    return ""
