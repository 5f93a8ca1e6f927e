"""`retire-cluster cluster ...`, `init` and `version`."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retirecluster import __version__
from retirecluster.client.commands_household import add_quiet
from retirecluster.client.console import Console
from retirecluster.client.context import Context, with_api
from retirecluster.client.documents import flat_pairs, status_pairs
from retirecluster.client.formats import show_one
from retirecluster.client.parsing import Parser
from retirecluster.client.watching import show_or_watch
from retirecluster.config import default_data_dir, default_document
from retirecluster.domain.errors import ClusterError

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi

CONFIG_FILE = "config.json"


def add_cluster(commands: Any, parents: list[Parser]) -> None:
    group = commands.add_parser("cluster", parents=parents, help="the cluster as a whole")
    group.set_defaults(run=with_api(show_status))
    actions = group.add_subparsers(dest="command_cluster", metavar="COMMAND", title="commands")
    for name, run, doc in (
        ("status", show_status, "devices, tasks, load"),
        ("health", show_health, "whether the main is well; exit code 1 if not"),
        ("config", show_config, "the configuration that the main runs with"),
    ):
        actions.add_parser(name, parents=parents, help=doc).set_defaults(run=with_api(run))
    add_quiet(actions, parents)


def add_init(commands: Any) -> None:
    parser = commands.add_parser(
        "init",
        help="write a configuration file with all defaults",
        description="Write the default configuration of a daemon as JSON, for editing. Start the daemon with it: "
        "twistd -n retire-main --config FILE",
    )
    parser.add_argument("kind", choices=("main", "worker"))
    parser.add_argument("--path", metavar="FILE", help=f"where; default: {CONFIG_FILE} in the data folder")
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.set_defaults(run_now=init)


def add_version(commands: Any) -> None:
    commands.add_parser("version", help="the version of this program").set_defaults(run_now=version)


async def show_status(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        status = await api.cluster_status()
        show_one(console, args.format, status, status_pairs(status))

    return await show_or_watch(context, args, view)


async def show_health(context: Context, args: Namespace, api: ClusterApi) -> int:
    health = await api.health()
    show_one(context.console, args.format, health, flat_pairs(health))
    return 0 if str(health.get("status", "ok")).lower() in ("ok", "healthy", "up") else 1


async def show_config(context: Context, args: Namespace, api: ClusterApi) -> int:
    config = await api.cluster_config()
    show_one(context.console, args.format, config, flat_pairs(config))
    return 0


def init(console: Console, args: Namespace) -> int:
    """Write the file; never over an existing one without --force."""
    path = Path(args.path) if args.path else Path(default_data_dir(args.kind)) / CONFIG_FILE
    document = default_document(args.kind)
    text = json.dumps(document, indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if args.force else os.O_EXCL)
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ClusterError("conflict", f"{path} exists; --force overwrites it") from None
    except OSError as error:
        raise ClusterError("bad_config", f"{path} cannot be written: {error.strerror}") from None
    console.line(str(path))
    console.note(f"Edit it, then: twistd -n retire-{args.kind} --config {path}")
    return 0


def version(console: Console, _args: Namespace) -> int:
    console.line(f"retire-cluster {__version__}")
    return 0
