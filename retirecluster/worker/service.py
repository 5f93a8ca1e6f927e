"""The composition root of the worker: options, and the wiring of everything in this room.

The only module here that touches the global reactor and the clocks.
"""

from __future__ import annotations

import datetime
import os
import platform as python_platform
import signal
import socket
import sys
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from twisted.application.internet import ClientService
from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.threads import deferToThreadPool

from retirecluster.config import load_config
from retirecluster.daemon import reporter, stop_once
from retirecluster.domain import failpoints
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import JoinString
from retirecluster.options import DaemonOptions
from retirecluster.platforms.base import Platform
from retirecluster.platforms.choose import choose_platform
from retirecluster.platforms.psutil_probes import PsutilProbes, find_psutil
from retirecluster.worker.agent import Agent
from retirecluster.worker.announcement import offered_types, register_data
from retirecluster.worker.backoff import Backoff
from retirecluster.worker.cgroup_tree import find_tree
from retirecluster.worker.checkpoints import DAY_S, Checkpoints
from retirecluster.worker.comfort_memory import ComfortMemory
from retirecluster.worker.connection import Registrar, WorkerFactory
from retirecluster.worker.cpu_share import CpuShare
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.discovery import Discovery, FoundMain
from retirecluster.worker.executor import TaskExecutor
from retirecluster.worker.fences import FENCED, PLAIN, Fences, Proof
from retirecluster.worker.files.folders import task_folders
from retirecluster.worker.home import Home
from retirecluster.worker.idle_sleep import IdleSleep, WorkerLine, run_command
from retirecluster.worker.journal import Journal
from retirecluster.worker.keys import Keys
from retirecluster.worker.low_disk import LowDisk
from retirecluster.worker.monitor import POLICY, SystemMonitor
from retirecluster.worker.own_load import OwnLoad
from retirecluster.worker.plugins import Plugins, find_plugins
from retirecluster.worker.policy import OWN_LOAD, Comfort
from retirecluster.worker.probe_service import ProbeService
from retirecluster.worker.process_tree import usage_of
from retirecluster.worker.profiler import DeviceProfiler, Overrides, cpu_count
from retirecluster.worker.runner_process import task_variables
from retirecluster.worker.speed import cached_benchmark
from retirecluster.worker.ways import ByString, Ways, Where, read_where
from retirecluster.worker.worker_service import WorkerService


class Options(DaemonOptions):
    """What `twistd retire-worker` takes. Everything may also stand in a JSON file or in RETIRE_CLUSTER_*."""

    command = "retire-worker"
    optParameters = [
        ["join", "j", None, "The main node: HOST, HOST:PORT, or auto; a join string by RETIRE_CLUSTER_JOIN."],
        ["data-dir", "d", None, "Folder of the journal and the tasks' scratch folders."],
        ["device-id", None, None, "Name of this device in the cluster; else one is made and kept."],
        ["role", None, None, "worker, compute, mobile, storage, nas, or a role of your own."],
        ["slots", None, None, "Tasks that run at the same time."],
        ["config", "c", None, "JSON file with settings."],
        ["platform", None, None, "Announce this platform instead of the real one (for demonstrations)."],
        ["memory-gb", None, None, "Announce this much memory, in GiB (for demonstrations)."],
    ]
    optFlags = [["test", None, "Connect (join, by a join string), say what answers, and leave: exit code 0 if so."]]

    def __init__(self) -> None:
        super().__init__()
        self["tags"] = []

    def opt_tag(self, tag: str) -> None:
        """A word that tasks can ask for; may be given several times."""
        self["tags"].append(tag)

    def settings(self, environ: Mapping[str, str]) -> dict[str, Any]:
        """All layers of configuration together. Raises ClusterError bad_config."""
        names = ("join", "data-dir", "device-id", "role", "slots", "platform", "memory-gb")
        given = {name.replace("-", "_"): self[name] for name in names}
        return load_config("worker", given | {"tags": self["tags"] or None}, environ, self["config"])


def makeService(options: Options) -> IService:
    """The worker as one service. A mistake in the settings is one line on standard error and exit status 2."""
    from twisted.internet import reactor

    # Timers follow a clock that never jumps: a phone or a Pi sets its wall clock by hours once it is online.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    stop_once(reactor)
    try:
        settings = options.settings(os.environ)
        where = read_where(settings["join"])
        if options["test"]:
            return ProbeService(reactor, settings["data_dir"], where, settings["device_id"])
        service = _wire(settings, where, reactor)
        service.reporter = reporter(reactor, service.in_short)
        return service
    except ClusterError as error:
        print(f"retire-worker: {error.message}", file=sys.stderr)
        sys.exit(2)


