"""`retire-cluster demo`: a small cluster on this machine, doing real work on real input, and checked.

The steps, in order: read the input, start the cluster, submit, follow, collect, do the same work in one process,
compare, tell. The cluster stops whatever happens.
"""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from attrs import frozen

from retirecluster.client.api import ClusterApi
from retirecluster.client.console import Console
from retirecluster.client.context import Context
from retirecluster.client.demo_input import Input, read_input, script_source, task_document
from retirecluster.client.demo_progress import DemoProgress
from retirecluster.client.demo_report import Measured, report
from retirecluster.client.demo_work import collect, in_one_process
from retirecluster.client.live import LiveLines, bar
from retirecluster.client.local import DEFAULT_PORT, DEFAULT_WEB_PORT, LOOPBACK, LocalCluster, WorkerProfile
from retirecluster.client.tracking import TaskTracker
from retirecluster.client.up import choose_port, what_to_try
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import format_bytes
from retirecluster.render.tables import render_table

JOB = "word-index"
JOB_TIMEOUT_S = 600.0
PROFILES = (
    WorkerProfile("old-laptop", "compute", 2, ("keyboard",), "linux", 8),
    WorkerProfile("pixel-phone", "mobile", 1, ("battery",), "android", 4),
    WorkerProfile("pi-in-the-cupboard", "nas", 1, ("always-on",), "linux", 2),
)
DEMANDS: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (8, "mobile", {"role": "mobile"}),
    (9, "nas", {"role": "nas", "tags": ["always-on"]}),
)
"""Every 8th part asks for the phone, every 9th for the cupboard, so that placement can be seen; the others do not."""


@frozen
class Job:
    """What was submitted: the ids in the order of the parts, and what each part asked for."""

    task_ids: list[str]
    demands: list[dict[str, Any]]


async def demo(context: Context, args: Namespace) -> int:
    """Run the demo; 0 if the cluster's index equals the one made in one process, else 1 with the reason."""
    if args.workers < 1:
        raise ClusterError("bad_field", "--workers: must be 1 or more")
    console = context.console
    found = read_input(args.input)
    folder = Path(tempfile.mkdtemp(prefix="retire-cluster-demo-"))
    cluster = LocalCluster(
        reactor=context.reactor,
        folder=folder,
        profiles=demo_profiles(args.workers),
        environ=context.environ,
        say=lambda text: console.note(f"retire-cluster: {text}"),
        port=choose_port(args.port, DEFAULT_PORT, LOOPBACK, "--port", console.note),
        web_port=choose_port(args.web_port, DEFAULT_WEB_PORT, LOOPBACK, "--web-port", console.note),
    )
    finished = False
    try:
        code = await _run(context, cluster, found)
        finished = code == 0
        if args.keep and finished:
            await _stay(console, cluster)
        return code
    finally:
        console.lines(["", "Stopping the cluster ..."])
        try:
            await cluster.stop()
        finally:
            _clean_up(console, folder, finished)


def _clean_up(console: Console, folder: Path, finished: bool) -> None:
    if finished:
        shutil.rmtree(folder, ignore_errors=True)
        console.lines(["Stopped; nothing is left behind."])
    else:
        console.lines([f"Stopped. The logs are in {folder / 'logs'}."])


def demo_profiles(count: int) -> list[WorkerProfile]:
    """The profiles of that many workers; from the fourth on, more laptops."""
    more = (WorkerProfile(f"old-laptop-{number}", "compute", 2, (), "linux", 8) for number in range(2, count))
    return [*PROFILES, *more][:count]


async def _run(context: Context, cluster: LocalCluster, found: Input) -> int:
    _introduce(context.console, cluster, found)
    await cluster.start()
    context.console.lines(["", f"  dashboard  {cluster.server}/", ""])
    api = cluster.open_api()
    try:
        return await _work(context, api, cluster, found)
    finally:
        await api.close()


async def _stay(console: Console, cluster: LocalCluster) -> None:
    """Leave the cluster up until Ctrl+C."""
    console.lines(["", f"The cluster stays up. Look at {cluster.server}/", *what_to_try(cluster), ""])
    console.lines(["Ctrl+C stops it all and removes its folder."])
    await cluster.tend()


def _introduce(console: Console, cluster: LocalCluster, found: Input) -> None:
    count = len(cluster.profiles)
    if count == 1:
        console.line("Starting a main node and one worker: local processes, the worker's profile is made up.")
    else:
        console.line(f"Starting a main node and {count} workers: local processes, the workers' profiles are made up.")
    console.line()
    titles = ("WORKER", "SAYS IT IS", "ROLE", "SLOTS", "TAGS")
    rows = [
        (
            each.device_id,
            f"{each.platform}, {each.memory_gb:g} GiB",
            str(each.role),
            str(each.slots),
            " ".join(each.tags),
        )
        for each in cluster.profiles
    ]
    console.lines(["  " + line for line in render_table(titles, rows, width=console.width and console.width - 2)])
    console.line()
    console.line(f"The job: index the words of {found.files} text files, {format_bytes(found.size_bytes)}, from")
    console.line(f"  {found.folder}" + ("  (the first 10 MiB of it)" if found.capped else ""))
    many = len(found.parts) != 1
    console.line(
        f"in {len(found.parts)} tasks; the text travels inside them." if many else "in one task, text and all."
    )
    console.out.flush()


def demands_for(parts: int, profiles: list[WorkerProfile]) -> list[dict[str, Any]]:
    """What each part asks of its device; only for roles that are there."""
    roles = {each.role for each in profiles}
    demands: list[dict[str, Any]] = [{} for _ in range(parts)]
    for every, role, requirements in DEMANDS:
        if role in roles:
            for number in range(every - 1, parts, every):
                demands[number] = requirements
    return demands


async def _submit(api: ClusterApi, console: Console, found: Input, demands: list[dict[str, Any]]) -> Job:
    source = script_source()
    documents = [task_document(part, number, source, demands[number], JOB) for number, part in enumerate(found.parts)]
    live = LiveLines(console)

    def progress(sent: int, total: int) -> None:
        live.draw([f"  submitted  {bar(sent, total, 30)}  {sent}/{total}"])

    try:
        submitted = await api.submit(documents, progress=progress)
    finally:
        live.erase()
    return Job([each["task_id"] for each in submitted], demands)


async def _work(context: Context, api: ClusterApi, cluster: LocalCluster, found: Input) -> int:
    """Everything between a cluster that is up and the report; gives the exit code."""
    clock, console = context.reactor, context.console
    began = clock.seconds()
    job = await _submit(api, console, found, demands_for(len(found.parts), cluster.profiles))
    submitted = clock.seconds()
    tracker = TaskTracker(api, clock, job.task_ids)
    progress = DemoProgress(console, tracker, [each.device_id for each in cluster.profiles], clock)
    try:
        await tracker.follow(progress.show, JOB_TIMEOUT_S)
    finally:
        progress.finish()
    ended = clock.seconds()
    outcomes = await collect(api, job.task_ids)
    collected = clock.seconds()
    alone = await in_one_process(clock, found)
    measured = Measured(submitted - began, ended - submitted, collected - ended, clock.seconds() - collected)
    return report(console, found, cluster.profiles, job.demands, outcomes, alone, measured)
