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
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from attrs import define, field
from twisted.application.internet import ClientService
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from retirecluster.config import load_config
from retirecluster.domain import failpoints
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.requirements import PICKLED
from retirecluster.domain.task_types import BUILT_IN
from retirecluster.options import DaemonOptions
from retirecluster.platforms.base import Platform
from retirecluster.platforms.choose import choose_platform
from retirecluster.platforms.psutil_probes import PsutilProbes, find_psutil
from retirecluster.wire.messages import PROTOCOL_VERSION
from retirecluster.worker.agent import PREFETCH, Agent
from retirecluster.worker.cgroup_tree import find_tree
from retirecluster.worker.checkpoints import DAY_S, Checkpoints
from retirecluster.worker.connection import Backoff, Registrar, WorkerFactory
from retirecluster.worker.cpu_share import CpuShare
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.discovery import Discovery, FoundMain
from retirecluster.worker.executor import TaskExecutor
from retirecluster.worker.fences import FENCED, PLAIN, Fences, Proof
from retirecluster.worker.files.folders import task_folders
from retirecluster.worker.home import AUTO, Address, Home, read_address
from retirecluster.worker.idle_sleep import IdleSleep, WorkerLine, run_command
from retirecluster.worker.journal import Journal
from retirecluster.worker.leftovers import kill_leftovers
from retirecluster.worker.low_disk import LowDisk
from retirecluster.worker.monitor import POLICY, SystemMonitor
from retirecluster.worker.plugins import Plugins, find_plugins
from retirecluster.worker.policy import Comfort
from retirecluster.worker.probe import Found, probe
from retirecluster.worker.profiler import DeviceProfiler, Overrides, cpu_count
from retirecluster.worker.runner_process import task_variables
from retirecluster.worker.speed import cached_benchmark

CLEAN_CHECKPOINTS_S = 6 * 3600.0


class Options(DaemonOptions):
    """What `twistd retire-worker` takes. Everything may also stand in a JSON file or in RETIRE_CLUSTER_*."""

    command = "retire-worker"
    optParameters = [
        ["join", "j", None, "The main node: HOST or HOST:PORT; auto: find it on the local network."],
        ["data-dir", "d", None, "Folder of the journal and the tasks' scratch folders."],
        ["device-id", None, None, "Name of this device in the cluster; else one is made and kept."],
        ["role", None, None, "worker, compute, mobile, storage, nas, or a role of your own."],
        ["slots", None, None, "Tasks that run at the same time."],
        ["config", "c", None, "JSON file with settings."],
        ["platform", None, None, "Announce this platform instead of the real one (for demonstrations)."],
        ["memory-gb", None, None, "Announce this much memory, in GiB (for demonstrations)."],
    ]
    optFlags = [["test", None, "Connect, say what answers, and leave: exit code 0 if a main is there."]]

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


@define(eq=False)
class WorkerService(Service):
    """Starts and stops the parts in the right order."""

    folder: DataFolder
    agent: Agent
    registrar: Registrar
    client: ClientService
    drain_s: float
    boot_s: Callable[[], float]
    fences: Fences | None = None
    sleep: IdleSleep | None = None
    log = Logger()
    _stopping: Deferred[None] | None = field(default=None, init=False)
    _cleaning: IDelayedCall | None = field(default=None, init=False)

    def startService(self) -> None:
        Service.startService(self)
        found = self.agent.journal.open()
        killed = kill_leftovers(found.values(), self.boot_s())
        if self.fences is not None:
            self.fences.kill_leftovers()
        if killed:
            self.log.warn("{count} processes of an earlier life were killed", count=len(killed))
        if self.agent.files is not None:
            self.agent.files.open()
        self.agent.remember(found)
        self.agent.executor.start()
        self._clean_checkpoints()
        if self.registrar.comfort is not None:
            self.registrar.comfort.start()
        if self.sleep is not None:
            self.sleep.start()
        self.client.startService()

    def _clean_checkpoints(self) -> None:
        """Now and every few hours: what is old goes, and the oldest of what is too much."""
        checkpoints = self.agent.executor.checkpoints
        if checkpoints is not None:
            checkpoints.clean().addErrback(lambda failure: self.log.failure("checkpoints are not cleaned", failure))
            self._cleaning = self.agent.reactor.callLater(CLEAN_CHECKPOINTS_S, self._clean_checkpoints)

    def stopService(self) -> Deferred[None]:
        if self._cleaning is not None:
            self._cleaning.cancel()
            self._cleaning = None
        Service.stopService(self)
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        if self.registrar.comfort is not None:
            self.registrar.comfort.stop()
        if self.sleep is not None:
            self.sleep.stop()
        delivered = await self.agent.shut_down(self.drain_s)
        if self.registrar.connection is not None:
            self.registrar.connection.leave("worker stopped", returning=not delivered)
        await self.client.stopService()
        await self.agent.executor.stop()
        if self.fences is not None:
            self.fences.tidy()
        if self.agent.files is not None:
            await self.agent.files.close()
        self.agent.journal.close()
        self.folder.close()


