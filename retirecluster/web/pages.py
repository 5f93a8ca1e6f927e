"""The dashboard, the page for browsers without script, and the files of the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import format_duration
from retirecluster.store.reads import TaskFilter
from retirecluster.web.answers import Answer
from retirecluster.web.calls import Asset, Call, Web
from retirecluster.web.text_views import in_words
from retirecluster.web.validators import matches

HTML = "text/html; charset=utf-8"
MEDIA_TYPES = {
    "html": HTML,
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
    "map": "application/json",
    "txt": "text/plain; charset=utf-8",
}
RECENT = 30
REFRESH_S = 10


def load_assets() -> dict[str, Asset]:
    """Every file of the dashboard by its name. Read once, when the site is made."""
    found: dict[str, Asset] = {}
    for each in files("retirecluster.web.static").iterdir():
        media_type = MEDIA_TYPES.get(each.name.rpartition(".")[2])
        if media_type is not None and each.is_file():
            body = each.read_bytes()
            etag = b'"' + sha256(body).hexdigest()[:24].encode("ascii") + b'"'
            found[each.name] = Asset(body, media_type, etag)
    return found


async def dashboard(web: Web, call: Call) -> Answer:
    """The page for looking."""
    return _served(web, call, "index.html")


async def asset(web: Web, call: Call) -> Answer:
    """A file that the dashboard loads."""
    return _served(web, call, call.path["name"])


def _served(web: Web, call: Call, name: str) -> Answer:
    found = web.assets.get(name)
    if found is None:
        raise ClusterError("not_found", "there is no such file")
    headers = ((b"ETag", found.etag), (b"Cache-Control", b"no-cache"))
    if matches(call.request.requestHeaders, found.etag):
        return Answer(304, b"", found.media_type, headers)
    return Answer(200, found.body, found.media_type, headers)


async def plain(web: Web, call: Call) -> Answer:
    """The state of the cluster as a page that loads itself again."""
    found, _ = await web.cluster.tasks(TaskFilter(limit=RECENT))
    body = "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="refresh" content="{REFRESH_S}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<title>retire-cluster</title><link rel="icon" href="/static/icon.svg" type="image/svg+xml">',
            '<link rel="stylesheet" href="/static/plain.css"></head><body>',
            *_summary(web.cluster.status()),
            "<h2>Devices</h2>",
            *_table(DEVICE_COLUMNS, web.cluster.devices(), "No device has registered yet."),
            "<h2>Newest tasks</h2>",
            *_table(TASK_COLUMNS, found, "No task was submitted yet."),
            "</body></html>\n",
        )
    )
    return Answer(200, body.encode("utf-8", "replace"), HTML, ((b"Cache-Control", b"no-store"),))


DEVICE_COLUMNS = {
    "Device": "device_id",
    "Status": "status",
    "Role": "role",
    "Platform": "platform",
    "Running": "running",
    "Slots": "slots",
    "CPU %": "cpu_usage",
    "Memory %": "memory_usage",
    "Reason": "reason",
}
TASK_COLUMNS = {
    "Task": "task_id",
    "Name": "name",
    "Type": "task_type",
    "Status": "status",
    "Device": "device_id",
    "Submitted": "created_at",
    "Reason": "reason",
}


def _summary(status: Mapping[str, Any]) -> list[str]:
    devices, slots = status["devices"], status["slots"]
    lines = {
        "State": status["state"],
        "Devices": f"{devices.get('online', 0)} of {devices['total']} online",
        "Slots": f"{slots['busy']} of {slots['total']} busy",
        "Tasks": in_words(status["tasks"]),
        "Up": format_duration(status["uptime_s"]),
    }
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in lines.items())
    return [
        "<h1>retire-cluster</h1>",
        '<p><a href="/">Dashboard</a> (with script)</p>',
        "<dl>",
        *rows,
        "</dl>",
    ]


def _table(columns: Mapping[str, str], documents: Iterable[Mapping[str, Any]], empty: str) -> list[str]:
    rows = [
        "<tr>" + "".join(f"<td>{_cell(name, each.get(name))}</td>" for name in columns.values()) + "</tr>"
        for each in documents
    ]
    if not rows:
        return [f"<p>{escape(empty)}</p>"]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in columns)
    return [f"<table><thead><tr>{head}</tr></thead><tbody>", *rows, "</tbody></table>"]


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    return escape(f"{text[:10]} {text[11:19]} UTC" if name.endswith("_at") else text)
