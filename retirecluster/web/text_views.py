"""Handlers of /text: for people, scripts and language models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retirecluster.domain.fields import Boolean, Field, Record, Text
from retirecluster.domain.history import COLUMNS
from retirecluster.domain.units import format_duration, format_instant
from retirecluster.store.reads import TaskFilter
from retirecluster.web import exposition, tabular
from retirecluster.web.answers import Answer
from retirecluster.web.api_cluster import AUDIT_QUERY, EVENTS_QUERY
from retirecluster.web.api_devices import METRICS_FIELDS, window_s
from retirecluster.web.api_tasks import LIST_FIELDS, filter_of, task_id_of
from retirecluster.web.calls import Call, Web
from retirecluster.web.tabular import Table

MEDIA_TYPES = tuple(tabular.MEDIA_TYPES.values())
_VIEW_FIELDS = (
    Field("format", Text(20, 1), "text, csv, tsv or json; else the Accept header decides"),
    Field("header", Boolean(), "whether the first line names the columns; csv and tsv have one, text has none"),
)
VIEW = Record(_VIEW_FIELDS, closed=True)
TASKS_VIEW = Record((*LIST_FIELDS, *_VIEW_FIELDS), closed=True)
EVENTS_VIEW = Record((*EVENTS_QUERY.fields, *_VIEW_FIELDS), closed=True)
METRICS_WINDOW = Record((*METRICS_FIELDS, *_VIEW_FIELDS), closed=True)
AUDIT_VIEW = Record((*AUDIT_QUERY.fields, *_VIEW_FIELDS), closed=True)
METRICS_VIEW = Record((Field("format", Text(20, 1), "text alone"),), closed=True)

DEVICE_COLUMNS = ("id", "status", "cpu", "memory", "tasks", "reason", "trust")
"""The contract: new columns come at the end."""
TASK_COLUMNS = ("id", "name", "type", "priority", "status", "device", "created_at", "reason")
POINT_COLUMNS = ("at", *COLUMNS)
AUDIT_COLUMNS = ("audit_no", "at", "actor", "action", "subject", "detail")
EVENT_COLUMNS = ("event_no", "at", "subject", "event", "task_id", "device_id", "data")

WAITING = ("blocked", "queued", "retrying", "held", "assigned")
"""States in which nothing of a task runs yet."""


def answer(call: Call, table: Table) -> Answer:
    """A table in the format that the caller wants."""
    wanted = tabular.wanted_format(call.query.get("format"), call.header(b"Accept"))
    text = tabular.rendered(table, wanted, call.query.get("header"))
    headers = ((b"Cache-Control", b"no-store"), (b"Vary", b"Accept"))
    return Answer(200, text.encode("utf-8", "backslashreplace"), tabular.MEDIA_TYPES[wanted], headers)


def _record(pairs: dict[str, Any]) -> Table:
    return Table(("key", "value"), list(pairs.items()), record=True)


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}%"


def in_words(tasks: Mapping[str, int]) -> str:
    """Counts of tasks by state as people want them."""
    running, waiting = tasks["running"] + tasks["cancelling"], sum(tasks[name] for name in WAITING)
    return f"{running} running, {waiting} waiting, {tasks['completed']} completed, {tasks['failed']} failed"


async def status(web: Web, call: Call) -> Answer:
    """The cluster in lines: STATUS, NODES, CPU, MEMORY, TASKS, UPTIME first."""
    found = web.cluster.status()
    devices, slots = found["devices"], found["slots"]
    pairs = {
        "status": found["state"],
        "nodes": f"{devices.get('online', 0)}/{devices['total']} online",
        "cpu": _percent(found["cpu_usage"]),
        "memory": _percent(found["memory_usage"]),
        "tasks": in_words(found["tasks"]),
        "uptime": format_duration(found["uptime_s"]),
        "slots": f"{slots['busy']}/{slots['total']} busy",
        "throughput": f"{found['throughput_per_s']:g} tasks/s",
        "placement": found["placement"],
        "version": found["version"],
        "cluster_id": found["cluster_id"],
        "quiet": found["quiet"] and found["quiet"]["reason"],
    }
    return answer(call, _record(pairs))


async def health(web: Web, call: Call) -> Answer:
    """Whether the main works."""
    found = web.cluster.health()
    pairs = {"health": found["status"], "problems": "; ".join(found["problems"]), "version": found["version"]}
    pairs |= {name: _check(each) for name, each in found["checks"].items()}
    return answer(call, _record(pairs))


def _check(check: Mapping[str, Any]) -> str:
    """A check of the main's health in a few words."""
    figure, limit = check["figure"], check["limit"]
    limits = "" if limit is None else f", limit {limit:g}"
    return check["state"] + ("" if figure is None else f" ({figure:g} {check['unit']}{limits})")