class TestService(Service):
    """`--test`: asks once, prints, and ends the program. Without an address, asks the network where a main is."""

    __test__ = False

    def __init__(self, data_dir: str, address: Address | None) -> None:
        self._home = Home(DataFolder(data_dir).home, auto=address is None)
        self._address = address
        self.exit_code: int | None = None

    def startService(self) -> None:
        from twisted.internet import reactor

        Service.startService(self)
        reactor.callWhenRunning(lambda: ensureDeferred(self._run(reactor)))

    async def _run(self, reactor: Any) -> None:
        try:
            # Not sys.stdout: by now that is the log.
            print(await self._ask(reactor), file=sys.__stdout__, flush=True)
            self.exit_code = 0
        except ClusterError as error:
            print(error.message, file=sys.__stderr__, flush=True)
            self.exit_code = error.kind.exit_code
        reactor.addSystemEventTrigger("after", "shutdown", lambda: os._exit(self.exit_code or 0))
        reactor.stop()

    async def _ask(self, reactor: Any) -> str:
        """What answers. Raises ClusterError."""
        if self._address is not None:
            return await _answer(reactor, self._address)
        self._home.load()
        why = ""
        for each in await Discovery(reactor).find(self._home.cluster_id):
            try:
                answer = await _answer(reactor, Address(each.address, each.port))
                return f"heard of {each}; nobody vouches for it\n{answer}"
            except ClusterError as error:
                why = error.message
        raise ClusterError("unreachable", why)


async def _answer(reactor: Any, address: Address) -> str:
    try:
        return describe(address, await probe(reactor, HostnameEndpoint(reactor, address.host, address.port)))
    except ClusterError as error:
        hint = "is retire-main running there, and does it listen beyond 127.0.0.1?"
        raise ClusterError(error.code, f"no main at {address}: {error.message.rstrip('.')}; {hint}") from None


def describe(address: Address, found: Found) -> str:
    """What `--test` prints."""
    return (
        f"main {found.server_id} at {address} answers: protocol version {found.protocol_version}, "
        f"authentication {found.auth}\n"
        f"round trip {1000 * found.round_trip_s:.1f} ms"
    )


def makeService(options: Options) -> IService:
    """The worker as one service. A mistake in the settings is one line on standard error and exit status 2."""
    from twisted.internet import reactor

    # Timers follow a clock that never jumps: a phone or a Pi sets its wall clock by hours once it is online.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    try:
        settings = options.settings(os.environ)
        address = None if settings["join"] == AUTO else read_address(settings["join"])
        if options["test"]:
            return TestService(settings["data_dir"], address)
        return _wire(settings, address, reactor)
    except ClusterError as error:
        print(f"retire-worker: {error.message}", file=sys.stderr)
        sys.exit(2)


def _wire(settings: Mapping[str, Any], address: Address | None, reactor: Any) -> WorkerService:
    random, backoff = Random(), Backoff(Random())
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
    )
    cpus = CpuShare()
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
    executor.listener, executor.folders, agent.files = agent, files, files
    executor.checkpoints = Checkpoints(
        lambda level: (fences.fence(level).folder if level >= FENCED else folder.path) / "checkpoints",
        fences.owner_of,
        time.time,
        in_thread,
        settings["checkpoint_days"] * DAY_S,
        settings["checkpoint_bytes"],
    )
    comfort = _comfort(settings, agent, cpus, lambda: in_thread(lambda: monitor.read(POLICY)), reactor)
    if settings["slots"] is None:
        executor.slots = min(executor.slots, platform.default_slots(cpus.count))
    registrar = Registrar(
        reactor,
        agent,
        device_id,
        profile=lambda: register_data(profiler, agent, settings, benchmark.speed),
        metrics=lambda: in_thread(lambda: read_metrics(monitor, low_disk)),
        utc=utc_now,
        random=random,
        backoff=backoff,
        on_shutdown=reactor.stop,
        comfort=comfort,
        home=Home(folder.home, auto=address is None),
    )
    client = ClientService(_endpoint(registrar, address), WorkerFactory(registrar), retryPolicy=backoff, clock=reactor)
    sleep = idle_sleep(settings, registrar, client, lambda: in_thread(monitor.read), reactor)
    return WorkerService(folder, agent, registrar, client, settings["drain_s"], seconds_since_boot, fences, sleep)


