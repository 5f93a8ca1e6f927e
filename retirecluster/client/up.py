"""`retire-cluster up`: the deployment on one machine, in the foreground."""

from __future__ import annotations

import os
import re
import socket
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from retirecluster.client.context import Context
from retirecluster.client.local import DEFAULT_PORT, DEFAULT_WEB_PORT, LOOPBACK, LocalCluster, WorkerProfile, free_port
from retirecluster.client.settings import DEFAULT_SERVER
from retirecluster.config import default_data_dir
from retirecluster.domain.errors import ClusterError
from retirecluster.render.tables import render_pairs


async def up(context: Context, args: Namespace) -> int:
    """Start everything, say where it is, stay until Ctrl+C; gives the exit code."""
    if args.workers < 0:
        raise ClusterError("bad_field", "--workers: must be 0 or more")
    console = context.console
    host = args.host or LOOPBACK
    cluster = LocalCluster(
        reactor=context.reactor,
        folder=_folder(context, args),
        profiles=_profiles(args.workers),
        environ=context.environ,
        say=lambda text: console.note(f"retire-cluster: {text}"),
        port=choose_port(args.port, DEFAULT_PORT, host, "--port", console.note),
        web_port=choose_port(args.web_port, DEFAULT_WEB_PORT, host, "--web-port", console.note),
        host=host,
    )
    console.lines([f"Starting a main node and {args.workers} worker{'s' * (args.workers != 1)} on this machine ..."])
    try:
        await cluster.start()
        console.lines(["", *where_it_is(cluster), "", *what_to_try(cluster), "", "Ctrl+C stops it all."])
        await cluster.tend()
    finally:
        console.lines(["", "Stopping; tasks that run have up to 10 s to end ..."])
        await cluster.stop()
        console.lines(["Stopped."])
    return 0


def _folder(context: Context, args: Namespace) -> Path:
    named = args.data_dir or context.environ.get("RETIRE_CLUSTER_DATA_DIR") or default_data_dir("main")
    return Path(named).absolute()


def _profiles(count: int) -> list[WorkerProfile]:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname()).strip("-._") or "worker"
    slots = max(1, (os.cpu_count() or 1) // max(1, count))
    return [WorkerProfile(f"{name[:100]}-{number}", slots=slots) for number in range(1, count + 1)]


def choose_port(asked: int | None, default: int, host: str, option: str, say: Callable[[str], None]) -> int:
    """The port that was asked for, which must be free; else the default one, or a free one where that is taken."""
    try:
        if asked:
            if free_port(asked, host) != asked:
                raise ClusterError("conflict", f"{option}: port {asked} is taken by another program; choose another")
            return asked
        port = free_port(default if asked is None else 0, host)
    except OSError as error:
        raise ClusterError("bad_config", f"cannot listen on {host}: {error.strerror or error}") from None
    except OverflowError:
        raise ClusterError("bad_field", f"{option}: {asked} is not a port; 1 to 65535") from None
    if asked is None and port != default:
        say(f"Port {default} is taken by another program; {port} is used instead.")
    return port


def where_it_is(cluster: LocalCluster) -> list[str]:
    """Addresses, folders, and how to log in."""
    return render_pairs(
        [
            ("dashboard", f"{cluster.server}/"),
            ("workers", f"join at {cluster.reachable_host}:{cluster.port}"),
            ("data", str(cluster.folder)),
            ("token", f"{cluster.token_path}  (the dashboard asks for it once)"),
            ("logs", str(cluster.logs)),
        ]
    )


def what_to_try(cluster: LocalCluster) -> list[str]:
    """Commands for another terminal, with the settings they need there."""
    lines = ["In another terminal:"]
    if cluster.server != DEFAULT_SERVER:
        lines.append(f"  export RETIRE_CLUSTER_SERVER={cluster.server}")
    if str(cluster.folder) != default_data_dir("main"):
        lines.append(f"  export RETIRE_CLUSTER_DATA_DIR={cluster.folder}")
    return [
        *lines,
        "  retire-cluster devices list",
        "  retire-cluster submit --wait -- uname -a",
        "  retire-cluster tasks list --watch",
    ]
