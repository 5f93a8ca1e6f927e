"""`retire-cluster devices ...`: looking at devices and acting on them."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from retirecluster.client.confirm import confirm
from retirecluster.client.console import Console
from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show
from retirecluster.client.watching import show_or_watch
from retirecluster.domain.commands.selectors import ALL, devices_named
from retirecluster.render import answers

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document


async def one_device(api: ClusterApi, name: str) -> Document:
    """The device of that id, or the one whose id starts so."""
    return (await some_devices(api, [name]))[0]


async def some_devices(api: ClusterApi, names: list[str]) -> list[Document]:
    """The devices that the words name, each once. ClusterError: not_found, ambiguous, or bad_field for rows."""
    by_id = {each["device_id"]: each for each in await api.devices()}
    return [by_id[device_id] for device_id in devices_named(names, list(by_id), None)]


async def list_devices(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        show(console, args.format, answers.devices(await api.devices(), args.wide))

    return await show_or_watch(context, args, view)


async def show_device(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        device = await api.device((await one_device(api, args.device))["device_id"])
        show(console, args.format, answers.device(device))

    return await show_or_watch(context, args, view)


async def act_on_devices(context: Context, args: Namespace, api: ClusterApi) -> int:
    chosen = await some_devices(api, args.devices)
    if ALL in args.devices and chosen and not args.yes:
        confirm(context.console, f"{args.verb.capitalize()} {len(chosen)} device{'s' * (len(chosen) != 1)}?")
    deadline_s = getattr(args, "deadline", None)
    body = {} if deadline_s is None else {"deadline_s": deadline_s}
    ids = [each["device_id"] for each in chosen]
    done = [answers.device_acted(each, await api.device_action(each, args.verb, body)) for each in ids]
    show(context.console, args.format, answers.together(done))
    return 0


async def show_stats(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        device_id = (await one_device(api, args.device))["device_id"]
        show(console, args.format, answers.device_stats(await api.device_metrics(device_id, str(args.window))))

    return await show_or_watch(context, args, view)


async def set_role(context: Context, args: Namespace, api: ClusterApi) -> int:
    device = await one_device(api, args.device)
    answer = await api.device_action(device["device_id"], "role", {"role": args.role})
    show(context.console, args.format, answers.device_acted(device["device_id"], answer, f"role {args.role}"))
    return 0


async def remove_device(context: Context, args: Namespace, api: ClusterApi) -> int:
    device = await one_device(api, args.device)
    if not args.yes:
        confirm(context.console, f"Forget device {device['device_id']}?")
    answer = await api.remove_device(device["device_id"])
    show(context.console, args.format, answers.device_acted(device["device_id"], dict(answer or {}), "removed"))
    return 0


ACTIONS = ("drain", "undrain", "cordon", "uncordon", "release", "ping", "wake")
HANDLERS: Handlers = {
    "devices list": with_api(list_devices),
    "devices show": with_api(show_device),
    "devices stats": with_api(show_stats),
    "devices role": with_api(set_role),
    "devices remove": with_api(remove_device),
    **{f"devices {action}": with_api(act_on_devices) for action in ACTIONS},
}