def _endpoint(registrar: Registrar, address: Address | None) -> IStreamClientEndpoint:
    """The way to the main: its address, or (None) wherever the network says that it is."""
    assert registrar.home is not None
    registrar.home.load()
    if address is not None:
        return HostnameEndpoint(registrar.reactor, address.host, address.port)
    discovery = Discovery(registrar.reactor)
    return FoundMain(registrar.home, discovery, lambda at: HostnameEndpoint(registrar.reactor, at.host, at.port))


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


def _comfort(
    settings: Mapping[str, Any],
    agent: Agent,
    cpus: CpuShare,
    read: Callable[[], Awaitable[Mapping[str, Any]]],
    reactor: Any,
) -> Comfort:
    """What has the device work or pause. Raises ClusterError bad_config for a time zone that is not known here."""
    policy = settings["policy"] or {}
    try:
        local_time(policy.get("zone"))
    except (LookupError, ValueError, OSError):
        hint = "write for example Europe/Berlin; if this device has no time zones at all: pip install tzdata"
        raise ClusterError("bad_config", f"policy.zone: {policy['zone']!r} is not known here; {hint}") from None
    executor = agent.executor

    def limit_cpus(share: float | None) -> None:
        runners = [executor.runner_pid_of(level) for level in range(4)]
        cpus.limit(share, [pid for pid in runners if pid is not None])

    return Comfort(reactor, agent, policy, read, local_time, limit_cpus, settings["monitor_interval_s"])


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


def register_data(profiler: DeviceProfiler, agent: Agent, settings: Mapping[str, Any], speed: float) -> dict[str, Any]:
    """The data of the register message, all but the attempts."""
    return {
        "device_info": profiler.get_system_info(),
        "hardware_specs": profiler.get_hardware_specs(),
        "capabilities": profiler.detect_capabilities(),
        "protocol_version": PROTOCOL_VERSION,
        "slots": agent.executor.slots,
        "prefetch": PREFETCH,
        "task_types": sorted(agent.task_types),
        "task_schemas": agent.plugins.documents(),
        "isolation": agent.isolation.level,
        "fences": {
            "layers": list(agent.isolation.layers),
            "missing": dict(agent.isolation.missing),
            "default": agent.executor.level,
            "limits": dict(agent.executor.device_limits),
        },
        "speed": speed,
        "tools": profiler.tools(),
        "sources": profiler.sources(),
        "tags": list(settings["tags"]),
        "labels": dict(settings["labels"]),
        "wake_on_lan": settings["wake_on_lan"],
    }


def read_metrics(monitor: SystemMonitor, low_disk: LowDisk) -> dict[str, Any]:
    """The metrics of a heartbeat. Where the disk is low, room is made. Called in a thread."""
    found = monitor.read()
    low_disk.heed(found.get("problems", ()))
    return found


def offered_types(allow_code: bool, plugins: Mapping[str, str]) -> frozenset[str]:
    """What this device runs: types that run a submitter's code only if its owner allows it."""
    offered = {name for name, each in BUILT_IN.items() if allow_code or not each.runs_code}
    if find_spec("cloudpickle") is None:
        offered.discard(PICKLED)
    return frozenset(offered) | frozenset(plugins)


def seconds_since_boot() -> float:
    """As process start times count: sleep included, where the system can tell."""
    if not hasattr(time, "clock_gettime"):  # Windows, where this clock counts from the start of the device
        return time.monotonic()
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def utc_now() -> str:
    """The time of day as the wire writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


__all__ = ["Options", "makeService"]
