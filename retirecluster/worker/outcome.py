"""What the runner reports at a task's end, as the result that goes to the main. Pure."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import format_bytes
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
    if limit := report.get("limit"):
        return "failed", _limit_error(limit, report)
    if isinstance(said := report.get("error"), dict):
        return "failed", _error(
            str(said.get("kind") or "exception"), str(said.get("message") or ""), bool(said.get("retryable", True))
        )
    if (number := report.get("signal")) is not None:
        return "failed", _error("signal", f"its process was ended by {_signal_name(number)}", True)
    if code := report.get("code"):
        return "failed", _error("exit", _last_words(code, report.get("stderr", "")), True)
    return "completed", None


LIMIT_KINDS = {
    "memory_bytes": ("memory_limit", "memory limit", "bytes"),
    "cpu_time_s": ("cpu_limit", "processor time limit", "s"),
    "file_size_bytes": ("file_size_limit", "file size limit", "bytes"),
    "disk_bytes": ("disk_limit", "disk limit", "bytes"),
    "processes": ("processes_limit", "processes limit", ""),
    "open_files": ("open_files_limit", "open files limit", ""),
}
"""By the name of a limit: the kind of error, the words for it, and the unit of its value."""


def _limit_error(limit: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """As in `killed: memory limit 512 MiB`; what the task itself said of it follows."""
    kind, words, unit = LIMIT_KINDS[limit["name"]]
    allowed = format_bytes(limit["allowed"]) if unit == "bytes" else f"{limit['allowed']:g} {unit}".strip()
    message = f"{'killed' if limit['killed'] else 'failed'}: {words} {allowed}"
    said = report.get("error")
    last = said.get("message") if isinstance(said, dict) else _last_line(report.get("stderr", ""))
    more = f": {str(last).strip().splitlines()[-1][-500:]}" if not limit["killed"] and last else ""
    return _error(kind, message + more, True)


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
    last = _last_line(stderr)
    return f"exit code {code}" + (f": {last}" if last else "")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][-500:] if lines else ""


def _unsendable(value: object) -> str:
    """Why a value cannot go over the wire (numbers beyond 64 bits, nesting, broken text); empty if it can."""
    try:
        decode(encode_line({"value": value}))
    except ClusterError as error:
        return error.message
    return ""
