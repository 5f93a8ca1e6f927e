"""What stands in the tables: for each column the value that programs get and the text that people see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from attrs import frozen

from retirecluster.domain.units import format_bytes, format_duration, format_instant
from retirecluster.render.figures import bar

Document = Mapping[str, Any]


@frozen
class Column:
    """One column. `value` is for CSV, TSV and programs; `shown` makes the text of the table out of that value.

    `flexible` columns are cut before others where the terminal is narrow.
    """

    title: str
    value: Callable[[Document], Any]
    shown: Callable[[Any], str] = str
    right: bool = False
    is_status: bool = False
    flexible: bool = False

    def text(self, document: Document) -> str:
        """The cell; `-` for what is not known."""
        value = self.value(document)
        return "-" if value is None or value == "" else self.shown(value)


def field(name: str, *more: str) -> Callable[[Document], Any]:
    """The value at a path of names in a document; None where one is missing."""
    path = (name, *more)

    def value(document: Document) -> Any:
        found: Any = document
        for each in path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(each)
        return found

    return value


def percent(value: Any) -> str:
    return f"{value:.0f}%" if isinstance(value, int | float) else str(value)


def duration(value: Any) -> str:
    return format_duration(value) if isinstance(value, int | float) else str(value)


def size(value: Any) -> str:
    return format_bytes(value) if isinstance(value, int | float) else str(value)


def words(value: Any) -> str:
    return ", ".join(str(each) for each in value) or "-" if isinstance(value, list | tuple) else str(value)


def in_short(value: Any) -> str:
    """A document in words, as `status failed, reason timeout`; what is nested or empty is left out."""
    if not isinstance(value, Mapping):
        return str(value)
    some = [f"{name} {each}" for name, each in value.items() if not isinstance(each, Mapping | list) and each != ""]
    return ", ".join(some) or "-"


def instant(text: str) -> datetime | None:
    """The instant in an ISO 8601 text of the API; None if it is none."""
    try:
        parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def seconds_between(start: str | None, end: str | None) -> float | None:
    """Seconds from one instant of the API to another; None if one is missing."""
    first, last = instant(start or ""), instant(end or "")
    return None if first is None or last is None else max(0.0, (last - first).total_seconds())


def time_taken_s(task: Document, now: datetime) -> float | None:
    """Seconds that a task ran, for one that has ended; for one that runs, until now."""
    started = task.get("started_at")
    return seconds_between(started, task.get("finished_at") or now.isoformat()) if started else None


def _load(device: Document) -> str | None:
    running, slots = device.get("running"), device.get("slots")
    return None if running is None else f"{running}/{slots}" if slots else str(running)


def _battery(device: Document) -> Any:
    battery = device.get("battery")
    return battery.get("level") if isinstance(battery, Mapping) else battery


def _progress(task: Document) -> float | None:
    progress = task.get("progress")
    return progress.get("percent") if isinstance(progress, Mapping) else None


def progress_columns(now: datetime) -> tuple[Column, ...]:
    """The columns of tasks that are watched: how far they are, instead of all that is known."""
    return (
        Column("ID", field("task_id")),
        Column("NAME", lambda task: task.get("name") or task.get("task_type"), flexible=True),
        Column("STATUS", field("status"), is_status=True),
        Column("DEVICE", field("device_id")),
        Column("TIME", lambda task: time_taken_s(task, now), duration, right=True),
        Column("PROGRESS", _progress, lambda done: f"{bar(done, 100, 12)} {percent(done)}"),
        Column("SAYS", field("progress", "message"), flexible=True),
    )


def task_columns(now: datetime) -> tuple[Column, ...]:
    """The columns of tasks; those that run have run until `now`."""
    return (
        Column("ID", field("task_id")),
        Column("NAME", field("name"), flexible=True),
        Column("TYPE", field("task_type"), flexible=True),
        Column("PRI", field("priority")),
        Column("STATUS", field("status"), is_status=True),
        Column("DEVICE", field("device_id")),
        Column("TIME", lambda task: time_taken_s(task, now), duration, right=True),
        Column("REASON", field("reason"), flexible=True),
    )


DEVICE_COLUMNS = (
    Column("ID", field("device_id")),
    Column("STATUS", field("status"), is_status=True),
    Column("ROLE", field("role")),
    Column("CPU", field("cpu_usage"), percent, right=True),
    Column("MEM", field("memory_usage"), percent, right=True),
    Column("TASKS", _load, right=True),
    Column("UPTIME", field("uptime_s"), duration, right=True),
    Column("REASON", field("reason"), flexible=True),
)
DEVICE_COLUMNS_WIDE = (
    *DEVICE_COLUMNS[:-1],
    Column("PLATFORM", field("platform")),
    Column("ARCH", field("architecture")),
    Column("TEMP", field("temperature"), lambda value: f"{value:.0f}°C", right=True),
    Column("BATT", _battery, percent, right=True),
    Column("SLOTS", field("slots"), right=True),
    Column("TRUST", field("trust"), lambda value: f"{value:.2f}", right=True),
    Column("TAGS", field("tags"), words, flexible=True),
    DEVICE_COLUMNS[-1],
)
STATS_COLUMNS = (
    Column("AT", field("at")),
    Column("CPU", field("cpu_usage"), percent, right=True),
    Column("MEM", field("memory_usage"), percent, right=True),
    Column("DISK", field("disk_usage"), percent, right=True),
    Column("TEMP", field("temperature"), lambda value: f"{value:.0f}°C", right=True),
    Column("BATT", field("battery_level"), percent, right=True),
    Column("LOAD", field("load"), lambda value: f"{value:.2f}", right=True),
    Column("READ/S", field("disk_read_bytes_per_s"), size, right=True),
    Column("WRITE/S", field("disk_write_bytes_per_s"), size, right=True),
    Column("IN/S", field("network_received_bytes_per_s"), size, right=True),
    Column("OUT/S", field("network_sent_bytes_per_s"), size, right=True),
    Column("TASKS", field("active_tasks"), lambda value: f"{value:.3g}", right=True),
)
_EVENT_HEAD = ("event_no", "at", "event", "device_id", "task_id")


def _beside(event: Document) -> Document:
    """What an event says beside what all events say."""
    return {name: value for name, value in event.items() if name not in _EVENT_HEAD}


def _instant_of(at: Any) -> Any:
    return format_instant(at) if isinstance(at, int | float) else at


FILE_COLUMNS = (
    Column("SHA256", field("sha256")),
    Column("SIZE", field("size_bytes"), size, right=True),
    Column("USED", field("used_at")),
    Column("NAMED", field("named"), lambda named: "yes" if named else "no"),
)
TASK_FILE_COLUMNS = (
    Column("DIRECTION", field("direction")),
    Column("NAME", field("name"), flexible=True),
    Column("SIZE", field("size_bytes"), size, right=True),
    Column("SHA256", field("sha256"), flexible=True),
)
EVENT_COLUMNS = (
    Column("NO", field("event_no"), right=True),
    Column("AT", lambda event: _instant_of(event.get("at"))),
    Column("EVENT", field("event")),
    Column("DEVICE", field("device_id")),
    Column("TASK", field("task_id")),
    Column("DETAIL", lambda event: in_short(_beside(event)), flexible=True),
)
AUDIT_COLUMNS = (
    Column("NO", field("audit_no"), right=True),
    Column("AT", field("at")),
    Column("ACTOR", field("actor")),
    Column("ACTION", field("action")),
    Column("SUBJECT", field("subject")),
    Column("DETAIL", field("detail"), lambda detail: in_short(detail), flexible=True),
)
TYPE_STATISTICS_COLUMNS = (
    Column("TYPE", field("task_type"), flexible=True),
    Column("TASKS", field("total"), right=True),
    Column("COMPLETED", field("completed"), right=True),
    Column("FAILED", field("failed"), right=True),
    Column("MEAN TIME", field("mean_run_s"), duration, right=True),
)
SIGNAL_COLUMNS = (
    Column("NAME", field("name")),
    Column("VALUE", field("value"), lambda value: f"{value:g}", right=True),
    Column("FOR", field("ttl_s"), duration, right=True),
    Column("UNTIL", field("until")),
)


def _factors(factors: Any) -> str:
    """Factors as `speed 2.2, load 0.5`; those that change nothing are left out."""
    return ", ".join(f"{name} {value:g}" for name, value in factors.items() if value != 1) or "-"


CANDIDATE_COLUMNS = (
    Column("DEVICE", field("device_id")),
    Column("SCORE", field("score"), lambda score: f"{score:g}", right=True),
    Column("FACTORS", field("factors"), _factors, flexible=True),
)
WHY_COLUMNS = (
    Column("DEVICE", field("device_id")),
    Column("FITS", field("fits"), lambda fits: "yes" if fits else "no"),
    Column("REASONS", field("reasons"), lambda reasons: "; ".join(map(str, reasons)) or "-", flexible=True),
)


def _takes(task_type: Document) -> str:
    """The names of a payload's fields; those that need not be there in brackets."""
    schema = task_type.get("payload") or {}
    required = schema.get("required") or ()
    return " ".join(name if name in required else f"[{name}]" for name in schema.get("properties") or {})


TYPE_COLUMNS = (
    Column("TYPE", field("task_type"), flexible=True),
    Column("WHAT IT DOES", field("doc"), flexible=True),
    Column("TAKES", _takes, flexible=True),
    Column("DEVICES", field("devices"), words, flexible=True),
)


def plain(value: Any) -> Any:
    """A value as it stands in a CSV or TSV cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return " ".join(str(each) for each in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def plain_rows(columns: Sequence[Column], documents: Sequence[Document]) -> list[list[str]]:
    """The documents as rows of text for programs."""
    return [[plain(column.value(document)) for column in columns] for document in documents]
