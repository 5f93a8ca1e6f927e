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
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from random import Random
from typing import Any

from attrs import define, field, frozen
from twisted.application.internet import ClientService
from twisted.application.service import IService, Service
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from retirecluster.config import load_config
from retirecluster.domain import failpoints
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.task_types import BUILT_IN
from retirecluster.options import DaemonOptions
from retirecluster.platforms.base import Platform
from retirecluster.platforms.choose import choose_platform
from retirecluster.wire.messages import PROTOCOL_VERSION
from retirecluster.worker.agent import PREFETCH, Agent
from retirecluster.worker.connection import Backoff, Registrar, WorkerFactory
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.executor import TaskExecutor
from retirecluster.worker.journal import Journal
from retirecluster.worker.leftovers import kill_leftovers
from retirecluster.worker.monitor import SystemMonitor
from retirecluster.worker.probe import Found, probe
from retirecluster.worker.profiler import DeviceProfiler, Overrides, cpu_count
from retirecluster.worker.runner.__main__ import NO_FORK
from retirecluster.worker.runner_process import RunnerSettings, task_variables
from retirecluster.worker.speed import cached_speed

DEFAULT_PORT = 8080
ISOLATION = 1
"""Own process group, resource limits, clean environment, private folder; see the security page."""


class Options(DaemonOptions):
    """What `twistd retire-worker` takes. Everything may also stand in a JSON file or in RETIRE_CLUSTER_*."""

    command = "retire-worker"
    optParameters = [
        ["join", "j", None, "The main node: HOST or HOST:PORT."],
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


@frozen
class Address:
    """Where the main is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """`host`, `host:port`, `[v6]:port` or a bare IPv6 address. Raises ClusterError bad_config."""
    host, port = text, str(DEFAULT_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, port = text.split(":")
    elif ":" in text and not isIPv6Address(text):
        host = ""
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError("bad_config", f"join: {text!r} is no address; write HOST or HOST:PORT")
    return Address(host, int(port))


@define(eq=False)
class WorkerService(Service):
    """Starts and stops the parts in the right order."""

    folder: DataFolder
    agent: Agent
    registrar: Registrar
    client: ClientService
    drain_s: float
    boot_s: Callable[[], float]
    log = Logger()
    _stopping: Deferred[None] | None = field(default=None, init=False)

    def startService(self) -> None:
        Service.startService(self)
        found = self.agent.journal.open()
        killed = kill_leftovers(found.values(), self.boot_s())
        if killed:
            self.log.warn("{count} processes of an earlier life were killed", count=len(killed))
        self.agent.remember(found)
        self.agent.executor.start()
        self.client.startService()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await self.agent.shut_down(self.drain_s)
        if self.registrar.connection is not None:
            self.registrar.connection.leave("worker stopped")
        await self.client.stopService()
        await self.agent.executor.stop()
        self.agent.journal.close()
        self.folder.close()


class TestService(Service):
    """`--test`: asks once, prints, and ends the program."""

    __test__ = False

    def __init__(self, address: Address) -> None:
        self._address = address
        self.exit_code: int | None = None

    def startService(self) -> None:
        from twisted.internet import reactor

        Service.startService(self)
        reactor.callWhenRunning(lambda: ensureDeferred(self._run(reactor)))

    async def _run(self, reactor: Any) -> None:
        try:
            found = await probe(reactor, HostnameEndpoint(reactor, self._address.host, self._address.port))
            # Not sys.stdout: by now that is the log.
            print(describe(self._address, found), file=sys.__stdout__, flush=True)
            self.exit_code = 0
        except ClusterError as error:
            hint = "is retire-main running there, and does it listen beyond 127.0.0.1?"
            print(f"no main at {self._address}: {error.message}; {hint}", file=sys.__stderr__, flush=True)
            self.exit_code = error.kind.exit_code
        reactor.addSystemEventTrigger("after", "shutdown", lambda: os._exit(self.exit_code or 0))
        reactor.stop()


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
        address = read_address(settings["join"])
        if options["test"]:
            return TestService(address)
        return _wire(settings, address, reactor)
    except ClusterError as error:
        print(f"retire-worker: {error.message}", file=sys.stderr)
        sys.exit(2)


def _wire(settings: Mapping[str, Any], address: Address, reactor: Any) -> WorkerService:
    if not hasattr(os, "fork"):
        raise ClusterError("bad_config", NO_FORK)
    random, backoff = Random(), Backoff(Random())
    platform = choose_platform(os.environ)
    folder = DataFolder(settings["data_dir"])
    folder.open()
    device_id = settings["device_id"] or folder.device_id(socket.gethostname(), random)

    def in_thread(function: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)

    monitor = SystemMonitor(platform, folder.path, time.monotonic)
    profiler = DeviceProfiler(
        platform,
        folder.path,
        settings["role"] or platform.default_role,
        Overrides(settings["platform"], settings["memory_gb"]),
        monitor.read,
    )
    executor = _executor(settings, platform, folder, device_id, reactor)
    agent = Agent(
        reactor,
        executor,
        Journal(folder.journal, in_thread),
        task_types=offered_types(settings["allow_code"], executor.entry_points),
        boot_s=seconds_since_boot,
        utc=utc_now,
        reached=failpoints.armed("worker", os.environ, die),
    )
    executor.listener = agent
    speed = cached_speed(folder.speed, python_platform.python_version(), time.time(), time.monotonic)
    registrar = Registrar(
        reactor,
        agent,
        device_id,
        profile=lambda: register_data(profiler, agent, settings, speed),
        metrics=lambda: in_thread(monitor.read),
        utc=utc_now,
        random=random,
        backoff=backoff,
        on_shutdown=reactor.stop,
    )
    endpoint = HostnameEndpoint(reactor, address.host, address.port)
    client = ClientService(endpoint, WorkerFactory(registrar), retryPolicy=backoff, clock=reactor)
    return WorkerService(folder, agent, registrar, client, settings["drain_s"], seconds_since_boot)


def _executor(
    settings: Mapping[str, Any], platform: Platform, folder: DataFolder, device_id: str, reactor: Any
) -> TaskExecutor:
    variables = task_variables(os.environ, platform.task_variables)
    runner = RunnerSettings(str(folder.scratch), variables | {"RETIRE_DEVICE_ID": device_id})
    return TaskExecutor(
        reactor,
        start_runner=lambda process: process.start(reactor, runner),
        slots=settings["slots"] or platform.default_slots(cpu_count() or 1),
        options={"http_allow_private": True} if settings["http_allow_private"] else {},
        entry_points=plugin_types(),
    )


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
        "isolation": ISOLATION,
        "speed": speed,
        "tags": list(settings["tags"]),
        "labels": dict(settings["labels"]),
    }


def plugin_types() -> dict[str, str]:
    """Task types of installed packages: name and `module:attribute`."""
    return {each.name: each.value for each in entry_points(group="retirecluster.task_types")}


def offered_types(allow_code: bool, plugins: Mapping[str, str]) -> frozenset[str]:
    """What this device runs: types that run a submitter's code only if its owner allows it."""
    return frozenset(name for name, each in BUILT_IN.items() if allow_code or not each.runs_code) | frozenset(plugins)


def seconds_since_boot() -> float:
    """As process start times count: sleep included, where the system can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def utc_now() -> str:
    """The time of day as the wire writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


__all__ = ["Options", "makeService"]
