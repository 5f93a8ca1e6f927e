"""The port for workers: one connection each, every message routed to the room that answers it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Assign, Moment, Stop
from retirecluster.main.events import EventBus
from retirecluster.main.figures import Figures
from retirecluster.main.heartbeat import HeartbeatMonitor, attempts_json, stopped_json
from retirecluster.main.household import Household
from retirecluster.main.limits import Limits
from retirecluster.main.outputs import OutputBoard
from retirecluster.main.peer import MainPeer
from retirecluster.main.registry import DeviceRegistry
from retirecluster.main.requests import ClientRequests
from retirecluster.main.scheduler import TaskScheduler
from retirecluster.store import reads
from retirecluster.wire.messages import Message

if TYPE_CHECKING:
    from retirecluster.main.admission import Admission
    from retirecluster.store.admission import CertificateRow

log = Logger()
HEARTBEAT_WAITS_S = 1.0
"""How long the answer to a heartbeat may wait for the disk."""

Answer = Coroutine[Any, Any, None] | None
Handler = Callable[[MainPeer, Message], Answer]


class ClusterServer(ServerFactory):
    """Makes a `MainPeer` of each connection, and knows what to do with each message."""

    noisy = False

    def __init__(
        self,
        *,
        server_id: str,
        registry: DeviceRegistry,
        scheduler: TaskScheduler,
        heartbeat: HeartbeatMonitor,
        outputs: OutputBoard,
        events: EventBus,
        requests: ClientRequests,
        household: Household,
        limits: Limits,
        heartbeat_interval_s: float,
        task_limits: Mapping[str, float],
        clock: IReactorTime,
        moment: Callable[[], Moment],
        figures: Figures,
        admission: Admission | None = None,
    ) -> None:
        self.server_id = server_id
        self.registry = registry
        self.scheduler = scheduler
        self.heartbeat = heartbeat
        self.outputs = outputs
        self.events = events
        self.requests = requests
        self.household = household
        self.limits = limits
        self.heartbeat_interval_s = heartbeat_interval_s
        self.task_limits = dict(task_limits)
        self.clock = clock
        self.moment = moment
        self.figures = figures
        self.admission = admission
        self.peers: set[MainPeer] = set()
        self.closing = False
        self.handlers: dict[str, Handler] = {
            "join": self._join,
            "register": self._register,
            "heartbeat": self._heartbeat,
            "availability": self._availability,
            "task_started": self._started,
            "task_refused": self._refused,
            "task_progress": self._progress,
            "task_output": self._output,
            "task_result": self._result,
            "drain": self._drain,
            "undrain": self._undrain,
            "ping": lambda peer, message: peer.tell("pong", {}, message),
            "pong": lambda peer, message: peer.ponged(),
            "disconnect": self._disconnect,
            "error": self._error,
            **{name: self._request for name in requests.table},
        }

    # -- connections

    def buildProtocol(self, addr: IAddress | None) -> MainPeer | None:
        host = getattr(addr, "host", "local")
        if not self.limits.enter(host):
            return None
        peer = MainPeer(self, host)
        self.peers.add(peer)
        return peer

    def lost(self, peer: MainPeer, reason: str, *, closed: bool, grace_s: float = 0.0) -> None:
        """A connection has ended."""
        self.peers.discard(peer)
        self.limits.leave(peer.host)
        if not peer.leaving:
            self.registry.forget(peer, reason, closed=closed, grace_s=grace_s, blamed=not self.closing)

    def close(self) -> None:
        """Say farewell to everybody."""
        self.closing = True
        for peer in list(self.peers):
            peer.tell("disconnect", {"reason": "the main is stopping"})
            peer.hang_up()

    # -- effects of a turn

    def deliver(self, effects: Iterable[Assign | Stop]) -> None:
        """Send what a turn decided; called when it is on disk."""
        unread: list[Assign] = []
        for effect in effects:
            if isinstance(effect, Stop):
                self._send_stop(effect)
            elif effect.task.body is None:
                unread.append(effect)
            else:
                self._send_assign(effect, effect.task.body)
        if unread:
            ensureDeferred(self._assign_unread(unread)).addErrback(self._not_assigned, unread)

    async def _assign_unread(self, effects: list[Assign]) -> None:
        """Assign tasks whose bodies are in the store alone."""
        for start in range(0, len(effects), 500):
            part = effects[start : start + 500]
            bodies = await self.scheduler.database.read(reads.bodies_txn, [effect.task.seq for effect in part])
            for effect in part:
                self._send_assign(effect, bodies[effect.task.seq])

    def _not_assigned(self, failure: Failure, effects: list[Assign]) -> None:
        """Give back what could not be sent: the devices know nothing of it."""
        log.failure("assignments could not be read", failure)
        for effect in effects:
            if effect.task.attempt is effect.attempt:
                self._give_back(effect, "its specification could not be read")
        self.scheduler.turns.ask()

    def _send_assign(self, effect: Assign, body: str) -> None:
        peer = self.registry.session(effect.device_id, effect.session_no)
        if not isinstance(peer, MainPeer) or effect.task.attempt is not effect.attempt:
            return
        if effect.task.state is State.CANCELLING:  # since it was granted: it has not left, and need not
            self._give_back(effect, effect.task.reason)
            self.scheduler.turns.ask()
        else:
            peer.assign(effect.task.task_id, effect.attempt.epoch, body)

    def _give_back(self, effect: Assign, reason: str) -> None:
        self.scheduler.scheduler.attempts.refused(effect.task, effect.attempt, self.moment(), reason)

    def _send_stop(self, effect: Stop) -> None:
        peer = self.registry.session(effect.device_id, effect.session_no)
        if peer is not None:
            peer.tell("task_cancel", {"task_id": effect.task_id, "epoch": effect.epoch, "reason": effect.reason[:1000]})

    # -- messages of workers

    async def _join(self, peer: MainPeer, message: Message) -> None:
        if self.admission is None:
            raise ClusterError("conflict", "this main listens without TLS: devices need no join string", field="data")
        data, shown = message.data, self.admission.shown_by(peer.transport)
        peer.tell(
            "join_ack", await self.admission.join(data["secret"], data["device_id"], data["nonce"], shown), message
        )

    async def _register(self, peer: MainPeer, message: Message) -> None:
        try:
            row = self._proved(peer, message.sender_id)
            registration = await self.registry.register_device(peer, message)
            self._proved(peer, message.sender_id)  # revoked while it was entered
        except ClusterError as error:
            peer.refuse(error, message)
            if error.code in ("duplicate_device", "unauthorized", "forbidden"):
                peer.hang_up()
            return
        if self.registry.holder(peer) is None:
            return  # it left while it was entered
        if row is not None and row.role:
            self._give_role(row.device_id, row.role)
        log.info("{device_id} registered from {host}", device_id=peer.device_id, host=peer.host)
        assert peer.device_id is not None
        settings = self.scheduler.scheduler.settings
        answer = {
            "accepted": True,
            "device_id": peer.device_id,
            "session_no": registration.session_no,
            "heartbeat_interval_s": self.heartbeat_interval_s,
            "offline_after_s": settings.offline_after_s,
            "lease_s": settings.lease_s,
            "resume": attempts_json(registration.resume),
            "stop": stopped_json(registration.stop, self.scheduler.scheduler),
            "task_limits": self.task_limits,
            "files": self.scheduler.files.door(peer.device_id, registration.session_no),
        }
        peer.tell("register_ack", answer | self.household.welcome(peer.device_id), message)

    def _proved(self, peer: MainPeer, sender_id: str) -> CertificateRow | None:
        """The certificate that a device registers with; None where none is needed. Raises ClusterError."""
        if self.admission is None:
            return None
        return self.admission.registering(self.admission.shown_by(peer.transport), sender_id)

    def _give_role(self, device_id: str, role: str) -> None:
        """The role of its join string, unless a person has given it another one."""
        device = self.registry.get(device_id)
        if not device.role_override:
            self.scheduler.scheduler.fleet.set_role(device, role, self.moment())
            self.scheduler.turns.ask()

    async def _heartbeat(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        if not peer.session.heartbeats.take(self.clock.seconds()):
            raise ClusterError("rate_limited", "more than two heartbeats a second: this one was not stored")
        answer = self.heartbeat.process_heartbeat(peer.device_id, message)
        if answer["stop"] and not await self._on_disk_soon():
            # The worker kills and forgets these: that they are over must not be undone by a crash. Next time, then.
            answer["stop"] = []
        peer.tell("heartbeat_ack", answer, message)

    async def _on_disk_soon(self) -> bool:
        """Whether what was decided so far gets to the disk while a heartbeat can wait for it."""
        on_disk: Deferred[bool] = self.scheduler.turns.committed().addCallbacks(lambda _: True, lambda _: False)
        return await on_disk.addTimeout(HEARTBEAT_WAITS_S, self.clock)

    def _availability(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        scheduler, now = self.scheduler.scheduler, self.moment()
        device = self.registry.get(peer.device_id)
        scheduler.pauses.said(device, message.data, now)
        scheduler.probes.check(device, now)
        self.scheduler.turns.ask()

    def _started(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        task, attempt = self.scheduler.current(peer.device_id, message)
        self.scheduler.scheduler.attempts.started(task, attempt, self.moment())
        self.scheduler.turns.ask_lazily()

    def _refused(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        task, attempt = self.scheduler.current(peer.device_id, message)
        reason = message.data.get("reason") or "no reason given"
        self.scheduler.scheduler.attempts.refused(task, attempt, self.moment(), reason)
        self.scheduler.turns.ask()

    def _progress(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        task, attempt = self.scheduler.current(peer.device_id, message)
        task.progress = (message.data.get("percent"), message.data.get("message") or "")
        told = {"event": "progress", "task_id": task.task_id, "device_id": peer.device_id, "epoch": attempt.epoch}
        told |= {"status": task.state.value, "percent": task.progress[0], "message": task.progress[1]}
        self.events.tell("task_update", told, task_id=task.task_id, device_id=peer.device_id)

    def _output(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        task, attempt = self.scheduler.current(peer.device_id, message)
        data = message.data
        if self.outputs.add(task.task_id, attempt.epoch, data["seq"], data["stream"], data["data"]):
            told = {name: data[name] for name in ("seq", "stream", "data")}
            told |= {"task_id": task.task_id, "epoch": attempt.epoch}
            self.events.tell("output", told, task_id=task.task_id, device_id=peer.device_id)

    async def _result(self, peer: MainPeer, message: Message) -> None:
        assert peer.device_id is not None
        verdict = await self.scheduler.handle_task_completion(peer.device_id, message)
        if not verdict.accepted:
            log.info("a result of {device_id} is refused: {reason}", device_id=peer.device_id, reason=verdict.reason)
        answer = {
            "task_id": verdict.task_id,
            "epoch": verdict.epoch,
            "accepted": verdict.accepted,
            "reason": verdict.reason,
            "final": self.scheduler.scheduler.task(verdict.task_id) is None,
        }
        peer.tell("result_ack", answer, message)

    def _drain(self, peer: MainPeer, message: Message) -> None:
        self._set_draining(peer, True)

    def _undrain(self, peer: MainPeer, message: Message) -> None:
        self._set_draining(peer, False)

    def _set_draining(self, peer: MainPeer, draining: bool) -> None:
        assert peer.device_id is not None
        self.registry.update_device_status(peer.device_id, draining=draining)

    async def _disconnect(self, peer: MainPeer, message: Message) -> None:
        reason = message.data.get("reason") or "no reason given"
        peer.leaving = True
        await peer.answered()  # a result whose files are still being looked at came before the farewell
        if message.data.get("returning"):
            self.registry.forget(peer, reason, closed=False, blamed=False)  # it may be our silence that it gave up on
        else:
            self.registry.farewell(peer, reason)
        peer.hang_up()

    def _error(self, peer: MainPeer, message: Message) -> None:
        log.warn(
            "{device_id} reports: {code} {message!r}",
            device_id=peer.device_id or peer.host,
            code=message.data["code"],
            message=message.data["message"],
        )

    # -- requests of clients

    async def _request(self, peer: MainPeer, message: Message) -> None:
        result = await self.requests.table[message.name](message)
        peer.tell("ack", {"original_message_id": message.message_id, "result": result}, message)
