"""`--watch`: the same view again and again, in place on a terminal, one after the other elsewhere."""

from __future__ import annotations

import io
import shutil
from argparse import Namespace
from collections.abc import Awaitable, Callable
from datetime import datetime

from attrs import evolve

from retirecluster.client.console import Console
from retirecluster.client.context import Context

View = Callable[[Console], Awaitable[None]]


async def show_or_watch(context: Context, args: Namespace, view: View) -> int:
    """Show a view once, or with --watch every few seconds until Ctrl+C."""
    if args.watch is None:
        await view(context.console)
        return 0
    from twisted.internet.task import deferLater

    while True:
        if context.console.live:
            await _redraw(context.console, args.watch, view)
        else:
            await view(context.console)
            context.console.line()
            context.console.out.flush()
        await deferLater(context.reactor, args.watch)


async def _redraw(console: Console, every_s: float, view: View) -> None:
    """One screenful: drawn elsewhere first, so that the screen changes at once and never flickers."""
    console.remeasure()
    page = io.StringIO()
    await view(evolve(console, out=page, err=page))
    size = shutil.get_terminal_size()
    title = f"every {every_s:g} s, {datetime.now():%H:%M:%S}, Ctrl+C ends"
    body = page.getvalue().splitlines()
    if len(body) > size.lines - 3:
        body = [*body[: size.lines - 4], f"… {len(body) - size.lines + 4} more lines"]
    console.out.write("\x1b[H\x1b[2J" + "\n".join([console.style(title, "dim"), "", *body]) + "\n")
    console.out.flush()
