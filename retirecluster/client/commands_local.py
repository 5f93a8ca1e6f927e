"""`retire-cluster up` and `retire-cluster demo`: the options; the work is in `up` and `demo`."""

from __future__ import annotations

from argparse import Namespace

from retirecluster.client.context import Context, Handlers


async def _up(context: Context, args: Namespace) -> int:
    from retirecluster.client.up import up

    return await up(context, args)


async def _demo(context: Context, args: Namespace) -> int:
    from retirecluster.client.demo import demo

    return await demo(context, args)


HANDLERS: Handlers = {"up": _up, "demo": _demo}
