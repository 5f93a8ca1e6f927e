"""Handlers of the commands: one line run, one line completed, and the table of commands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from retirecluster.domain.commands.completion import complete as complete_line
from retirecluster.domain.commands.filter_table import FILTERS
from retirecluster.domain.commands.filters import bounded, filtered
from retirecluster.domain.commands.grammar import Parsed, parse, with_general
from retirecluster.domain.commands.model import HTTP, TERMINAL, Command
from retirecluster.domain.commands.selectors import DEVICES, TASKS, Listing
from retirecluster.domain.commands.table import COMMANDS, FORMATS, GROUPS
from retirecluster.domain.commands.words import MAX_LINE
from retirecluster.domain.fields import Boolean, Field, Integer, ListOf, Record, Text
from retirecluster.render.views import TABLE, Rows, Style, View, document_of, text_of
from retirecluster.store.reads import TaskFilter
from retirecluster.web import command_admission, command_cluster, command_devices, command_tasks
from retirecluster.web.answers import Answer, success
from retirecluster.web.calls import Call, Web
from retirecluster.web.command_run import Outcome, Run
from retirecluster.web.guard import check_role
from retirecluster.web.routing import Handler, Route

MAX_COMPLETED = 4096
"""The longest line that is completed: in an address, where a character may take three bytes, more has no room."""
QUICK_ROWS = 100
"""Rows that are made into text at once; more of them, and filters, are left to a thread."""
OFFERED = 50
"""The newest tasks, which completion offers."""
COMMAND_BODY = Record(
    (
        Field("line", Text(MAX_LINE, multiline=True), "the command, as it is typed", required=True),
        Field("width", Integer(20, 1000), "cells of the terminal: no table is wider; else as wide as it gets",
              nullable=True),
        Field("format", Text(choices=FORMATS), "unless the line says", nullable=True),
        Field("colour", Boolean(), "whether tables may be coloured, and colours of tasks' output kept", default=False),
        Field(
            "last",
            Record(
                (
                    Field("kind", Text(choices=(DEVICES, TASKS)), "what was listed", required=True),
                    Field("ids", ListOf(Text(128, 1), 1000), "row by row", required=True),
                ),
                closed=True,
            ),
            "`listed` of the last answer that had one: what 1-10 means",
            nullable=True,
        ),
    ),
    closed=True,
)  # fmt: skip
COMPLETE_QUERY = Record(
    (
        Field("line", Text(MAX_COMPLETED, multiline=True), "the line so far", default=""),
        Field("cursor", Integer(0, MAX_COMPLETED), "where the cursor stands in it; else at its end"),
    ),
    closed=True,
)
Action = Callable[[Run], Awaitable[Outcome]]
ACTIONS: dict[str, Action] = {
    **command_admission.ACTIONS,
    **command_cluster.ACTIONS,
    **command_devices.ACTIONS,
    **command_tasks.ACTIONS,
}
"""What is done for each command that HTTP has, by its name."""


def running(routes: Iterable[Route]) -> Handler:
    """The handler that runs a line; commands call the handlers of these routes."""
    index = {(route.method, route.path): route for route in routes}

    async def run_line(web: Web, call: Call) -> Answer:
        body = call.body
        parsed = parse(body["line"], HTTP)
        if parsed is None:
            return success({"output": "", "exit_code": 0, "format": TABLE, "command": None})
        command = parsed.filled.command
        check_role(call.request.caller, command.role, command.name)
        last = body.get("last")
        listing = None if last is None else Listing(last["kind"], tuple(last["ids"]))
        run = Run(web, call, parsed.filled, index, listing, body.get("width"))
        outcome = await ACTIONS[command.name](run)
        make = partial(_text, parsed, outcome.view, body)
        is_long = _is_long(parsed, outcome.view)
        text: Any = await web.rendering.run(web.files.store.in_thread, make) if is_long else make()
        return success(_document(parsed, outcome, body, text))

    return run_line


def _is_long(parsed: Parsed, view: View) -> bool:
    """Whether making the text might keep the main from its other work for more than a moment."""
    return bool(parsed.filters) or (isinstance(view, Rows) and len(view.documents) > QUICK_ROWS)


def _form(parsed: Parsed, body: Mapping[str, Any]) -> str:
    filled = parsed.filled
    form: str = filled.values.get("format") or TABLE
    return body.get("format") or form if filled.command.shows and "format" not in filled.given else form


def _text(parsed: Parsed, view: View, body: Mapping[str, Any]) -> str:
    """What is shown. Also called in a thread."""
    if view is command_cluster.NOTHING:
        return ""
    form = _form(parsed, body)
    plain = bool(parsed.filters) or form != TABLE
    style = Style(None if parsed.filters else body.get("width"), body["colour"] and not plain, rule=not plain)
    return _cut(text_of(view, form, style), parsed)


def _document(parsed: Parsed, outcome: Outcome, body: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The answer: the text, and what a terminal needs beside it."""
    filled, view, form = parsed.filled, outcome.view, _form(parsed, body)
    found = {"output": text, "exit_code": outcome.exit_code, "format": form, "command": filled.command.name}
    if outcome.data and not parsed.filters:
        found["data"] = document_of(view)
    if isinstance(view, Rows) and view.ids and not parsed.filters:
        kind = DEVICES if view.ids == "device_id" else TASKS
        found["listed"] = {"kind": kind, "ids": [each[view.ids] for each in view.documents[:1000]]}
    if outcome.stream is not None:
        found["stream"] = outcome.stream
    again_s = outcome.again_s or filled.values.get("watch")
    return found | ({"again_s": again_s} if again_s else {})


