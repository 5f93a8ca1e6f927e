"""`retire-cluster cluster ...`, `health`, `init` and `version`."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from retirecluster import __version__
from retirecluster.client.console import Console
from retirecluster.client.context import Context, Handlers, LocalHandlers, with_api
from retirecluster.client.formats import show
from retirecluster.client.watching import show_or_watch
from retirecluster.config import default_data_dir, default_document
from retirecluster.domain.commands.local_table import CONFIG_FILE
from retirecluster.domain.errors import ClusterError
from retirecluster.render import answers

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi


async def show_status(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        status = await api.cluster_status()
        show(console, args.format, answers.cluster_status(status))

    return await show_or_watch(context, args, view)


async def show_health(context: Context, args: Namespace, api: ClusterApi) -> int:
    health = await api.health()
    show(context.console, args.format, answers.flat(health))
    return 0 if str(health.get("status", "ok")).lower() in ("ok", "healthy", "up") else 1


async def show_metrics(context: Context, args: Namespace, api: ClusterApi) -> int:
    async def view(console: Console) -> None:
        metrics = await api.request("GET", "cluster/metrics")
        show(console, args.format, answers.flat(metrics))

    return await show_or_watch(context, args, view)


async def show_config(context: Context, args: Namespace, api: ClusterApi) -> int:
    config = await api.cluster_config()
    show(context.console, args.format, answers.flat(config))
    return 0


def health(console: Console, args: Namespace) -> int:
    """Ask whether the main works; the exit code says so."""
    # Here and not above: TLS takes longer to import than `--help` should take to appear.
    from retirecluster.client.probing import probe

    return probe(console, args)


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


HANDLERS: Handlers = {
    "cluster status": with_api(show_status),
    "cluster health": with_api(show_health),
    "cluster metrics": with_api(show_metrics),
    "cluster config": with_api(show_config),
}
LOCAL: LocalHandlers = {"health": health, "init": init, "version": version}
