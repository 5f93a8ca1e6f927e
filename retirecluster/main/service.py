"""`twistd retire-main`: options, and the wiring of the main node.

The one module of this room that touches the real clock and the global reactor.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

from attrs import define, evolve
from twisted.application.service import MultiService
from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorCore
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.config import load_config
from retirecluster.daemon import Reporter, reporter, stop_once
from retirecluster.domain import failpoints
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.history import History
from retirecluster.domain.join_string import MAX_HOSTS
from retirecluster.domain.scheduler import Assign, Moment, Scheduler, Settings, Turn
from retirecluster.domain.scheduler.scoring import STRATEGIES
from retirecluster.main.access import LINK_S, Access, login_link
from retirecluster.main.beacon import Beacon
from retirecluster.main.cleaning import DAY_S, Cleaner
from retirecluster.main.cluster import Cluster
from retirecluster.main.device_tokens import DeviceTokens
from retirecluster.main.events import EventBus
from retirecluster.main.figures import Figures
from retirecluster.main.file_store import FileStore, Quotas
from retirecluster.main.health import Health
from retirecluster.main.heartbeat import HeartbeatMonitor
from retirecluster.main.histories import HistoryFile
from retirecluster.main.household import Household
from retirecluster.main.lag import LagMeter
from retirecluster.main.limits import Limits
from retirecluster.main.outputs import OutputBoard
from retirecluster.main.registry import DeviceRegistry
from retirecluster.main.requests import ClientRequests
from retirecluster.main.scheduler import TaskScheduler
from retirecluster.main.server import ClusterServer
from retirecluster.main.space import Reserve, Space
from retirecluster.main.strangers import Strangers
from retirecluster.main.task_files import TaskFiles
from retirecluster.main.tokens import AdminToken
from retirecluster.main.turns import Turns
from retirecluster.main.waker import Waker
from retirecluster.options import DaemonOptions
from retirecluster.store.access import load_access_txn
from retirecluster.store.admission import certificates_txn
from retirecluster.store.database import Database
from retirecluster.store.folder import DataFolder
from retirecluster.store.household import load_txn
from retirecluster.store.writes import WriteSet
from retirecluster.web.service import make_site
from retirecluster.wire.beacon import Announcement
from retirecluster.wire.multicast import interface_addresses

if TYPE_CHECKING:
    from retirecluster.main.admission import Admission

log = Logger()
STORE_FAILED_STATUS = 74
"""Exit status when the database could not be written (EX_IOERR of sysexits.h)."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Options(DaemonOptions):
    """The command line; what is not given comes from the environment, the file, and the defaults."""

    command = "retire-main"
    synopsis = "[options]"
    longdesc = "The main node: takes in tasks, places them on workers, and shows what happens."
    optParameters = [
        ["data-dir", "d", None, "Folder of the database, the admin token and the logs."],
        ["host", None, None, "Address that both ports listen on."],
        ["port", "p", None, "TCP port for workers (0: a free one)."],
        ["web-port", "w", None, "TCP port for the web API and the dashboard (0: a free one)."],
        ["config", "c", None, "JSON file with settings; see retire-cluster init main."],
        ["tls", None, None, "auto, on or off: encrypt both ports; auto: beyond loopback."],
        ["log-level", None, None, "debug, info, warn or error."],
    ]
    optFlags = [["trusted-network", None, "Allow listening beyond loopback without TLS and authentication."]]

    def settings(self, environ: Any = os.environ) -> dict[str, Any]:
        """All layers together. Raises ClusterError bad_config."""
        given = {
            "data_dir": self["data-dir"],
            "host": self["host"],
            "port": self["port"],
            "web_port": self["web-port"],
            "tls": self["tls"],
            "log_level": self["log-level"],
            "trusted_network": True if self["trusted-network"] else None,
        }
        return load_config("main", given, environ, self["config"])


def wall_moment() -> Moment:
    """Now, on both clocks."""
    return Moment(time.monotonic(), time.time())


