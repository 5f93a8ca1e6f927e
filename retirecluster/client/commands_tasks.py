"""`retire-cluster tasks ...`: looking at tasks and acting on them."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from retirecluster.client.columns import CANDIDATE_COLUMNS, TASK_COLUMNS, TYPE_COLUMNS, WHY_COLUMNS
from retirecluster.client.confirm import confirm
from retirecluster.client.console import Console
from retirecluster.client.context import Context, with_api
from retirecluster.client.documents import result_pairs, task_pairs
from retirecluster.client.formats import show_json, show_list, show_one, table_lines
from retirecluster.client.parsing import Parser, duration
from retirecluster.client.selection import one_task, tasks_for
from retirecluster.client.watching import show_or_watch
from retirecluster.domain.lifecycle import FINAL, WAITING, State

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

DEFAULT_LIMIT = 50
ALL_MEANS: dict[str, frozenset[State]] = {
    "cancel": frozenset(State) - FINAL,
    "retry": FINAL - {State.COMPLETED},
    "hold": WAITING - {State.HELD},
    "release": frozenset({State.HELD}),
    "wait": frozenset(State) - FINAL,
}
"""The states that `all` stands for, by what is to be done."""
_DONE = {"cancel": "cancelled", "retry": "submitted again", "hold": "held", "release": "released"}
_SELECTOR_HELP = "task id, the start of one, `last`"


def add_tasks(commands: Any, parents: list[Parser]) -> None:
    group = commands.add_parser("tasks", aliases=["task"], parents=parents, help="look at tasks and act on them")
    group.set_defaults(run=with_api(list_tasks), status=None, type=None, device=None, label=None, limit=DEFAULT_LIMIT)
    actions = group.add_subparsers(dest="command_task", metavar="COMMAND", title="commands")
    listing = actions.add_parser("list", aliases=["ls"], parents=parents, help="the newest tasks")
    listing.add_argument("--status", choices=[str(state) for state in State], help="only in this state")
    listing.add_argument("--type", metavar="TYPE", help="only of this type")
    listing.add_argument("--device", metavar="ID", help="only on this device")
    listing.add_argument("--label", metavar="NAME=VALUE", help="only with this label")
    listing.add_argument("--limit", type=int, default=DEFAULT_LIMIT, metavar="N", help="how many (50); 0 for all")
    listing.set_defaults(run=with_api(list_tasks))
    for name, run, doc in (
        ("show", show_task, "everything about one task"),
        ("why", why_task, "why a task waits, device by device"),
        ("result", show_result, "the result of a task that has ended"),
    ):
        one = actions.add_parser(name, parents=parents, help=doc)
        one.add_argument("task", help=_SELECTOR_HELP)
        one.set_defaults(run=with_api(run))
    _add_logs_and_wait(actions, parents)
    _add_actions(actions, parents)
    types = actions.add_parser("types", parents=parents, help="the task types and what they take")
    types.set_defaults(run=with_api(list_types))


def _add_logs_and_wait(actions: Any, parents: list[Parser]) -> None:
    logs = actions.add_parser("logs", parents=parents, help="what a task printed")
    logs.add_argument("task", help=_SELECTOR_HELP)
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the task has ended")
    logs.set_defaults(run=with_api(show_logs))
    wait = actions.add_parser("wait", parents=parents, help="wait for the end of tasks")
    wait.add_argument("tasks", nargs="+", metavar="task", help=f"{_SELECTOR_HELP} or `all`")
    wait.add_argument("--timeout", type=duration, metavar="TIME", help="wait no longer than this")
    wait.set_defaults(run=with_api(wait_tasks))


def _add_actions(actions: Any, parents: list[Parser]) -> None:
    for name, doc in (
        ("cancel", "cancel tasks, also running ones"),
        ("retry", "run tasks that ended without success once more"),
        ("hold", "keep waiting tasks back"),
        ("release", "let held tasks go on"),
    ):
        parser = actions.add_parser(name, parents=parents, help=doc)
        parser.add_argument("tasks", nargs="+", metavar="task", help=f"{_SELECTOR_HELP} or `all`")
        parser.add_argument("--yes", "-y", action="store_true", help="do not ask when `all` is meant")
        parser.set_defaults(run=with_api(act_on_tasks), action=name)


async def list_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        found = api.tasks(
            limit=args.limit or None, status=args.status, type=args.type, device=args.device, label=args.label
        )
        documents = [document async for document in found]
        show_list(
            console, args.format, TASK_COLUMNS, documents, "No tasks. Submit one: retire-cluster submit -- uname -a"
        )
        if documents and len(documents) == args.limit and args.format == "table":
            console.note(f"The newest {args.limit}; --limit 0 shows all.")

    return await show_or_watch(context, args, view)


async def show_task(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        task = await one_task(api, args.task)
        show_one(console, args.format, task, task_pairs(task))
        if args.format == "table" and task.get("placement"):
            _show_placement(console, task["placement"])

    return await show_or_watch(context, args, view)


def _show_placement(console: Console, placement: Document) -> None:
    """Why the last attempt is where it is, and the scores of the devices that could have had it."""
    console.line()
    console.line(f"placed by {placement['strategy']}: {placement['why']}")
    scored = [each for each in placement["candidates"] if each["score"] is not None]
    if scored:
        console.lines(table_lines(console, CANDIDATE_COLUMNS, scored))


async def show_result(context: Context, args: Namespace, api: ClusterApi) -> int:
    task = await one_task(api, args.task)
    result = await api.result(task["task_id"])
    show_one(context.console, args.format, result, [("status", str(result["status"])), *result_pairs(result)])
    return 0


async def why_task(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        task = await one_task(api, args.task)
        answer = await api.why(task["task_id"])
        if args.format != "table":
            if args.format == "json":
                show_json(console, answer)
            else:
                show_list(console, args.format, WHY_COLUMNS, answer["devices"])
            return
        console.line(
            f"{answer['task_id']} is {answer['status']}" + (f": {answer['reason']}" if answer["reason"] else "")
        )
        if answer.get("devices"):
            console.line()
            console.lines(table_lines(console, WHY_COLUMNS, answer["devices"]))
        if answer.get("hint"):
            console.line()
            console.line(answer["hint"])

    return await show_or_watch(context, args, view)


async def show_logs(context: Context, args: Namespace, api: ClusterApi) -> int:
    from retirecluster.client.following import OutputPrinter, exit_code_of, wait_with_output

    task = await one_task(api, args.task)
    if args.follow:
        task = await wait_with_output(api, context.reactor, context.console, task["task_id"])
        return await exit_code_of(api, context.console, task)
    printer = OutputPrinter(api, context.console, task["task_id"])
    while await printer.step() and not printer.finished:
        pass
    return 0


async def wait_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    from retirecluster.client.commands_submit import wait_for_many
    from retirecluster.client.following import exit_code_of

    tasks = await tasks_for(api, args.tasks, ALL_MEANS["wait"])
    if len(tasks) == 1:
        task = await api.wait(tasks[0]["task_id"], args.timeout)
        show_list(context.console, args.format, TASK_COLUMNS, [task])
        return await exit_code_of(api, context.console, task)
    if not tasks:
        context.console.note("Nothing to wait for.")
        return 0
    return await wait_for_many(context, api, [task["task_id"] for task in tasks], args.timeout)


async def act_on_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    tasks = await tasks_for(api, args.tasks, ALL_MEANS[args.action])
    if not tasks:
        context.console.note(f"There is nothing to {args.action}.")
        return 0
    if "all" in args.tasks and not args.yes:
        confirm(context.console, f"{args.action.capitalize()} {len(tasks)} task{'s' * (len(tasks) != 1)}?")
    answers = [await api.task_action(task["task_id"], args.action) for task in tasks]
    _show_answers(context, args, answers)
    return 0


def _show_answers(context: Context, args: Namespace, answers: list[Document]) -> None:
    if args.format == "json":
        show_json(context.console, answers[0] if len(answers) == 1 else answers)
        return
    for answer in answers:
        context.console.line(f"{answer.get('task_id', '')} {answer.get('status') or _DONE[args.action]}")


async def list_types(context: Context, args: Namespace, api: ClusterApi) -> int:
    data = await api.task_types()
    listed = data.get("types", data) if isinstance(data, dict) else data
    if isinstance(listed, dict):
        listed = [{"name": name, **(each if isinstance(each, dict) else {})} for name, each in listed.items()]
    show_list(context.console, args.format, TYPE_COLUMNS, listed)
    return 0
