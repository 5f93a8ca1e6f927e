"""`retire-cluster up` and `retire-cluster demo`: the options; the work is in `up` and `demo`."""

from __future__ import annotations

from argparse import SUPPRESS, Namespace
from typing import Any

from retirecluster.client.context import Context
from retirecluster.client.parsing import Parser


def add_up(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "up",
        help="a main node and workers on this machine, until Ctrl+C",
        description="Start a main node with its dashboard and workers on this machine, and stay until Ctrl+C.",
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="local workers (2)")
    parser.add_argument(
        "--data-dir", metavar="DIR", default=SUPPRESS, help="data folder of the main; the workers' are inside"
    )
    parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, metavar="PORT", help="port for workers (8080)")
    parser.add_argument("--web-port", type=int, metavar="PORT", help="port of the dashboard and the API (5000)")
    parser.set_defaults(run=_up)


def add_demo(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "demo",
        help="a small cluster on this machine, doing real work",
        description="Start a main node and workers with made-up profiles as processes on this machine, in a temporary "
        "folder; index the words of a folder of text files on them; do the same in one process; compare.",
    )
    parser.add_argument("--input", metavar="FOLDER", help="folder of text files (default: Python's standard library)")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="local workers (3)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up afterwards, until Ctrl+C")
    parser.add_argument("--port", type=int, metavar="PORT", help="port for workers (8080, or a free one)")
    parser.add_argument("--web-port", type=int, metavar="PORT", help="port of the dashboard (5000, or a free one)")
    parser.set_defaults(run=_demo)


async def _up(context: Context, args: Namespace) -> int:
    from retirecluster.client.up import up

    return await up(context, args)


async def _demo(context: Context, args: Namespace) -> int:
    from retirecluster.client.demo import demo

    return await demo(context, args)