@define(eq=False)
class Rooms:
    """The main node wired together; the shape of the architecture's figure."""

    database: Database
    turns: Turns
    scheduler: Scheduler
    registry: DeviceRegistry
    desk: TaskScheduler
    heartbeat: HeartbeatMonitor
    server: ClusterServer
    cluster: Cluster
    events: EventBus
    token: AdminToken
    cleaner: Cleaner
    files: TaskFiles
    household: Household
    histories: HistoryFile
    waker: Waker
    lag: LagMeter
    admission: Admission | None
    access: Access

    @classmethod
    def build(
        cls,
        settings: dict[str, Any],
        reactor: Any,
        fatal: Any,
        moment: Any = wall_moment,
        reached: failpoints.Reached = failpoints.unarmed,
        open_database: Callable[..., Database] = Database.open,
        random: Random | None = None,
    ) -> Rooms:
        """Open the data folder and wire everything to it. Raises ClusterError bad_config."""
        folder = Path(settings["data_dir"])
        began = moment()
        space = Space(folder, settings["min_free_bytes"], reactor.seconds)
        reserve = Reserve(DataFolder(folder).reserve, settings["reserve_bytes"], space)
        reserve.help_start()
        database = open_database(folder, began, reactor, reached)
        token = AdminToken.load(folder)
        limits = Settings(
            lease_s=settings["lease_s"],
            offline_after_s=settings["offline_after_s"],
            failover_grace_s=settings["failover_grace_s"],
            max_tasks=settings["max_tasks"],
        )
        scheduler = Scheduler.create(limits, random or SystemRandom(), began)
        scheduler.queues.use(STRATEGIES[settings["placement"]])
        database.restore(scheduler, began)
        events, outputs, figures = EventBus(last_no=scheduler.ledger.last_event_no), OutputBoard(), Figures()

        def deliver(turn: Turn, writes: WriteSet) -> None:
            desk.turn_done(turn)
            events.publish_rows(writes.events)
            if any(isinstance(effect, Assign) for effect in turn.effects):
                reached(failpoints.AFTER_GRANT)
            server.deliver(turn.effects)
            for task in turn.ended:
                outputs.ended(task.task_id)

        if not reserve.make():
            log.warn("no room for the reserve of {size} bytes in {folder}", size=reserve.size_bytes, folder=folder)
        turns = Turns(
            scheduler, database, reactor, moment, deliver, fatal, reached, make_room=reserve.give_back, figures=figures
        )
        database.broken = turns.broken
        registry = DeviceRegistry(scheduler, turns, moment)
        files = _files(settings, database, scheduler, registry, reactor, moment)
        desk = TaskScheduler(scheduler, database, turns, moment, space, files, figures)
        tick_s = min(1.0, settings["offline_after_s"] / 4)
        histories = _histories(settings, reactor, moment)
        heartbeat = HeartbeatMonitor(
            scheduler, registry, turns, events, reactor, moment, histories.history, figures, tick_s
        )
        household = Household(database, scheduler, registry, turns, reactor, moment, settings["policy"])
        household.restore(*database.read_now(load_txn))
        wake = (settings[name] for name in ("wake_on_lan", "wake_broadcast", "wake_port"))
        waker = Waker(scheduler, turns, reactor, moment, *wake)
        connections = Limits(settings["max_connections"], settings["max_connections_per_peer"])
        lag = LagMeter(reactor, figures.lag_s)
        access = Access(token, database, scheduler, turns, reactor, moment)
        access.restore(*database.read_now(load_access_txn))
        admission = _admission(settings, database, registry, reactor, moment) if wants_tls(settings) else None
        cluster = Cluster(
            database,
            scheduler,
            desk,
            registry,
            heartbeat,
            outputs,
            events,
            reactor,
            moment,
            began,
            settings,
            household,
            waker,
            figures,
            Health(desk, lag, connections),
        )
        server = ClusterServer(
            server_id=database.cluster_id,
            registry=registry,
            scheduler=desk,
            heartbeat=heartbeat,
            outputs=outputs,
            events=events,
            requests=ClientRequests(cluster, token),
            household=household,
            limits=connections,
            heartbeat_interval_s=settings["heartbeat_interval_s"],
            task_limits=settings["task_limits"],
            clock=reactor,
            moment=moment,
            figures=figures,
            admission=admission,
        )
        cluster.admission = admission
        cleaner = Cleaner(
            scheduler=scheduler,
            database=database,
            reserve=reserve,
            files=files.store,
            strangers=Strangers(
                scheduler, heartbeat.history, turns, moment, settings["keep_unused_devices_days"] * DAY_S
            ),
            keep_tasks_s=settings["keep_tasks_days"] * DAY_S,
            keep_events=settings["keep_events"],
            clock=reactor,
            moment=moment,
        )
        return cls(
            database,
            turns,
            scheduler,
            registry,
            desk,
            heartbeat,
            server,
            cluster,
            events,
            token,
            cleaner,
            files,
            household,
            histories,
            waker,
            lag,
            admission,
            access,
        )


