"""`retire-cluster tasks ...`: looking at tasks and acting on them."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from retirecluster.client.confirm import confirm
from retirecluster.client.console import Console
from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show
from retirecluster.client.selection import one_task, tasks_for
from retirecluster.client.watching import show_or_watch
from retirecluster.domain.commands.task_table import ALL_MEANS
from retirecluster.render import answers

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi

ACTIONS = ("cancel", "retry", "hold", "release")


def _now() -> datetime:
    return datetime.now(timezone.utc)


async def list_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        found = api.tasks(
            limit=args.limit or None, status=args.status, type=args.type, device=args.device, label=args.label
        )
        documents = [document async for document in found]
        show(console, args.format, answers.tasks(documents, _now()))
        if documents and len(documents) == args.limit and args.format == "table":
            console.note(f"The newest {args.limit}; --limit 0 shows all.")

    return await show_or_watch(context, args, view)


async def show_task(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        task = await one_task(api, args.task)
        show(console, args.format, answers.task(task, _now()))

    return await show_or_watch(context, args, view)


async def show_result(context: Context, args: Namespace, api: ClusterApi) -> int:
    task = await one_task(api, args.task)
    result = await api.result(task["task_id"])
    show(context.console, args.format, answers.result(result))
    return 0


async def why_task(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        task = await one_task(api, args.task)
        show(console, args.format, answers.why(await api.why(task["task_id"])))

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
        show(context.console, args.format, answers.tasks([task], _now()))
        return await exit_code_of(api, context.console, task)
    if not tasks:
        context.console.note("Nothing to wait for.")
        return 0
    return await wait_for_many(context, api, [task["task_id"] for task in tasks], args.timeout)


async def act_on_tasks(context: Context, args: Namespace, api: ClusterApi) -> int:
    tasks = await tasks_for(api, args.tasks, ALL_MEANS[args.verb])
    if not tasks:
        context.console.note(f"There is nothing to {args.verb}.")
        return 0
    if "all" in args.tasks and not args.yes:
        confirm(context.console, f"{args.verb.capitalize()} {len(tasks)} task{'s' * (len(tasks) != 1)}?")
    done = [answers.task_acted(await api.task_action(task["task_id"], args.verb)) for task in tasks]
    show(context.console, args.format, answers.together(done))
    return 0


async def list_types(context: Context, args: Namespace, api: ClusterApi) -> int:
    data = await api.task_types()
    listed = data.get("types", data) if isinstance(data, dict) else data
    if isinstance(listed, dict):
        listed = [{"name": name, **(each if isinstance(each, dict) else {})} for name, each in listed.items()]
    show(context.console, args.format, answers.task_types(listed))
    return 0


HANDLERS: Handlers = {
    "tasks list": with_api(list_tasks),
    "tasks show": with_api(show_task),
    "tasks why": with_api(why_task),
    "tasks result": with_api(show_result),
    "tasks logs": with_api(show_logs),
    "tasks wait": with_api(wait_tasks),
    "tasks types": with_api(list_types),
    **{f"tasks {action}": with_api(act_on_tasks) for action in ACTIONS},
}