def _wire(settings: Mapping[str, Any], where: Where, reactor: Any) -> WorkerService:
    random, backoff = Random(), Backoff(Random())
    cpus = CpuShare()
    platform = choose_platform(os.environ, root=Path(settings["system_root"]))
    folder = DataFolder(settings["data_dir"])
    folder.open()
    device_id = settings["device_id"] or folder.device_id(socket.gethostname(), random)

    def in_thread(function: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)

    psutil = find_psutil()
    probes = PsutilProbes(psutil) if psutil else None
    monitor = SystemMonitor(
        platform, folder.path, time.monotonic, probes, time.time, low_disk_bytes=settings["low_disk_bytes"]
    )
    variables = task_variables(os.environ, platform.task_variables) | {"RETIRE_DEVICE_ID": device_id}
    tree = find_tree(f"{zlib.crc32(str(folder.path).encode()):08x}")
    fences = Fences(folder.path, folder.scratch, variables, tree)
    proof = proved(fences, folder, settings["isolation"])
    level = min(PLAIN, proof.level) if settings["isolation"] is None else settings["isolation"]
    files = task_folders(settings, folder, fences, reactor)
    low_disk = LowDisk(folder.path, folder.scratch, time.monotonic, (files.cache.shed,))
    benchmark = cached_benchmark(folder.speed, python_platform.python_version(), time.time(), time.monotonic)
    profiler = DeviceProfiler(
        platform,
        folder.path,
        settings["role"],
        Overrides(settings["platform"], settings["memory_gb"]),
        monitor.read,
        probes,
        benchmark.document(),
        cpus.had,
    )
    plugins = find_plugins(variables)
    executor = _executor(settings, platform, fences, plugins, level, reactor)
    agent = Agent(
        reactor,
        executor,
        Journal(folder.journal, in_thread),
        task_types=offered_types(settings["allow_code"], plugins.targets),
        plugins=plugins,
        boot_s=seconds_since_boot,
        utc=utc_now,
        reached=failpoints.armed("worker", os.environ, die),
        isolation=proof,
    )
    executor.listener, executor.folders, agent.spool.files = agent, files, files
    executor.checkpoints = Checkpoints(
        lambda level: (fences.fence(level).folder if level >= FENCED else folder.path) / "checkpoints",
        fences.owner_of,
        time.time,
        in_thread,
        settings["checkpoint_days"] * DAY_S,
        settings["checkpoint_bytes"],
    )
    own_load = OwnLoad(lambda: usage_of(os.getpid()), lambda: executor.active, cpus.had, time.monotonic)

    def limit_cpus(share: float | None) -> bool:
        """True if the device offers something else by it."""
        before = cpus.count
        cpus.limit(share)
        executor.slots = settings["slots"] or platform.default_slots(cpus.count)
        return cpus.count != before

    def read_for_policy() -> Mapping[str, Any]:
        return {**monitor.read(POLICY), OWN_LOAD: own_load.measure()}

    comfort = Comfort(
        reactor,
        agent,
        _policy(settings),
        lambda: in_thread(read_for_policy),
        local_time,
        limit_cpus,
        settings["monitor_interval_s"],
        monitor.pending,
        ComfortMemory(folder.comfort, time.time),
    )
    monitor.on_answer = lambda: reactor.callFromThread(comfort.answered)
    registrar = Registrar(
        reactor,
        agent,
        device_id,
        profile=lambda: in_thread(lambda: register_data(profiler, agent, settings, benchmark.speed, cpus)),
        metrics=lambda: in_thread(lambda: read_metrics(monitor, low_disk)),
        utc=utc_now,
        random=random,
        backoff=backoff,
        on_shutdown=reactor.stop,
        comfort=comfort,
        home=Home(folder.home, auto=where is None),
    )
    comfort.offer_anew = registrar.offer_anew
    way = _endpoint(registrar, where, folder)
    client = ClientService(way, WorkerFactory(registrar), retryPolicy=backoff, clock=reactor)
    sleep = idle_sleep(settings, registrar, client, lambda: in_thread(monitor.read), reactor)
    return WorkerService(folder, agent, registrar, client, settings["drain_s"], seconds_since_boot, fences, sleep)