def _histories(settings: dict[str, Any], reactor: Any, moment: Any) -> HistoryFile:
    """The devices' histories, with what an earlier life kept."""

    def in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)

    path = DataFolder(Path(settings["data_dir"])).path / "history.bin"
    histories = HistoryFile(History(), path, reactor, moment, in_thread)
    histories.restore()
    return histories


def _files(
    settings: dict[str, Any],
    database: Database,
    scheduler: Scheduler,
    registry: DeviceRegistry,
    reactor: Any,
    moment: Any,
) -> TaskFiles:
    """The files of the data folder; folder and rows agree when this returns."""

    def in_thread(function: Any, *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function, *arguments)

    quotas = Quotas(settings["max_file_bytes"], settings["max_files_bytes"], settings["min_free_bytes"])
    store = FileStore(DataFolder(Path(settings["data_dir"])).files, database, in_thread, moment, quotas)
    store.restore()
    tokens = DeviceTokens(lambda device_id, session_no: registry.session(device_id, session_no) is not None)
    return TaskFiles(store, database, scheduler, tokens, moment)


class MainNode(MultiService):
    """The main node as a service: started, it listens on both ports; stopped, everything is on disk."""

    def __init__(
        self, settings: dict[str, Any], reactor: Any, reached: failpoints.Reached = failpoints.unarmed
    ) -> None:
        super().__init__()
        self.settings = settings
        self.reactor = reactor
        self.rooms = Rooms.build(settings, reactor, self._fatal, reached=reached)
        self.site = make_site(
            self.rooms.cluster,
            self.rooms.events,
            self.rooms.access,
            hosts=(settings["host"], *settings["allowed_hosts"]),
            trusted_network=settings["trusted_network"],
            clock=reactor,
        )
        self.ports: list[IListeningPort] = []
        self.beacon: Beacon | None = None
        self.reporter: Reporter | None = None
        self.failed = False

    @property
    def worker_port(self) -> int:
        """The port for workers; known once started."""
        return self.ports[0].getHost().port  # type: ignore[attr-defined]

    @property
    def web_port(self) -> int:
        """The port of the web; known once started."""
        return self.ports[1].getHost().port  # type: ignore[attr-defined]

    def startService(self) -> None:
        super().startService()
        settings, rooms, host = self.settings, self.rooms, self.settings["host"]
        # First, as it may fail: whoever connects is answered when the reactor runs, and threads would outlive an exit.
        for name, factory in zip(("port", "web_port"), self._factories(), strict=True):
            self.ports.append(_listen(self.reactor, settings[name], factory, host, name))
        for name, port in zip(("port", "web_port"), self.ports, strict=True):
            rooms.cluster.health_checks.listening[name] = partial(_is_open, port)
        rooms.files.port = self.web_port
        rooms.database.start()
        rooms.lag.start()
        rooms.heartbeat.start()
        rooms.cleaner.start()
        rooms.household.start()
        rooms.histories.start()
        rooms.waker.start()
        rooms.access.start()
        if wants_beacon(settings):
            self.beacon = _beacon(settings, rooms.database.cluster_id, self.worker_port, self.web_port, self.reactor)
            self.beacon.start()
        rooms.turns.ask()
        if self.reporter is not None:
            self.reporter.start()
        counts = rooms.scheduler.ledger.tasks
        log.info("cluster {id}, start {no}", id=rooms.database.cluster_id, no=rooms.database.incarnation)
        log.info("{tasks} tasks, {devices} devices restored", tasks=len(counts), devices=len(rooms.scheduler.devices))
        log.info("workers: {host}:{port}", host=host, port=self.worker_port)
        scheme = "http" if rooms.admission is None else "https"
        log.info("web: {scheme}://{host}:{port}/", scheme=scheme, host=host, port=self.web_port)
        self._say_who_gets_in()

    def _factories(self) -> tuple[IProtocolFactory, IProtocolFactory]:
        """What listens on the port for workers and on that of the web: behind TLS, where that is wanted."""
        admission = self.rooms.admission
        if admission is None:
            return self.rooms.server, self.site
        from retirecluster.main.tls_port import HTTP_IN_CLEAR, TlsPort, lines_in_clear

        admission.reach = evolve(admission.reach, port=lambda: self.worker_port)
        workers, web = admission.ports
        said = lines_in_clear(self.rooms.database.cluster_id)
        return (
            TlsPort(workers, self.rooms.server, said, self.reactor),
            TlsPort(web, self.site, HTTP_IN_CLEAR, self.reactor),
        )

    def _say_who_gets_in(self) -> None:
        if self.rooms.database.incarnation == 1:
            self._print_login_link()
        admission = self.rooms.admission
        if admission is not None:
            log.info("TLS: authority {hash}; devices: retire-cluster join-token", hash=admission.authority.hash)
        elif self.settings["host"] not in LOOPBACK:
            log.warn("trusted_network: no TLS, and whoever reaches {host} may run code", host=self.settings["host"])

    def stopService(self) -> Deferred[None]:
        return ensureDeferred(self._stop())

    def _print_login_link(self) -> None:
        """Once, and past the log: what it gives away is good for a short time, and for one browser."""
        admission = self.rooms.admission
        host, scheme = _hosts(self.settings)[0], "http" if admission is None else "https"
        origin = f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.web_port}"
        ca_hash = None if admission is None else admission.authority.hash
        link = login_link(origin, self.rooms.access.new_code(), ca_hash)
        minutes = LINK_S / 60
        print(f"Sign in within {minutes:.0f} minutes, once: {link}", file=sys.__stderr__)
        print("Another link: retire-cluster login-link", file=sys.__stderr__, flush=True)

    async def _stop(self) -> None:
        """Refuse submits, write what is left, close."""
        rooms = self.rooms
        if self.reporter is not None:
            self.reporter.stopping()
        rooms.desk.accepting = False
        rooms.heartbeat.stop()
        rooms.cleaner.stop()
        rooms.household.stop()
        rooms.histories.stop()
        rooms.waker.stop()
        rooms.lag.stop()
        if self.beacon is not None:
            await self.beacon.stop()
        for port in self.ports:
            stopped = port.stopListening()
            if stopped is not None:
                await stopped
        rooms.server.close()
        self.site.close()
        await rooms.access.stop()
        await rooms.turns.close()
        rooms.database.close()
        done = super().stopService()
        if done is not None:
            await done

    def _fatal(self, failure: Failure) -> None:
        """The store does not take writes any more: stop, and say why. What was acknowledged is on disk."""
        self.failed = True
        log.critical("the store failed, the main stops: {reason}", reason=failure.getErrorMessage())
        if IReactorCore.providedBy(self.reactor) and self.reactor.running:
            with suppress(ReactorNotRunning):  # it is stopping already
                self.reactor.stop()

    def exit(self) -> None:
        """Called as the process ends: makes a failed store a failed process.

        twistd ends with status 0 whatever happened, and what is raised after its reactor is caught: this is the
        one place left to say it to whoever started the process.
        """
        if self.failed:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(STORE_FAILED_STATUS)


