"""`retire-cluster submit`: one command, one task by type, a file of tasks, or one JSON task a line."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show_json
from retirecluster.client.live import LiveLines, bar
from retirecluster.client.task_options import fields_from_options, merged
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.tasks import spec_from_document
from retirecluster.domain.units import format_bytes
from retirecluster.render.cells import visible

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

Tasks = list[dict[str, Any]]


async def submit(context: Context, args: Namespace, api: ClusterApi) -> int:
    """Submit, print the ids, and with --wait stay until the end."""
    tasks = await _with_uploads(context, api, tasks_from(args, sys.stdin.read))
    if len(tasks) == 1:
        submitted = await api.submit(tasks[0])
        submitted = submitted[:1]
    else:
        submitted = await _submit_many(context, api, tasks)
    if args.wait or args.wait_timeout is not None:
        return await _wait(context, args, api, [each["task_id"] for each in submitted])
    if args.format == "json":
        show_json(context.console, submitted if len(tasks) != 1 else submitted[0])
    else:
        context.console.lines([each["task_id"] for each in submitted])
    return 0


async def _with_uploads(context: Context, api: ClusterApi, tasks: Tasks) -> Tasks:
    """The tasks, with the files that they bring on the main."""
    live = LiveLines(context.console)

    def progress(name: str, done: int, whole: int) -> None:
        amounts = f"{format_bytes(done)} of {format_bytes(whole)}"
        live.draw([f"  uploading  {bar(done, whole, 30)}  {amounts}  {visible(name)}"])

    try:
        return [await api.with_uploads(task, progress) for task in tasks]
    finally:
        live.erase()


async def _submit_many(context: Context, api: ClusterApi, tasks: Tasks) -> list[Document]:
    for index, task in enumerate(tasks):
        # The main checks them too, but batch by batch: a mistake in a late one would come after much was submitted.
        spec_from_document(task, f"[{index}]")
    live = LiveLines(context.console)

    def progress(sent: int, total: int) -> None:
        live.draw([f"  submitted  {bar(sent, total, 40)}  {sent}/{total}"])

    try:
        return await api.submit(tasks, progress=progress)
    finally:
        live.erase()


async def _wait(context: Context, args: Namespace, api: ClusterApi, task_ids: list[str]) -> int:
    from twisted.internet.defer import CancelledError

    try:
        if len(task_ids) != 1:
            return await wait_for_many(context, api, task_ids, args.wait_timeout)
        return await _wait_for_one(context, args, api, task_ids[0])
    except CancelledError:
        goes_on = f"{task_ids[0]} goes on" if len(task_ids) == 1 else f"{len(task_ids)} tasks go on"
        context.console.note(f"\nretire-cluster: {goes_on}; `retire-cluster tasks cancel` stops what is not wanted")
        raise


async def _wait_for_one(context: Context, args: Namespace, api: ClusterApi, task_id: str) -> int:
    from retirecluster.client.following import exit_code_of, wait_with_output

    if args.format == "json":
        # A program reads this: the result with the output in it, and nothing else.
        task = await api.wait(task_id, args.wait_timeout)
        show_json(context.console, await api.result(task_id))
    else:
        task = await wait_with_output(api, context.reactor, context.console, task_id, args.wait_timeout)
    return await exit_code_of(api, context.console, task)


async def wait_for_many(context: Context, api: ClusterApi, task_ids: list[str], timeout_s: float | None) -> int:
    """Wait for the end of many tasks with a progress bar; 0 if all completed, else 1."""
    from retirecluster.client.tracking import TaskTracker

    tracker = TaskTracker(api, context.reactor, task_ids)
    live = LiveLines(context.console)

    def show() -> None:
        counts = tracker.counts()
        running = counts["running"] + counts["assigned"]
        live.draw([f"  {bar(tracker.ended, tracker.total, 40)}  {tracker.ended}/{tracker.total}  {running} running"])

    try:
        await tracker.follow(show, timeout_s)
    finally:
        live.erase()
    counts = tracker.counts()
    context.console.line(", ".join(f"{number} {status}" for status, number in counts.most_common()))
    return 0 if counts["completed"] == tracker.total else 1


def tasks_from(args: Namespace, read_stdin: Callable[[], str]) -> Tasks:
    """The task documents that the command line describes. Raises ClusterError where it describes none."""
    options = fields_from_options(args)
    sources = [
        args.command_line is not None,
        args.task_type is not None,
        args.file is not None,
        bool(args.input),
    ]
    if sum(sources) != 1:
        raise ClusterError(
            "bad_field",
            "submit one thing: a command after --, or --type TYPE, or --file FILE, or - (see submit --help)",
        )
    if args.command_line is not None:
        return [_command_task(args, options, read_stdin)]
    if args.task_type is not None:
        return [{"task_type": args.task_type, "payload": _payload(args.payload), **options}]
    if args.payload is not None:
        raise ClusterError("bad_field", "--payload goes with --type")
    text = _read(args.file, "--file") if args.file is not None else _stdin_text(args, read_stdin)
    return [merged(each, options) for each in parse_tasks(text, args.file or "standard input")]


def _command_task(args: Namespace, options: dict[str, Any], read_stdin: Callable[[], str]) -> dict[str, Any]:
    if not args.command_line:
        raise ClusterError("bad_field", "there is no command after --; write for example: submit -- uname -a")
    payload: dict[str, Any] = {"argv": args.command_line}
    if args.stdin is not None:
        payload["stdin"] = read_stdin() if args.stdin == "-" else _read(args.stdin, "--stdin")
    return {"task_type": "command", "payload": payload, **options}


def _stdin_text(args: Namespace, read_stdin: Callable[[], str]) -> str:
    if args.input != ["-"]:
        words = " ".join(args.input)
        raise ClusterError("bad_field", f"put a command after --, as: retire-cluster submit -- {words}")
    return read_stdin()


def _payload(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    origin = "--payload"
    if text.startswith("@"):
        text, origin = _read(text[1:], origin), text[1:]
    value = _json(text, origin)
    if not isinstance(value, dict):
        raise ClusterError("not_an_object", f'{origin}: must be a JSON object, as {{"message": "hello"}}')
    return value


def parse_tasks(text: str, origin: str) -> Tasks:
    """Task documents in a text: one JSON object, a list of them, `{"tasks": [...]}`, or one object a line."""
    try:
        value = json.loads(text)
    except ValueError:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        value = [_json(line, f"{origin}: line {number}") for number, line in lines]
    if isinstance(value, dict):
        value = value["tasks"] if isinstance(value.get("tasks"), list) else [value]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ClusterError("not_an_object", f"{origin}: each task must be a JSON object")
    if not value:
        raise ClusterError("missing_field", f"{origin}: there is no task in it")
    return value


def _json(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClusterError("not_json", f"{origin}: is not JSON: {error}") from None


def _read(path: str, option: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise ClusterError("bad_field", f"{option}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClusterError("bad_field", f"{option}: {path} is not UTF-8 text") from None


HANDLERS: Handlers = {"submit": with_api(submit), "tasks submit": with_api(submit)}
