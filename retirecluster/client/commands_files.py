"""`retire-cluster get` and `retire-cluster files ...`: what tasks left, and what the main holds."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retirecluster.client.columns import Column, field, size
from retirecluster.client.context import Context, with_api
from retirecluster.client.formats import show_json, show_list
from retirecluster.client.live import LiveLines, bar
from retirecluster.client.parsing import Parser
from retirecluster.client.selection import one_task
from retirecluster.client.tables import visible
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.files import matcher
from retirecluster.domain.units import format_bytes

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

FILE_COLUMNS = (
    Column("SHA256", field("sha256")),
    Column("SIZE", field("size_bytes"), size, right=True),
    Column("USED", field("used_at")),
    Column("NAMED", field("named"), lambda named: "yes" if named else "no"),
)
BAR_CELLS = 30


def add_get(commands: Any, parents: list[Parser]) -> None:
    get = commands.add_parser(
        "get",
        parents=parents[:1],  # -o means a folder here
        help="download the files that a task left",
        description="Download the files that a task left, or those NAMES of them (patterns such as '*.png' will do). "
        "What is there already is left alone; an interrupted download goes on where it stopped.",
    )
    get.add_argument("task", help="task id, the start of one, `last`")
    get.add_argument("names", nargs="*", metavar="NAME", help="which files; all that it left")
    get.add_argument("-o", "--output-dir", dest="folder", default=".", metavar="DIR", help="where to (here)")
    get.add_argument("--force", action="store_true", help="replace files that are there")
    get.add_argument("--inputs", action="store_true", help="the files that it brought instead")
    get.set_defaults(run=with_api(get_files))


def add_files(commands: Any, parents: list[Parser]) -> None:
    group = commands.add_parser("files", parents=parents, help="the files that the main holds")
    group.set_defaults(run=with_api(list_files))
    actions = group.add_subparsers(dest="command_files", metavar="COMMAND", title="commands")
    listing = actions.add_parser("list", aliases=["ls"], parents=parents, help="every file, by its content")
    listing.set_defaults(run=with_api(list_files))
    removing = actions.add_parser("rm", parents=parents, help="remove files that no kept task names")
    removing.add_argument("digests", nargs="+", metavar="SHA256", help="which; `files list` shows them")
    removing.set_defaults(run=with_api(remove_files))


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
    show_list(context.console, args.format, FILE_COLUMNS, found, "The main holds no files.")
    if found and args.format == "table":
        context.console.note(f"{len(found)} files, {format_bytes(sum(each['size_bytes'] for each in found))}")
    return 0


async def remove_files(context: Context, args: Namespace, api: ClusterApi) -> int:
    for digest in args.digests:
        await api.remove_file(digest)
    if args.format == "json":
        show_json(context.console, [{"sha256": digest} for digest in args.digests])
    else:
        context.console.lines([f"{digest} removed" for digest in args.digests])
    return 0
