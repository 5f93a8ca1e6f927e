"""The line to the main node: greeting, registration, heartbeats, and coming back after a loss."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import LoopingCall
from twisted.internet.tcp import Connection as TCPConnection
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.codec import decode_object
from retirecluster.wire.lines import JsonLines
from retirecluster.wire.messages import Message, read_message
from retirecluster.wire.session import PEERS_OF_WORKER
from retirecluster.worker.agent import Agent
from retirecluster.worker.backoff import Backoff
from retirecluster.worker.beats import Beats
from retirecluster.worker.home import Home
from retirecluster.worker.policy import Comfort

GREETING_WITHIN_S = 15.0
"""How long the main may take to greet and to answer the registration."""
CLOSED_WITHIN_S = 1.0
"""How long the last words on a line that is given up may take to leave this process."""


@define(eq=False)
class Registrar:
    """What every connection of this worker needs. `profile` gives the register data, `metrics` the system metrics."""

    reactor: IReactorTime
    agent: Agent
    device_id: str
    profile: Callable[[], Awaitable[Mapping[str, Any]]]
    metrics: Callable[[], Awaitable[Mapping[str, Any]]]
    utc: Callable[[], str]
    random: Random
    backoff: Backoff
    on_shutdown: Callable[[], None]
    comfort: Comfort | None = None
    home: Home | None = None
    connection: WorkerConnection | None = field(default=None, init=False)

    def offer_anew(self) -> None:
        """What this device offers has changed: it says so by registering once more, with all that it holds."""
        if self.connection is not None:
            self.connection.leave("what this device offers has changed", returning=True)


class WorkerConnection(JsonLines):
    """One connection, from the greeting of the main to its end."""

    log = Logger()

    def __init__(self, registrar: Registrar) -> None:
        super().__init__()
        self._registrar = registrar
        self._agent = registrar.agent
        self._reactor = registrar.reactor
        self._silence_s = GREETING_WITHIN_S
        self._last_heard_at = 0.0
        self._claimed_at = 0.0
        self._pinged = False
        self._watchdog: IDelayedCall | None = None
        self._heart: LoopingCall | None = None
        self._first_beat: IDelayedCall | None = None
        self._beats = Beats()
        self._server_id = ""
        self.session_no: int | None = None
        self._handlers: dict[str, Callable[[Message], None]] = {
            "connection_ack": self._greeted,
            "register_ack": self._welcomed,
            "heartbeat_ack": self._renewed,
            "task_assign": self._assigned,
            "task_cancel": self._cancelled,
            "result_ack": self._acknowledged,
            "ping": self._ping,
            "pong": lambda message: None,
            "drain": lambda message: self._agent.drain(message.data.get("reason") or "drained by the main node"),
            "undrain": lambda message: self._agent.undrain(),
            "signals": self._signalled,
            "rest": self._rested,
            "shutdown": self._shutdown,
            "broadcast": self._broadcast,
            "error": self._error,
            "disconnect": self._disconnect,
        }

    # Twisted's side

    def connectionMade(self) -> None:
        super().connectionMade()
        self._registrar.connection = self
        if isinstance(self.transport, TCPConnection):
            # An empty line, which means nothing to a main; one that wants TLS says so at once.
            self.transport.write(b"\n")
        self._last_heard_at = self._reactor.seconds()
        self._watchdog = self._reactor.callLater(self._silence_s, self._watch)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        for call in (self._watchdog, self._first_beat):
            if call is not None and call.active():
                call.cancel()
        if self._heart is not None and self._heart.running:
            self._heart.stop()
        if self._registrar.connection is self:
            self._registrar.connection = None
        if self._agent.uplink is self:
            self._agent.link_lost()
        self.log.info("the line to the main is closed: {why}", why=reason.getErrorMessage())

    def line_received(self, line: bytes) -> None:
        self._last_heard_at = self._reactor.seconds()
        self._pinged = False
        try:
            message = read_message(decode_object(line), PEERS_OF_WORKER)
            self._handlers.get(message.name, self._unexpected)(message)
        except ClusterError as error:
            self.log.warn("a bad line from the main: {why}", why=str(error))

    def line_too_long(self) -> None:
        self.log.warn("a line of more than 1 MiB from the main")

    def pauseProducing(self) -> None:
        """The line is full: what tasks print waits in their pipes until it has drained."""
        super().pauseProducing()
        self._agent.executor.pause_output()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._agent.executor.resume_output()

    # Speaking

    @property
    def registered(self) -> bool:
        return self.session_no is not None

    def say(
        self, message_type: str, data: Mapping[str, Any], in_reply_to: str | None = None, message_id: str | None = None
    ) -> None:
        """Send one message."""
        message: dict[str, Any] = {
            "message_type": message_type,
            "sender_id": self._registrar.device_id,
            "timestamp": self._registrar.utc(),
            "data": data,
        }
        if in_reply_to is not None:
            message["in_reply_to"] = in_reply_to
        if message_id is not None:
            message["message_id"] = message_id
        self.send(message)

    def leave(self, reason: str, returning: bool) -> None:
        """The graceful end; `returning`: what it holds is not to be given to others yet."""
        self.say("disconnect", {"reason": reason} | ({"returning": True} if returning else {}))
        self.hang_up()

    # Registration

    def _greeted(self, message: Message) -> None:
        self.log.info("connected to {server}", server=message.data["server_id"])
        self._server_id = message.data["server_id"]
        why_not = "" if self._registrar.home is None else self._registrar.home.why_not(self._server_id)
        if why_not:
            self.log.error("this main is not joined: {why}", why=why_not)
            return self.hang_up()
        ensureDeferred(self._register()).addErrback(self._not_registered)

    async def _register(self) -> None:
        """The profile comes first, which may take seconds: what is held is said as of when the message leaves."""
        profile = await self._registrar.profile()
        if self.dead:
            return
        self._claimed_at = self._reactor.seconds()
        comfort = self._registrar.comfort
        availability = {} if comfort is None else {"availability": comfort.registering()}
        self.say("register", {**profile, **availability, "attempts": self._agent.claims()})

    def _not_registered(self, failure: Failure) -> None:
        self.log.failure("this device cannot say what it is; connecting anew", failure)
        self.hang_up()

    def _welcomed(self, message: Message) -> None:
        data = message.data
        if not data["accepted"]:
            self.log.warn("the main does not accept this device")
            return self.hang_up()
        self.session_no = data["session_no"]
        self._registrar.backoff.registered(data["lease_s"])
        self._remember_home()
        self._silence_s = data["heartbeat_interval_s"]
        if self._watchdog is not None and self._watchdog.active():
            self._watchdog.reset(self._silence_s)
        # Not from now: the main counts from when it read the claims, however long its answer was under way.
        self._agent.lease_renewed(self._claimed_at, data["lease_s"])
        if self._agent.spool.files is not None:
            assert self.transport is not None
            host = getattr(self.transport.getPeer(), "host", "127.0.0.1")
            self._agent.spool.files.session_opened(host, data.get("files"))
        self._agent.executor.task_limits = data.get("task_limits") or {}
        self._agent.registered(self, data["session_no"], data["stop"])
        self.log.info("registered as {device}, session {number}", device=data["device_id"], number=data["session_no"])
        if self._agent.draining:
            self.say("drain", {})
        if self._registrar.comfort is not None:
            self._registrar.comfort.welcomed(data)
        # Not all devices at once: a main that comes back has enough to do.
        wait_s = self._registrar.random.uniform(0.0, min(1.0, self._silence_s))
        self._first_beat = self._reactor.callLater(wait_s, self._start_heart)

    def _remember_home(self) -> None:
        assert self.transport is not None
        peer = self.transport.getPeer()
        if self._registrar.home is not None and isinstance(peer, (IPv4Address, IPv6Address)):
            self._registrar.home.joined(self._server_id, peer.host, peer.port)

    # Heartbeats

    def _start_heart(self) -> None:
        self._heart = LoopingCall(self._beat_safely)
        self._heart.clock = self._reactor
        self._heart.start(self._silence_s).addErrback(lambda failure: self.log.failure("heart", failure))

    def _beat_safely(self) -> Any:
        """A LoopingCall that fails once never runs again: this one never fails."""

        def failed(failure: Failure) -> None:
            self.log.failure("a heartbeat failed; the next one follows", failure)

        return ensureDeferred(self._beat()).addErrback(failed)

    async def _beat(self) -> None:
        metrics = await self._registrar.metrics()
        if self.dead:
            return
        agent = self._agent
        data: dict[str, Any] = {
            "system_metrics": metrics,
            "status": "draining" if agent.draining else "paused" if agent.paused else "online",
            "active_tasks": agent.executor.active,
            "attempts": agent.held(),
        }
        if agent.last_activity:
            data["last_activity"] = agent.last_activity
        self.say("heartbeat", data, message_id=self._beats.asked(self._reactor.seconds()))

    def _renewed(self, message: Message) -> None:
        asked_at = self._beats.answered(message.in_reply_to)
        if asked_at is not None:
            self._agent.lease_renewed(asked_at, message.data["lease_s"])
        self._agent.stop_attempts(message.data["stop"])
        for each in message.data.get("left_out") or ():
            self.log.debug("the main left out {field}: {why}", field=each["field"], why=each["message"])

    def _watch(self) -> None:
        """A main that says nothing for an interval is pinged; after another one the line is given up."""
        silent_s = self._reactor.seconds() - self._last_heard_at
        if silent_s < self._silence_s:
            wait_s = self._silence_s - silent_s
        elif self.registered and not self._pinged:
            self._pinged = True
            self.say("ping", {})
            wait_s = self._silence_s
        else:
            self.log.warn("the main has been silent for {silent_s} s; connecting anew", silent_s=round(silent_s))
            return self._give_up_line()
        self._watchdog = self._reactor.callLater(wait_s, self._watch)

    def _give_up_line(self) -> None:
        """Close a line that brings nothing any more. The other direction may still work: a bare close would look as if
        this process had been killed, and what runs here would be started elsewhere."""
        if not self.registered:
            return self.abort()
        self.say("disconnect", {"reason": "the main is silent", "returning": True})
        self.hang_up()
        self._watchdog = self._reactor.callLater(CLOSED_WITHIN_S, self.abort)

    # Tasks

    def _assigned(self, message: Message) -> None:
        if self.session_no is None:
            return self._unexpected(message)
        task = message.data["task"]
        try:
            self._agent.assign(task, self.session_no)
        except ClusterError as error:
            self.log.warn("a bad assignment from the main: {why}", why=str(error))
            if isinstance(task.get("task_id"), str) and type(task.get("epoch")) is int:
                refused = {"task_id": task["task_id"], "epoch": task["epoch"], "reason": str(error)[:1000]}
                self.say("task_refused", refused)

    def _cancelled(self, message: Message) -> None:
        data = message.data
        self._agent.cancel(data["task_id"], data.get("epoch"), data.get("reason") or "")

    def _acknowledged(self, message: Message) -> None:
        data = message.data
        if not data["accepted"]:
            self.log.info(
                "the main does not take the result of {task}: {why}", task=data["task_id"], why=data.get("reason")
            )
        self._agent.acknowledged(data["task_id"], data.get("epoch"))
        if data.get("final"):
            self._agent.task_over(data["task_id"])

    # The owner's policy

    def _signalled(self, message: Message) -> None:
        if self._registrar.comfort is not None:
            self._registrar.comfort.signalled(message.data["signals"])

    def _rested(self, message: Message) -> None:
        if self._registrar.comfort is not None:
            self._registrar.comfort.rest(message.data)

    # The rest

    def _ping(self, message: Message) -> None:
        self.say("pong", {}, message.message_id)

    def _shutdown(self, message: Message) -> None:
        self.log.info("the main asks this worker to end: {why}", why=message.data.get("reason") or "no reason given")
        self._registrar.on_shutdown()

    def _broadcast(self, message: Message) -> None:
        self.log.info("the main says to all: {text}", text=message.data["message"])

    def _error(self, message: Message) -> None:
        self.log.warn("the main reports {code}: {text}", code=message.data["code"], text=message.data["message"])
        if not self.registered:
            # Refused, as duplicate_device: the backoff decides when to try again.
            self.hang_up()

    def _disconnect(self, message: Message) -> None:
        self.log.info("the main closes the line: {why}", why=message.data.get("reason") or "no reason given")
        self.hang_up()

    def _unexpected(self, message: Message) -> None:
        self.log.warn("{name} was not expected here", name=message.name)


class WorkerFactory(Factory):
    """Makes the connections of one worker."""

    noisy = False

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar

    def buildProtocol(self, addr: IAddress | None) -> WorkerConnection:
        connection = WorkerConnection(self._registrar)
        connection.factory = self
        return connection
