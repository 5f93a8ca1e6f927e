"""`retire-cluster join` and `leave`: the options; the work is in `joining`."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from retirecluster.client.console import Console
from retirecluster.client.context import LocalHandlers
from retirecluster.client.join_record import RECORD, is_joined
from retirecluster.client.joining import Joining, Plan, default_folder, default_folders
from retirecluster.client.leaving import Leaving
from retirecluster.client.start_files import FOREGROUND, SYSTEM, TERMUX, USER, is_root, kind_here
from retirecluster.domain.errors import ClusterError


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
    # The usual folder here first; but join may have been told to use another start than the usual one.
    usual = _folder(args, kind_here(os.environ))
    folders = [usual] if args.data_dir else list(dict.fromkeys([usual, *default_folders()]))
    joined = [each for each in folders if is_joined(each)]
    if not joined:
        words = f"nothing to undo: there is no {RECORD} in {' or '.join(map(str, folders))}"
        raise ClusterError("not_found", f"{words}; name the folder by --data-dir")
    code = Leaving(console, args.dry_run).leave(joined[0])
    console.lines([f"{each} is joined as well: leave again to undo that, too" for each in joined[1:]])
    return code


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


LOCAL: LocalHandlers = {"join": join, "leave": leave}
