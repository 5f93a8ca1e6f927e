"""What a household says: `cluster quiet`, `devices borrow`, `signals ...`."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from retirecluster.client.columns import SIGNAL_COLUMNS
from retirecluster.client.context import Context, with_api
from retirecluster.client.formats import show_json, show_list
from retirecluster.client.parsing import Parser, duration
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.policy_fields import ON_PAUSE
from retirecluster.domain.units import format_duration

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

OFF = "off"


def _rest_options(parser: Parser) -> None:
    parser.add_argument(
        "--running", choices=ON_PAUSE, default=ON_PAUSE[0], help="running tasks go on (default), stand still, or move"
    )
    parser.add_argument("--reason", default="", help="a few words, shown with the devices")


def add_quiet(actions: Any, parents: list[Parser]) -> None:
    """`cluster quiet 2h` and `cluster quiet off`."""
    quiet = actions.add_parser("quiet", parents=parents, help="give no device anything new for a while")
    quiet.add_argument("time", metavar="TIME", help="how long (30m, 2h), or off")
    _rest_options(quiet)
    quiet.set_defaults(run=with_api(keep_quiet))


def add_borrowing(actions: Any, parents: list[Parser]) -> None:
    """`devices borrow ID 3h` and `devices give-back ID`."""
    borrow = actions.add_parser("borrow", parents=parents, help="take a device for yourself for a while")
    borrow.add_argument("device", help="device id or the start of one")
    borrow.add_argument("time", metavar="TIME", type=duration, help="how long (30m, 3h)")
    _rest_options(borrow)
    borrow.set_defaults(run=with_api(borrow_device))
    give_back = actions.add_parser("give-back", parents=parents, help="end the borrowing of a device")
    give_back.add_argument("device", help="device id or the start of one")
    give_back.set_defaults(run=with_api(give_device_back))


def add_signals(commands: Any, parents: list[Parser]) -> None:
    """`signals`, `signals set NAME VALUE`, `signals remove NAME`."""
    group = commands.add_parser(
        "signals", aliases=["signal"], parents=parents, help="figures from outside, for policies"
    )
    group.set_defaults(run=with_api(list_signals))
    actions = group.add_subparsers(dest="command_signals", metavar="COMMAND", title="commands")
    listing = actions.add_parser("list", aliases=["ls"], parents=parents, help="those that hold")
    listing.set_defaults(run=with_api(list_signals))
    put = actions.add_parser("set", parents=parents, help="set one, as tariff 0.21")
    put.add_argument("name", help="small letters, digits and _ . -")
    put.add_argument("value", type=float, help="a number")
    put.add_argument("--ttl", metavar="TIME", type=duration, default=3600.0, help="how long it holds (1h)")
    put.set_defaults(run=with_api(set_signal))
    remove = actions.add_parser("remove", aliases=["rm"], parents=parents, help="remove one")
    remove.add_argument("name", help="its name")
    remove.set_defaults(run=with_api(remove_signal))


async def keep_quiet(context: Context, args: Namespace, api: ClusterApi) -> int:
    if args.time.lower() == OFF:
        answer = await api.end_quiet()
    else:
        answer = await api.quiet({"for_s": _time_s(args.time), "running": args.running, "reason": args.reason})
    quiet = answer.get("quiet")
    _say(context, args, answer, "the quiet is over" if quiet is None else quiet["reason"])
    return 0


def _time_s(text: str) -> float:
    try:
        return duration(text)
    except ValueError as error:
        raise ClusterError("bad_field", f"{error}, or off", field="time") from None


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
    hint = "No signals. Set one: retire-cluster signals set tariff 0.21 --ttl 1h"
    show_list(context.console, args.format, SIGNAL_COLUMNS, await api.signals(), hint)
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