def _listen(reactor: Any, port: int, factory: Any, host: str, setting: str) -> IListeningPort:
    try:
        listening: IListeningPort = reactor.listenTCP(port, factory, backlog=1024, interface=host)
    except CannotListenError as error:
        # The process's own stderr: by now twistd has made the other one a part of its log.
        print(f"retire-main: {setting}: {host}:{port} cannot be used: {error.socketError}", file=sys.__stderr__)
        sys.exit(2)
    return listening


def _is_open(port: IListeningPort) -> bool:
    """Whether a port still listens: twisted's own lose their connection when they are closed, for whatever reason."""
    return bool(getattr(port, "connected", True))


def wants_beacon(settings: dict[str, Any]) -> bool:
    """Whether this main says on the network where it is: as its setting says, else if it can be reached from there."""
    return bool(settings["host"] not in LOOPBACK if settings["beacon"] is None else settings["beacon"])


def _beacon(settings: dict[str, Any], cluster_id: str, port: int, web_port: int, reactor: Any) -> Beacon:
    """The beacon, through the interface that the main listens on, or through all if it listens everywhere."""
    host = settings["host"]
    everywhere = host in ("0.0.0.0", "::")
    address = host if isIPAddress(host) and not everywhere else "127.0.0.1" if host in LOOPBACK else ""
    name = settings["cluster_name"] or socket.gethostname()[:64] or "main"
    announcement = Announcement(cluster_id, name, address, port, web_port)
    interfaces = (lambda: [address]) if address else interface_addresses
    return Beacon(reactor, announcement, interfaces, SystemRandom())


