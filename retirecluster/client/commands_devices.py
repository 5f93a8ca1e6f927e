"""`retire-cluster devices ...`: looking at devices and acting on them."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from retirecluster.client.columns import DEVICE_COLUMNS, DEVICE_COLUMNS_WIDE, STATS_COLUMNS
from retirecluster.client.commands_household import add_borrowing
from retirecluster.client.confirm import confirm
from retirecluster.client.console import Console
from retirecluster.client.context import Context, with_api
from retirecluster.client.documents import device_pairs
from retirecluster.client.formats import show_json, show_list, show_one
from retirecluster.client.parsing import Parser, duration
from retirecluster.client.watching import show_or_watch
from retirecluster.domain.errors import ClusterError

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

ACTIONS = (
    ("drain", "give it no new tasks; let running ones end"),
    ("undrain", "end a drain"),
    ("cordon", "give it no new tasks until uncordon, also after a restart"),
    ("uncordon", "give it tasks again"),
    ("release", "believe it again: ends a quarantine or suspicion"),
    ("ping", "ask whether it answers"),
    ("wake", "wake it if it sleeps (Wake-on-LAN)"),
)


def add_devices(commands: Any, parents: list[Parser]) -> None:
    group = commands.add_parser("devices", aliases=["device"], parents=parents, help="look at devices and act on them")
    group.set_defaults(run=with_api(list_devices), wide=False)
    actions = group.add_subparsers(dest="command_device", metavar="COMMAND", title="commands")
    listing = actions.add_parser("list", aliases=["ls"], parents=parents, help="all devices")
    listing.add_argument("--wide", "-w", action="store_true", help="more columns")
    listing.set_defaults(run=with_api(list_devices))
    show = actions.add_parser("show", parents=parents, help="everything about one device")
    show.add_argument("device", help="device id or the start of one")
    show.set_defaults(run=with_api(show_device))
    for name, doc in ACTIONS:
        parser = actions.add_parser(name, parents=parents, help=doc)
        parser.add_argument("devices", nargs="+", metavar="device", help="device id or the start of one")
        parser.set_defaults(run=with_api(act_on_devices), action=name, deadline=None)
        if name == "drain":
            words = "after this long (90, 5m, 1h), move what still runs elsewhere"
            parser.add_argument("--deadline", metavar="TIME", type=duration, help=words)
    add_borrowing(actions, parents)
    stats = actions.add_parser("stats", parents=parents, help="what a device reported lately")
    stats.add_argument("device", help="device id or the start of one")
    stats.add_argument("--window", metavar="TIME", default="2h", help="how far back: 30m, 2h (default), at most 90d")
    stats.set_defaults(run=with_api(show_stats))
    role = actions.add_parser("role", parents=parents, help="change the role of a device")
    role.add_argument("device", help="device id or the start of one")
    role.add_argument("role", help="worker, compute, mobile, storage, nas, or one of your own")
    role.set_defaults(run=with_api(set_role))
    remove = actions.add_parser("remove", aliases=["rm"], parents=parents, help="forget a device")
    remove.add_argument("device", help="device id")
    remove.add_argument("--yes", "-y", action="store_true", help="do not ask")
    remove.set_defaults(run=with_api(remove_device))


async def one_device(api: ClusterApi, name: str) -> Document:
    """The device of that id, or the one whose id starts so."""
    devices = await api.devices()
    found = [each for each in devices if each["device_id"] == name]
    found = found or [each for each in devices if each["device_id"].startswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(each["device_id"] for each in (found or devices)[:5]) or "none yet"
    if found:
        raise ClusterError("ambiguous", f"{name} is the start of several devices: {known}")
    raise ClusterError("not_found", f"no device is called {name}; known are {known}")


async def list_devices(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        columns = DEVICE_COLUMNS_WIDE if args.wide or args.format in ("csv", "tsv") else DEVICE_COLUMNS
        show_list(
            console,
            args.format,
            columns,
            await api.devices(),
            "No devices yet. On a device: twistd -n retire-worker --join MAIN:8080",
        )

    return await show_or_watch(context, args, view)


async def show_device(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        device = await api.device((await one_device(api, args.device))["device_id"])
        show_one(console, args.format, device, device_pairs(device))

    return await show_or_watch(context, args, view)


async def act_on_devices(context: Context, args: Namespace, api: ClusterApi) -> int:
    chosen = [await one_device(api, name) for name in args.devices]
    body = {} if args.deadline is None else {"deadline_s": args.deadline}
    answers = [await api.device_action(each["device_id"], args.action, body) for each in chosen]
    _show_answers(context, args, chosen, answers)
    return 0


async def show_stats(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        device_id = (await one_device(api, args.device))["device_id"]
        found = await api.device_metrics(device_id, args.window)
        show_list(console, args.format, STATS_COLUMNS, found["points"], f"{device_id} has reported nothing lately.")

    return await show_or_watch(context, args, view)


async def set_role(context: Context, args: Namespace, api: ClusterApi) -> int:
    device = await one_device(api, args.device)
    answer = await api.device_action(device["device_id"], "role", {"role": args.role})
    _show_answers(context, args, [device], [answer | {"status": f"role {args.role}"}])
    return 0


async def remove_device(context: Context, args: Namespace, api: ClusterApi) -> int:
    device = await one_device(api, args.device)
    if not args.yes:
        confirm(context.console, f"Forget device {device['device_id']}?")
    answer = await api.remove_device(device["device_id"])
    _show_answers(context, args, [device], [dict(answer or {}) | {"status": "removed"}])
    return 0


def _show_answers(context: Context, args: Namespace, devices: list[Document], answers: list[Document]) -> None:
    if args.format == "json":
        show_json(context.console, answers[0] if len(answers) == 1 else answers)
        return
    for device, answer in zip(devices, answers, strict=True):
        round_trip_ms = answer.get("round_trip_ms")
        said = "done" if round_trip_ms is None else f"answered in {round_trip_ms:.1f} ms"
        parts = [device["device_id"], str(answer.get("status") or said)]
        context.console.line("  ".join(parts))
