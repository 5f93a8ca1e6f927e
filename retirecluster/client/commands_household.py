"""What a household says: `cluster quiet`, `devices borrow`, `signals ...`."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show, show_json
from retirecluster.domain.commands.kinds import OFF
from retirecluster.domain.units import format_duration
from retirecluster.render import answers

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document


async def keep_quiet(context: Context, args: Namespace, api: ClusterApi) -> int:
    if args.time == OFF:
        answer = await api.end_quiet()
    else:
        answer = await api.quiet({"for_s": args.time, "running": args.running, "reason": args.reason})
    quiet = answer.get("quiet")
    _say(context, args, answer, "the quiet is over" if quiet is None else quiet["reason"])
    return 0


async def borrow_device(context: Context, args: Namespace, api: ClusterApi) -> int:
    device = await _one_device(api, args.device)
    body = {"for_s": args.time, "running": args.running, "reason": args.reason}
    answer = await api.device_action(device["device_id"], "borrow", body)
    rest = answer.get("rest") or {}
    _say(context, args, answer, f"{device['device_id']}  {rest.get('reason') or answer['status']}")
    return 0


async def give_device_back(context: Context, args: Namespace, api: ClusterApi) -> int:
    device = await _one_device(api, args.device)
    answer = await api.device_action(device["device_id"], "give_back")
    _say(context, args, answer, f"{device['device_id']}  {answer['status']}")
    return 0


async def _one_device(api: ClusterApi, name: str) -> Document:
    from retirecluster.client.commands_devices import one_device

    return await one_device(api, name)


async def list_signals(context: Context, args: Namespace, api: ClusterApi) -> int:
    show(context.console, args.format, answers.signals(await api.signals()))
    return 0


async def set_signal(context: Context, args: Namespace, api: ClusterApi) -> int:
    answer = await api.set_signal(args.name, args.value, args.ttl)
    _say(context, args, answer, f"{answer['name']}  {answer['value']:g}  for {format_duration(answer['ttl_s'])}")
    return 0


async def remove_signal(context: Context, args: Namespace, api: ClusterApi) -> int:
    answer = await api.remove_signal(args.name)
    _say(context, args, answer, f"{args.name}  removed")
    return 0


def _say(context: Context, args: Namespace, answer: Document, words: str) -> None:
    if args.format == "json":
        show_json(context.console, answer)
    else:
        context.console.line(words)


HANDLERS: Handlers = {
    "cluster quiet": with_api(keep_quiet),
    "devices borrow": with_api(borrow_device),
    "devices give-back": with_api(give_device_back),
    "signals list": with_api(list_signals),
    "signals set": with_api(set_signal),
    "signals remove": with_api(remove_signal),
}
