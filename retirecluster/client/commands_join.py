"""`retire-cluster join` and `leave`: the options; the work is in `joining`."""

from __future__ import annotations

import os
from argparse import SUPPRESS, Namespace
from pathlib import Path
from typing import Any

from retirecluster.client.console import Console
from retirecluster.client.joining import Joining, Plan, default_folder
from retirecluster.client.parsing import Parser
from retirecluster.client.start_files import FOREGROUND, SYSTEM, TERMUX, USER, is_root, kind_here
from retirecluster.domain.errors import ClusterError


def add_join(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "join",
        help="have this device work for a cluster, from now on and after each start",
        description="Check that the main can be reached, write worker.json, and have this device start the worker: by "
        "systemd, by Termux:Boot, or (where neither is) here until Ctrl+C. Everything is shown before it is written.",
    )
    parser.add_argument(
        "address", metavar="ADDRESS", help="HOST or HOST:PORT of the main; auto: find it on this network"
    )
    parser.add_argument("--name", metavar="ID", help="the device's id in the cluster (made from the host's name)")
    parser.add_argument("--role", help="worker, compute, mobile, storage, nas, or one of your own (guessed)")
    parser.add_argument("--slots", type=int, metavar="N", help="tasks at the same time (the number of processors)")
    parser.add_argument("--tag", action="append", metavar="WORD", help="a word that tasks can ask for; may be repeated")
    parser.add_argument("--wake-on-lan", action="store_true", help="let the main wake this device when it sleeps")
    _folder_options(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--foreground", action="store_true", help="run here until Ctrl+C, and install nothing")
    how.add_argument("--systemd", action="store_true", help="install a unit: of the system as root, else of the user")
    how.add_argument("--termux-boot", action="store_true", help="install a boot script for Termux:Boot")
    parser.add_argument("--force", action="store_true", help="overwrite what this command has not written")
    parser.set_defaults(run_now=join)


def add_leave(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "leave",
        help="undo join: this device works for the cluster no more",
        description="Stop the worker, remove what starts it and worker.json, and forget the cluster. What somebody "
        "has changed since is kept.",
    )
    _folder_options(parser)
    parser.set_defaults(run_now=leave)


def _folder_options(parser: Parser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", default=SUPPRESS, help="data folder of the worker")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")


def join(console: Console, args: Namespace) -> int:
    """Join; gives the exit code."""
    kind = _kind(args)
    settings: dict[str, Any] = {"join": args.address}
    named = {"device_id": args.name, "role": args.role, "slots": args.slots, "tags": args.tag}
    settings |= {name: value for name, value in named.items() if value is not None}
    if args.wake_on_lan:
        settings["wake_on_lan"] = True
    return Joining(console, os.environ, args.dry_run).join(Plan(_folder(args, kind), kind, settings, args.force))


def leave(console: Console, args: Namespace) -> int:
    """Undo it; gives the exit code."""
    return Joining(console, os.environ, args.dry_run).leave(_folder(args, kind_here(os.environ)))


def _kind(args: Namespace) -> str:
    if args.foreground:
        return FOREGROUND
    if args.termux_boot:
        return TERMUX
    kind = kind_here(os.environ)
    if args.systemd and kind == TERMUX:
        raise ClusterError("bad_field", "--systemd: Termux has none; leave it out")
    return (SYSTEM if is_root() else USER) if args.systemd else kind


def _folder(args: Namespace, kind: str) -> Path:
    return Path(args.data_dir).expanduser().absolute() if args.data_dir else default_folder(kind)
