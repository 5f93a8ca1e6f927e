"""What happens and what has happened: `events`, `audit`, `monitor`, `export`, `tasks query`, `tasks metrics`."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from retirecluster.client.console import Console
from retirecluster.client.context import ApiCommand, Context, Handlers, with_api
from retirecluster.client.formats import show
from retirecluster.client.selection import SEARCHED, one_task
from retirecluster.client.watching import show_or_watch
from retirecluster.domain.commands.table import DEFAULT_WATCH_S
from retirecluster.domain.units import format_instant
from retirecluster.render import answers
from retirecluster.render.cells import visible
from retirecluster.render.columns import in_short
from retirecluster.render.styles import event_style

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

WATCHED = 100
"""Tasks that are watched at the same time; a screen shows fewer."""
_HEAD = ("event_no", "at", "event")


Painter = Callable[[str, str], str]
"""A text in a style."""


def _unpainted(text: str, _style: str) -> str:
    return text


def _now() -> datetime:
    return datetime.now(timezone.utc)


async def show_events(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        newest = (await api.cluster_status())["event_no"]
        params = {"after": str(max(0, newest - args.limit)), "limit": str(args.limit)}
        if args.subject:
            params |= {"subject": args.subject, "after": "0" if newest < 1000 else str(newest - 1000), "limit": "1000"}
        found = await api.request("GET", "events", params=params)
        show(console, args.format, answers.events(found["events"][-args.limit :]))

    return await show_or_watch(context, args, view)


async def show_audit(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        given = {"actor": args.actor, "action": args.action, "limit": str(args.limit)}
        params = {name: value for name, value in given.items() if value}
        show(console, args.format, answers.audit((await api.request("GET", "audit", params=params))["audit"]))

    return await show_or_watch(context, args, view)


async def query_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        searched = api.tasks(limit=SEARCHED, status=args.status, type=args.type, device=args.device, label=args.label)
        found = answers.matching([document async for document in searched], args.text or "")
        show(console, args.format, answers.tasks(found[: args.limit or None], _now()))

    return await show_or_watch(context, args, view)


async def show_task_metrics(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        show(console, args.format, answers.task_metrics(await api.task_statistics()))

    return await show_or_watch(context, args, view)


async def export_devices(context: Context, args: Namespace, api: ClusterApi) -> int:
    show(context.console, _export_format(args), answers.devices(await api.devices()))
    return 0


async def export_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    documents = [document async for document in api.tasks()]
    show(context.console, _export_format(args), answers.tasks(documents, _now()))
    return 0


def _export_format(args: Namespace) -> str:
    return "csv" if args.format == "table" else str(args.format)


def following(topic: str) -> ApiCommand:
    """The command that shows events of a stream, a line each, until Ctrl+C."""

    async def follow(context: Context, args: Namespace, api: ClusterApi) -> int:
        console = context.console
        if topic in _PICTURES and console.live and args.format == "table" and not getattr(args, "task", None):
            args.watch = args.watch or DEFAULT_WATCH_S
            return await _PICTURES[topic](context, args, api)
        path = f"stream/{topic}"
        if getattr(args, "task", None):
            path = f"stream/tasks/{(await one_task(api, args.task))['task_id']}"
        stream = api.stream(path)
        try:
            async for name, document in _documents(stream):
                context.console.line(
                    context.console.drawn(event_line(name, document, args.format, context.console.style))
                )
                context.console.out.flush()
        finally:
            await stream.close()
        return 0

    return follow


async def _documents(stream: Any) -> AsyncIterator[tuple[str, Document]]:
    async for event in stream:
        try:
            document = json.loads(event.data)
        except ValueError:
            continue
        if isinstance(document, dict):
            yield event.event, document


def event_line(name: str, document: Document, form: str, style: Painter = _unpainted) -> str:
    """One event: as a line of JSON, or in words, coloured by what it led to."""
    if form == "json":
        return json.dumps({"event": name, "data": document})
    at = document.get("at")
    when = format_instant(at) if isinstance(at, int | float) else at
    rest = {key: value for key, value in document.items() if key not in _HEAD}
    event = str(document.get("event") or name)
    told = style(visible(event), event_style(event, document))
    shown = [style(visible(str(when)), "dim") if when else "", told, visible(in_short(rest))]
    return "  ".join(each for each in shown if each)


async def draw_devices(context: Context, args: Namespace, api: ClusterApi) -> int:
    """The devices as a grid, again and again."""

    async def view(console: Console) -> None:
        show(console, args.format, answers.device_grid(await api.cluster_status(), await api.devices()))

    return await show_or_watch(context, args, view)


async def draw_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    """The tasks that run, with how far they are, again and again."""

    async def view(console: Console) -> None:
        running = [document async for document in api.tasks(status="running", limit=WATCHED)]
        show(console, args.format, answers.task_progress(await api.cluster_status(), running, _now()))

    return await show_or_watch(context, args, view)


_PICTURES: dict[str, ApiCommand] = {"devices": draw_devices, "tasks": draw_tasks}
"""What a terminal that can redraw shows instead of a line for each event."""


async def monitor_metrics(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        metrics = await api.request("GET", "cluster/metrics")
        if not console.live or args.format != "table":
            show(console, args.format, answers.flat(metrics))
            return
        show(console, args.format, answers.metrics_course(metrics, await api.request("GET", "cluster/history")))

    args.watch = args.watch or DEFAULT_WATCH_S
    return await show_or_watch(context, args, view)


HANDLERS: Handlers = {
    "events": with_api(show_events),
    "audit list": with_api(show_audit),
    "tasks query": with_api(query_tasks),
    "tasks metrics": with_api(show_task_metrics),
    "export devices": with_api(export_devices),
    "export tasks": with_api(export_tasks),
    "monitor devices": with_api(following("devices")),
    "monitor tasks": with_api(following("tasks")),
    "monitor events": with_api(following("events")),
    "devices monitor": with_api(following("devices")),
    "tasks monitor": with_api(following("tasks")),
    "monitor metrics": with_api(monitor_metrics),
}
