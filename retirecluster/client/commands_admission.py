"""`retire-cluster join-token`, `ca`, `devices approve` and `devices revoke`."""

from __future__ import annotations

import io
from argparse import Namespace
from typing import TYPE_CHECKING

from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show
from retirecluster.render import answers

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi


async def join_token(context: Context, args: Namespace, api: ClusterApi) -> int:
    body = {"role": args.role, "name": args.name, "ttl_s": args.ttl}
    made = await api.create_join_token({name: value for name, value in body.items() if value is not None})
    if args.format == "table" and context.console.out.isatty():
        context.console.lines(qr_lines(made["command"]))
    show(context.console, args.format, answers.join_token(made))
    return 0


def qr_lines(text: str) -> list[str]:
    """A QR code for a terminal, two rows of it in each line; none where the package that makes them is missing."""
    try:
        import segno
    except ImportError:
        return []
    out = io.StringIO()
    segno.make(text, micro=False).terminal(out, compact=True)
    return out.getvalue().splitlines()


async def show_authority(context: Context, args: Namespace, api: ClusterApi) -> int:
    show(context.console, args.format, answers.authority(await api.request("GET", "ca")))
    return 0


async def renew(context: Context, args: Namespace, api: ClusterApi) -> int:
    show(context.console, args.format, answers.authority(await api.request("POST", "ca/renew", body=b"{}")))
    return 0


async def act(context: Context, args: Namespace, api: ClusterApi) -> int:
    """approve, revoke. The device may never have registered: only its whole id will do."""
    answer = await api.device_action(args.device, args.verb)
    show(context.console, args.format, answers.device_acted(args.device, answer))
    return 0


HANDLERS: Handlers = {
    "join-token": with_api(join_token),
    "ca show": with_api(show_authority),
    "ca renew": with_api(renew),
    "devices approve": with_api(act),
    "devices revoke": with_api(act),
}
