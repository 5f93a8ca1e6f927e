"""The dashboard, the page for browsers without script, and the files of the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from retirecluster.domain.devices import DEVICE_ID
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Record, Text
from retirecluster.domain.units import format_duration
from retirecluster.web.answers import Answer
from retirecluster.web.api_tasks import filter_of
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
    """Every file of the dashboard by its name, what is built of `web/` too. Read once, when the site is made."""
    found: dict[str, Asset] = {}
    static = files("retirecluster.web.static")
    built = static / "built"
    for each in [*static.iterdir(), *(built.iterdir() if built.is_dir() else ())]:
        media_type = MEDIA_TYPES.get(each.name.rpartition(".")[2])
        if media_type is not None and each.is_file():
            body = each.read_bytes()
            etag = b'"' + sha256(body).hexdigest()[:24].encode("ascii") + b'"'
            found[each.name] = Asset(body, media_type, etag)
    return found


async def dashboard(web: Web, call: Call) -> Answer:
    """The page for looking."""
    return _served(web, call, "index.html")


async def terminal(web: Web, call: Call) -> Answer:
    """The page for typing; where its script was not built, what to do about that."""
    return _served(web, call, "terminal.html" if "terminal.js" in web.assets else "terminal-missing.html")


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


PLAIN_QUERY = Record(
    (
        Field("status", Text(200), "only tasks of these states, with commas", default=""),
        Field("device", DEVICE_ID, "only tasks with an attempt on this device"),
    ),
    closed=True,
)
STATES = {
    "all": "",
    "waiting": "blocked,queued,retrying,held",
    "running": "assigned,running,cancelling",
    "completed": "completed",
    "failed": "failed,expired,lost",
    "cancelled": "cancelled",
}


async def plain(web: Web, call: Call) -> Answer:
    """The state of the cluster as a page that loads itself again. It has links and no forms: it changes nothing.

    A form could not send what changes something: bodies have to say that they are JSON, so that no other page can have
    a browser send one.
    """
    status, device_id = call.query["status"], call.query.get("device") or ""
    asked = filter_of({"status": status, "device": device_id, "limit": RECENT})
    found, _ = await web.cluster.tasks(asked)
    chosen = f"Newest tasks on {device_id}" if device_id else "Newest tasks"
    body = "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="refresh" content="{REFRESH_S}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<title>retire-cluster</title><link rel="icon" href="/static/icon.svg" type="image/svg+xml">',
            '<link rel="stylesheet" href="/static/plain.css"></head><body>',
            *_summary(web.cluster.status(), web.cluster.health()["problems"]),
            "<h2>Devices</h2>",
            *_table(DEVICE_COLUMNS, web.cluster.devices(), "No device has registered yet."),
            f"<h2>{escape(chosen)}</h2>",
            _states(status, device_id),
            *_table(
                TASK_COLUMNS, found, "No task is like that." if status or device_id else "No task was submitted yet."
            ),
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
    "Done": "completed",
    "Failed": "failed",
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
_ADDRESSES = {"task_id": "/text/tasks/{}", "device_id": "/cli?device={}"}
"""Where a cell leads, by its column."""


def _states(chosen: str, device_id: str) -> str:
    """Links that list the tasks of some states; the chosen one is no link."""
    parts = []
    for name, states in STATES.items():
        query = urlencode({key: value for key, value in (("status", states), ("device", device_id)) if value})
        link = f'<a href="/cli{escape("?" + query) if query else ""}">{name}</a>'
        parts.append(f"<strong>{name}</strong>" if states == chosen else link)
    everything = ' · <a href="/cli">every device</a>' if device_id else ""
    return f"<p>{' · '.join(parts)}{everything}</p>"


def _summary(status: Mapping[str, Any], problems: Iterable[str]) -> list[str]:
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
        f'<p><a href="/">Dashboard</a> (with script) · loads itself again every {REFRESH_S} seconds · more as text: '
        '<a href="/text/status">status</a> · <a href="/text/health">health</a> · <a href="/text/events">events</a> · '
        '<a href="/text/tasks?format=csv">tasks as CSV</a></p>',
        *(f'<p class="problem">{escape(each)}</p>' for each in problems),
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
    if name in _ADDRESSES:
        address = _ADDRESSES[name].format(quote(text, safe=""))
        return f'<a href="{escape(address)}">{escape(text)}</a>'
    return escape(f"{text[:10]} {text[11:19]} UTC" if name.endswith("_at") else text)
