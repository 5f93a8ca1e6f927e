"""What a task says on its side channel: progress, and in its own name its value or its error. Pure.

A task may write anything there. What comes out of here is at most its own progress, value and error, each in
the form that the rest of the system expects.
"""

from __future__ import annotations

from retirecluster.worker.runner.limits import ERROR_CHARS, MESSAGE_CHARS, SIDE_LINE_BYTES
from retirecluster.worker.runner.lines import decode_line

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    Told = dict[str, Any]


MAX_DEPTH = 100
"""Nobody takes a value that is nested like this; deeper still, writing it down would fail."""


class SideChannel:
    """Bytes in, checked records out. A line that is too long closes it for good."""

    __slots__ = ("_open", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._open = True

    def feed(self, data: bytes) -> list[Told]:
        """The records of all lines that are complete now; lines that say nothing are left out."""
        if not self._open:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > SIDE_LINE_BYTES:
            self._open = False
            self._rest = b""
        return [told for line in lines if (told := read_line(line))]


def read_line(line: bytes) -> Told:
    """One line: `{"percent": 50, "message": ""}`, `{"value": ...}`, `{"error": {...}}`, or plain `50 message`.

    `limit` beside an error is the name of the limit that the task believes it has met.
    """
    if line[:1] != b"{":
        return read_plain(line)
    try:
        record = decode_line(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict):
        return {}
    told: Told = {}
    if "value" in record and line.count(b"[") + line.count(b"{") > MAX_DEPTH and _too_deep(record["value"]):
        told["error"] = {"kind": "result", "message": "the value is nested too deeply", "retryable": False}
    elif "value" in record:
        told["value"] = record["value"]
        if record.get("truncated") is True:
            told["truncated"] = True
    if isinstance(record.get("error"), dict) and "error" not in told:
        told["error"] = _checked_error(record["error"])
    if isinstance(record.get("limit"), str):
        told["limit"] = record["limit"][:64]
    if not told and ("percent" in record or "message" in record):
        told["progress"] = checked_progress(record.get("percent"), record.get("message"))
    return told


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return False
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def read_plain(line: bytes) -> Told:
    """`PERCENT [message]`, as a shell script writes it; a percent sign after the number does no harm."""
    words = line.decode("utf-8", "replace").strip().split(None, 1)
    if not words:
        return {}
    try:
        percent = float(words[0].removesuffix("%"))
    except ValueError:
        return {}
    progress = checked_progress(percent, words[1] if len(words) > 1 else "")
    return {} if progress["percent"] is None else {"progress": progress}


def checked_progress(percent: object, message: object) -> dict[str, Any]:
    """Only a percentage from 0 to 100 and a short text go on."""
    known = isinstance(percent, (int, float)) and not isinstance(percent, bool) and 0 <= percent <= 100
    return {"percent": percent if known else None, "message": _text(message, MESSAGE_CHARS)}


def _checked_error(error: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": _text(error.get("kind"), 64) or "exception",
        "message": _text(error.get("message"), ERROR_CHARS),
        "retryable": error.get("retryable") is not False,
    }


def _text(value: object, limit: int) -> str:
    text = value[:limit] if isinstance(value, str) else ""
    return text.encode("utf-8", "replace").decode()
