"""A cluster of real processes on this machine: one main node and some workers, started and stopped together."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.task import deferLater

from retirecluster.client.api import ClusterApi
from retirecluster.client.processes import Child, start_child, stop_children
from retirecluster.client.settings import TOKEN_FILE
from retirecluster.client.twistd import twistd
from retirecluster.domain.errors import ClusterError

DEFAULT_PORT, DEFAULT_WEB_PORT = 8080, 5000
LOOPBACK = "127.0.0.1"
START_S = 40.0
"""How long the main, and then the workers, may take to be there. Old devices import slowly."""
WORKER_GRACE_S = 15.0
"""More than a worker's own drain deadline of 10 s, so that it can still tell the main what became of its tasks."""
MAIN_GRACE_S = 10.0
_LOOK_AGAIN_S = 0.1
_FIRST_RESTART_S, _LONGEST_RESTART_S = 1.0, 30.0
_STEADY_S = 60.0
"""A worker that lived this long starts again without the pause that earlier deaths have earned."""


@frozen
class WorkerProfile:
    """What a local worker says it is. None: what it really is."""

    device_id: str
    role: str | None = None
    slots: int = 1
    tags: tuple[str, ...] = ()
    platform: str | None = None
    memory_gb: float | None = None

    def options(self) -> list[str]:
        """The profile as options of `twistd retire-worker`."""
        options = ["--device-id", self.device_id, "--slots", str(self.slots)]
        for flag, value in (("--role", self.role), ("--platform", self.platform), ("--memory-gb", self.memory_gb)):
            if value is not None:
                options += [flag, str(value)]
        for tag in self.tags:
            options += ["--tag", tag]
        return options


@define
class _Worker:
    """A worker that is kept alive."""

    profile: WorkerProfile
    child: Child | None = None
    started_at: float = 0.0
    deaths: int = 0
    start_again_at: float = 0.0