def _endpoint(registrar: Registrar, where: Where, folder: DataFolder) -> IStreamClientEndpoint:
    """The way to the main: its address, or by a join string, or (None) wherever the network says that it is."""
    assert registrar.home is not None
    registrar.home.load()
    ways = Ways(registrar.reactor, Keys(folder.path))
    if ways.keys.here:
        ways.keys.identity()  # what is wrong with them is better said now

    def joined(device_id: str) -> None:
        folder.keep_device_id(device_id)
        registrar.device_id = device_id

    if isinstance(where, JoinString):
        return ByString(ways, where, lambda: registrar.device_id, joined)
    if where is not None:
        return ways.to(where)
    return FoundMain(registrar.home, Discovery(registrar.reactor), ways.to)


def _executor(
    settings: Mapping[str, Any],
    platform: Platform,
    fences: Fences,
    plugins: Plugins,
    level: int,
    reactor: Any,
) -> TaskExecutor:
    return TaskExecutor(
        reactor,
        start_runner=lambda process, level: process.start(reactor, fences.runner(level)),
        slots=settings["slots"] or platform.default_slots(cpu_count() or 1),
        options={"http_allow_private": True} if settings["http_allow_private"] else {},
        entry_points=plugins.targets,
        warm_tasks=settings["warm_tasks"],
        level=level,
        kill_rest=fences.kill_rest,
        device_limits=settings["limits"],
    )


def proved(fences: Fences, folder: DataFolder, wanted: int | None) -> Proof:
    """What isolation holds here. Raises ClusterError bad_config where the owner wants more than that."""
    proof = fences.cached(folder.fences)
    if wanted is not None and wanted > proof.level:
        raise ClusterError("bad_config", f"isolation: {proof.why_not(wanted)}")
    return proof


def _policy(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner's policy. Raises ClusterError bad_config for a time zone that is not known here."""
    policy: Mapping[str, Any] = settings["policy"] or {}
    try:
        local_time(policy.get("zone"))
    except (LookupError, ValueError, OSError):
        hint = "write for example Europe/Berlin; if this device has no time zones at all: pip install tzdata"
        raise ClusterError("bad_config", f"policy.zone: {policy['zone']!r} is not known here; {hint}") from None
    return policy


def idle_sleep(
    settings: Mapping[str, Any],
    registrar: Registrar,
    client: ClientService,
    read: Callable[[], Awaitable[Mapping[str, Any]]],
    reactor: Any,
) -> IdleSleep | None:
    """What puts an idle device to sleep; None where its owner has named no command."""
    if not settings["idle_sleep_command"]:
        return None
    agent = registrar.agent

    async def owner_away_s() -> float | None:
        return (await read()).get("owner_away_s")

    return IdleSleep(
        reactor,
        settings["idle_sleep_command"],
        settings["idle_sleep_after_s"],
        busy=lambda: bool(agent.held()),
        activity=lambda: agent.last_activity,
        owner_away_s=owner_away_s,
        line=WorkerLine(registrar, client),
        run=lambda command: run_command(reactor, command, os.environ),
    )


def local_time(zone: str | None) -> datetime.datetime:
    """What a clock on the wall shows now in a zone; None: where this device is."""
    if zone is None:
        return datetime.datetime.fromtimestamp(time.time()).astimezone()
    return datetime.datetime.fromtimestamp(time.time(), ZoneInfo(zone))


def die() -> None:
    """End as a crash ends a process: nothing is flushed, nothing is said."""
    os.kill(os.getpid(), signal.SIGKILL)


def read_metrics(monitor: SystemMonitor, low_disk: LowDisk) -> dict[str, Any]:
    """The metrics of a heartbeat. Where the disk is low, room is made. Called in a thread."""
    found = monitor.read()
    low_disk.heed(found.get("problems", ()))
    return found


def seconds_since_boot() -> float:
    """As process start times count: sleep included, where the system can tell."""
    if not hasattr(time, "clock_gettime"):  # Windows, where this clock counts from the start of the device
        return time.monotonic()
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def utc_now() -> str:
    """The time of day as the wire writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


__all__ = ["Options", "makeService"]