def _cut(text: str, parsed: Parsed) -> str:
    """The text after the filters, as far as it is shown."""
    lines = text.replace("\r\n", "\n").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    return "".join(line + "\n" for line in bounded(filtered(bounded(lines), parsed.filters)))


async def completed(web: Web, call: Call) -> Answer:
    """What may stand at the cursor, and what of the line it stands for."""
    line, cursor = call.query["line"], call.query.get("cursor")
    at = len(line) if cursor is None else cursor
    found = complete_line(line, at, {}, TERMINAL)
    if found.lookup:
        found = complete_line(line, at, {found.lookup: await _names(web, found.lookup)}, TERMINAL)
    candidates = [{"text": each.text, "doc": each.doc} for each in found.candidates]
    return success({"start": found.start, "end": found.end, "candidates": candidates})


async def _names(web: Web, lookup: str) -> list[str]:
    cluster = web.cluster
    if lookup == DEVICES:
        return sorted(cluster.scheduler.devices)
    if lookup == TASKS:
        return [each["task_id"] for each in (await cluster.tasks(TaskFilter(limit=OFFERED)))[0]]
    if lookup == "types":
        return [each["task_type"] for each in cluster.task_types()]
    return [each["name"] for each in cluster.household.signals()] if lookup == "signals" else []


async def table(web: Web, call: Call) -> Answer:
    """Every command with its arguments, options, role and doors; groups and filters, too."""
    groups = [
        {"name": each.name, "summary": each.summary, "default": each.default or None, "aliases": list(each.aliases)}
        for each in GROUPS
    ]
    commands = [_described(with_general(each, TERMINAL)) for each in COMMANDS]
    return success({"commands": commands, "groups": groups, "filters": [_described(each) for each in FILTERS]})


def _described(command: Command) -> dict[str, Any]:
    return {
        "name": command.name,
        "aliases": list(command.aliases),
        "summary": command.summary,
        "role": command.role,
        "doors": sorted(command.doors),
        "arguments": [
            {
                "name": each.name,
                "kind": each.kind.name,
                "count": each.count,
                "doc": each.doc,
                "choices": list(each.choices),
            }
            for each in command.arguments
        ],
        "options": [
            {
                "flags": list(each.flags),
                "value": each.kind.name if each.kind else None,
                "doc": each.doc,
                "choices": list(each.choices),
                "default": each.default,
                "repeated": each.repeated,
                "doors": sorted(each.doors),
            }
            for each in command.options
        ],
        "rest": command.rest or None,
        "examples": list(command.examples),
    }