def wants_tls(settings: dict[str, Any]) -> bool:
    """Whether both ports are behind TLS: as the setting says, else beyond loopback on a network that is not trusted."""
    if settings["tls"] != "auto":
        return bool(settings["tls"] == "on")
    return settings["host"] not in LOOPBACK and not settings["trusted_network"]


def check_exposure(settings: dict[str, Any]) -> None:
    """Beyond loopback nothing is served in the clear unless the owner says so. Raises ClusterError bad_config."""
    if settings["tls"] == "on" and settings["trusted_network"]:
        words = "tls is on, which knows its devices, and trusted_network is true, which lets in everybody: choose one"
        raise ClusterError("bad_config", words)
    if settings["host"] not in LOOPBACK and not settings["trusted_network"] and not wants_tls(settings):
        raise ClusterError(
            "bad_config",
            f"host: {settings['host']} is reachable from the network, and whoever reaches it can run code on your "
            "devices: leave tls as auto, use 127.0.0.1, or set trusted_network to true if everybody there may",
        )


def _admission(
    settings: dict[str, Any], database: Database, registry: DeviceRegistry, reactor: Any, moment: Any
) -> Admission:
    """Who is let in by TLS. Raises ClusterError bad_config, also where the packages for it are missing."""
    try:
        from retirecluster.main.admission import Admission, Reach
        from retirecluster.main.certificates import Authority
        from retirecluster.main.tls_port import ServerTls
    except ImportError as error:
        words = f"TLS needs the packages cryptography and pyOpenSSL ({error.name} is missing)"
        ways = "pip install 'retirecluster[tls]', on Termux pkg install python-cryptography; or see trusted_network"
        raise ClusterError("bad_config", f"{words}: {ways}") from None
    reach = Reach(partial(_hosts, settings), lambda: settings["port"], partial(_names, settings))
    authority = Authority.open(Path(settings["data_dir"]))
    if authority.main_certificate() is None:
        authority.issue_main(reach.names())
    ports = (ServerTls(authority, asks=True), ServerTls(authority, asks=False))
    first = settings["approve_devices"]
    admission = Admission(authority, ports, database, registry, moment, reactor, reach, first)
    admission.restore(database.read_now(certificates_txn))
    return admission


def _hosts(settings: dict[str, Any]) -> list[str]:
    """Where devices reach this main."""
    if settings["host"] not in ("0.0.0.0", "::"):
        return [settings["host"]]
    return [each for each in interface_addresses() if each not in LOOPBACK][:MAX_HOSTS] or [socket.gethostname()]


def _names(settings: dict[str, Any]) -> list[str]:
    """What the web's certificate is good for beside the fixed name: for browsers and curl."""
    return [*LOOPBACK, *_hosts(settings), socket.gethostname(), *settings["allowed_hosts"]]


def die() -> None:
    """End as a crash ends a process: nothing is flushed, nothing is said."""
    os.kill(os.getpid(), signal.SIGKILL)


def makeService(options: Options) -> MainNode:
    """What twistd runs. A mistake in the configuration ends start-up with one line and status 2."""
    from twisted.internet import reactor

    # Timers run on the monotonic clock: a wall clock that jumps neither freezes nor fires them.
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    stop_once(reactor)
    try:
        settings = options.settings()
        check_exposure(settings)
        node = MainNode(settings, reactor, failpoints.armed("main", os.environ, die))
        node.reporter = reporter(reactor, node.rooms.cluster.in_short, node.rooms.cluster.health_checks.hangs)
    except ClusterError as error:
        sys.stderr.write(f"retire-main: {error.message}\n")
        sys.exit(2)
    atexit.register(node.exit)
    return node