def free_port(wanted: int, host: str = LOOPBACK) -> int:
    """`wanted` if it is free, else a port that is. Raises OSError for an address that is not here."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                if port == 0:
                    raise
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("port 0 always binds or raises")


@define
class LocalCluster:
    """The processes of one cluster. `folder` is the main's data folder; workers and logs are inside it.

    `say` is told in words what happens to processes. stop() in the end, whatever happened.
    """

    reactor: Any
    folder: Path
    profiles: list[WorkerProfile]
    environ: Mapping[str, str] = field(repr=False)
    say: Callable[[str], None] = field(repr=False)
    port: int = DEFAULT_PORT
    web_port: int = DEFAULT_WEB_PORT
    host: str = LOOPBACK
    _main: Child | None = field(default=None, init=False)
    _workers: list[_Worker] = field(factory=list, init=False)

    @property
    def reachable_host(self) -> str:
        """The address by which this machine reaches its own main."""
        return LOOPBACK if self.host in ("0.0.0.0", "") else "::1" if self.host == "::" else self.host

    @property
    def server(self) -> str:
        """The base URL of the web port."""
        host = self.reachable_host
        return f"http://[{host}]:{self.web_port}" if ":" in host else f"http://{host}:{self.web_port}"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def token_path(self) -> Path:
        return self.folder / TOKEN_FILE

    def open_api(self) -> ClusterApi:
        """A client with the admin token; whoever opens it closes it."""
        return ClusterApi(self.server, self.token_path.read_text("utf-8").strip(), reactor=self.reactor)

    async def start(self) -> None:
        """Start the main, then the workers; returns when all are online. ClusterError if one is not."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [*twistd(), "-n", "--pidfile=", "retire-main", "--data-dir", str(self.folder), "--host", self.host]
        # Its workers are on this machine, and have no join strings.
        command += ["--port", str(self.port), "--web-port", str(self.web_port), "--tls", "off"]
        self._main = start_child("the main node", command, self.logs / "main.log", self._child_environ())
        api = ClusterApi(self.server, reactor=self.reactor, request_timeout_s=5.0)
        try:
            await self._until(lambda: self._healthy(api), "the main node does not answer")
            for profile in self.profiles:
                worker = _Worker(profile)
                self._workers.append(worker)
                self._start_worker(worker)
            await self._until(lambda: self._all_online(api), "not all workers came online")
        finally:
            await api.close()

    async def stop(self) -> None:
        """Stop the workers, then the main; nothing of them is left."""
        workers = [worker.child for worker in self._workers if worker.child is not None]
        mains = [self._main] if self._main is not None else []
        self._workers, self._main = [], None
        try:
            killed = await stop_children(self.reactor, workers, WORKER_GRACE_S)
        finally:
            # Also where the waiting was cancelled: then this one kills at once too.
            killed_mains = await stop_children(self.reactor, mains, MAIN_GRACE_S)
        for child in [*killed, *killed_mains]:
            self.say(f"{child.name} did not stop in time and was killed")

    async def tend(self) -> None:
        """Start workers that died again, for ever. ClusterError when the main is gone."""
        while True:
            self._check_main()
            for worker in self._workers:
                self._tend_worker(worker)
            await deferLater(self.reactor, 0.5)

    def _tend_worker(self, worker: _Worker) -> None:
        now = self.reactor.seconds()
        child = worker.child
        if child is not None and child.exit_code is not None:
            worker.deaths = 1 if now - worker.started_at > _STEADY_S else worker.deaths + 1
            pause_s = min(_FIRST_RESTART_S * 2 ** (worker.deaths - 1), _LONGEST_RESTART_S)
            worker.child, worker.start_again_at = None, now + pause_s
            self.say(f"{child.name} ended with {child.how()}; it starts again in {pause_s:g} s (log: {child.log})")
        elif child is None and now >= worker.start_again_at:
            self._start_worker(worker)
            self.say(f"{worker.profile.device_id} started again")

    def _start_worker(self, worker: _Worker) -> None:
        profile = worker.profile
        host = self.reachable_host
        join = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        folder = self.folder / "workers" / profile.device_id
        command = [*twistd(), "-n", "--pidfile=", "retire-worker", "--join", join, "--data-dir", str(folder)]
        log = self.logs / f"{profile.device_id}.log"
        worker.child = start_child(profile.device_id, [*command, *profile.options()], log, self._child_environ())
        worker.started_at = self.reactor.seconds()

    def _child_environ(self) -> dict[str, str]:
        """The environment without settings that mean this program, or would override the options given here."""
        return {name: value for name, value in self.environ.items() if not name.startswith("RETIRE_CLUSTER_")}

    def _check_main(self) -> None:
        if self._main is not None and self._main.exit_code is not None:
            raise ClusterError("unreachable", f"the main node ended: {self._main.how_it_ended()}")

    async def _until(self, condition: Callable[[], Any], complaint: str) -> None:
        until = self.reactor.seconds() + START_S
        while not await condition():
            self._check_main()
            for worker in self._workers:
                if worker.child is not None and worker.child.exit_code is not None:
                    raise ClusterError("unreachable", f"{worker.child.name} ended: {worker.child.how_it_ended()}")
            if self.reactor.seconds() > until:
                raise ClusterError("timeout", f"{complaint} within {START_S:g} s; the logs are in {self.logs}")
            await deferLater(self.reactor, _LOOK_AGAIN_S)

    async def _healthy(self, api: ClusterApi) -> bool:
        try:
            await api.health()
        except ClusterError as error:
            if error.code in ("unreachable", "shutting_down", "store_busy"):
                return False
            raise
        return self.token_path.exists()

    async def _all_online(self, api: ClusterApi) -> bool:
        wanted = {profile.device_id for profile in self.profiles}
        return wanted <= {each["device_id"] for each in await api.devices() if each["status"] == "online"}