async def devices(web: Web, call: Call) -> Answer:
    """Devices by id: percentages of processor and memory, tasks that they hold."""
    names = ("device_id", "status", "cpu_usage", "memory_usage", "assigned", "reason", "trust")
    return answer(call, Table(DEVICE_COLUMNS, [[each[name] for name in names] for each in web.cluster.devices()]))


async def device(web: Web, call: Call) -> Answer:
    """One device."""
    found = web.cluster.device(call.path["device_id"])
    return answer(call, _record({name: value for name, value in found.items() if name != "register"}))


async def device_metrics(web: Web, call: Call) -> Answer:
    """What a device reported lately, the oldest first."""
    found = web.cluster.device_history(call.path["device_id"], window_s(call))
    return answer(call, Table(POINT_COLUMNS, [[point[name] for name in POINT_COLUMNS] for point in found["points"]]))


async def tasks(web: Web, call: Call) -> Answer:
    """Tasks, newest first."""
    wanted: TaskFilter = filter_of(call.query)
    found, _ = await web.cluster.tasks(wanted)
    names = ("task_id", "name", "task_type", "priority", "status", "device_id", "created_at", "reason")
    return answer(call, Table(TASK_COLUMNS, [[each[name] for name in names] for each in found]))


async def task(web: Web, call: Call) -> Answer:
    """One task."""
    return answer(call, _record(await web.cluster.task(await task_id_of(web.cluster, call.path["task_id"]))))


async def why(web: Web, call: Call) -> Answer:
    """Why a task waits, each device's reasons, and the nearest changes that would let it run."""
    found = await web.cluster.explain(await task_id_of(web.cluster, call.path["task_id"]))
    pairs = {name: found[name] for name in ("task_id", "status", "reason")}
    pairs |= {f"nearest {number}": each["text"] for number, each in enumerate(found["nearest"], 1)}
    pairs |= {f"device {each['device_id']}": "; ".join(each["reasons"]) for each in found["devices"]}
    return answer(call, _record(pairs))


async def events(web: Web, call: Call) -> Answer:
    """A page of the event log, oldest first."""
    query = call.query
    rows = await web.cluster.events_after(query["after"], query["subject"], query["limit"])
    return answer(call, Table(EVENT_COLUMNS, [(row[0], format_instant(row[1]), *row[2:]) for row in rows]))


async def audit(web: Web, call: Call) -> Answer:
    """A page of the audit trail, newest first."""
    query = call.query
    found, _ = await web.cluster.audit_trail(
        query.get("before"), query.get("actor") or "", query.get("action") or "", query["limit"]
    )
    return answer(call, Table(AUDIT_COLUMNS, [[each[name] for name in AUDIT_COLUMNS] for each in found]))


async def metrics(web: Web, call: Call) -> Answer:
    """Metrics in the text format of Prometheus, or as OpenMetrics by Accept."""
    if call.query.get("format"):
        tabular.wanted_format(call.query["format"], None, (tabular.TEXT,))
    body, media_type = exposition.exposed(web, call.header(b"Accept"))
    return Answer(200, body, media_type, ((b"Cache-Control", b"no-store"), (b"Vary", b"Accept")))
