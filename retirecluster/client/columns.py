"""What stands in the tables: for each column the value that programs get and the text that people see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from attrs import frozen

from retirecluster.domain.units import format_bytes, format_duration

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


def time_taken_s(task: Document) -> float | None:
    """Seconds that a task ran, for one that has ended; for one that runs, until now."""
    started = task.get("started_at")
    if not started:
        return None
    ended = task.get("finished_at") or datetime.now(timezone.utc).isoformat()
    return seconds_between(started, ended)


def _load(device: Document) -> str | None:
    running, slots = device.get("running"), device.get("slots")
    return None if running is None else f"{running}/{slots}" if slots else str(running)


def _battery(device: Document) -> Any:
    battery = device.get("battery")
    return battery.get("level") if isinstance(battery, Mapping) else battery


TASK_COLUMNS = (
    Column("ID", field("task_id")),
    Column("NAME", field("name"), flexible=True),
    Column("TYPE", field("task_type"), flexible=True),
    Column("PRI", field("priority")),
    Column("STATUS", field("status"), is_status=True),
    Column("DEVICE", field("device_id")),
    Column("TIME", time_taken_s, duration, right=True),
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
)
DEVICE_COLUMNS_WIDE = (
    *DEVICE_COLUMNS,
    Column("PLATFORM", field("platform")),
    Column("ARCH", field("architecture")),
    Column("TEMP", field("temperature"), lambda value: f"{value:.0f}°C", right=True),
    Column("BATT", _battery, percent, right=True),
    Column("SLOTS", field("slots"), right=True),
    Column("TRUST", field("trust"), lambda value: f"{value:.2f}", right=True),
    Column("TAGS", field("tags"), words, flexible=True),
    Column("REASON", field("reason"), flexible=True),
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
