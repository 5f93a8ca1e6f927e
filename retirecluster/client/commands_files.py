"""`retire-cluster get` and `retire-cluster files ...`: what tasks left, and what the main holds."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show, show_json
from retirecluster.client.live import LiveLines, bar
from retirecluster.client.selection import one_task
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.files import matcher
from retirecluster.domain.units import format_bytes
from retirecluster.render import answers
from retirecluster.render.cells import visible

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

BAR_CELLS = 30


async def get_files(context: Context, args: Namespace, api: ClusterApi) -> int:
    task = await one_task(api, args.task)
    found = await api.task_files(task["task_id"])
    wanted = chosen(found["inputs" if args.inputs else "outputs"], args.names)
    if not wanted:
        what = "brought" if args.inputs else "left"
        raise ClusterError("not_found", f"{task['task_id']} ({task['status']}) {what} no files")
    live = LiveLines(context.console)
    for each in wanted:
        try:
            new = await api.download(
                task["task_id"], each, Path(args.folder), force=args.force, progress=shown(live, each["name"])
            )
        finally:
            live.erase()
        if new:
            context.console.lines([str(Path(args.folder, each["name"]))])
        else:
            context.console.note(f"{visible(each['name'])} is there already")
    return 0


def chosen(files: list[Document], names: list[str]) -> list[Document]:
    """The newest of each name that fits. Raises ClusterError for a name that fits none."""
    newest = {each["name"]: each for each in sorted(files, key=lambda each: each.get("epoch") or 0)}
    if not names:
        return list(newest.values())
    for name in names:
        if not any(matcher([name])(each) or each == name for each in newest):
            there = ", ".join(list(newest)[:10]) or "none"
            raise ClusterError("not_found", f"there is no file {name!r}; there are: {there}")
    fits = matcher(names)
    return [each for name, each in newest.items() if fits(name) or name in names]


def shown(live: LiveLines, name: str) -> Callable[[int, int], None]:
    """A progress bar for one file."""

    def progress(done: int, whole: int) -> None:
        amounts = f"{format_bytes(done)} of {format_bytes(whole)}"
        live.draw([f"  {bar(done, whole, BAR_CELLS)}  {amounts}  {visible(name)}"])

    return progress


async def list_files(context: Context, args: Namespace, api: ClusterApi) -> int:
    found = [each async for each in api.files()]
    show(context.console, args.format, answers.files(found))
    if found and args.format == "table":
        context.console.note(f"{len(found)} files, {format_bytes(sum(each['size_bytes'] for each in found))}")
    return 0


async def list_task_files(context: Context, args: Namespace, api: ClusterApi) -> int:
    task = await one_task(api, args.task)
    found = await api.task_files(task["task_id"])
    show(context.console, args.format, answers.task_files(task["task_id"], found))
    return 0


async def remove_files(context: Context, args: Namespace, api: ClusterApi) -> int:
    for digest in args.digests:
        await api.remove_file(digest)
    if args.format == "json":
        show_json(context.console, [{"sha256": digest} for digest in args.digests])
    else:
        context.console.lines([f"{digest} removed" for digest in args.digests])
    return 0


HANDLERS: Handlers = {
    "get": with_api(get_files),
    "files list": with_api(list_files),
    "files remove": with_api(remove_files),
    "tasks files": with_api(list_task_files),
}
