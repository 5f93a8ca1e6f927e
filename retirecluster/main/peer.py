"""One connection to the main: what is said, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.tasks import encode
from retirecluster.domain.units import format_instant
from retirecluster.wire.codec import MAX_DEPTH, MAX_LINE_BYTES
from retirecluster.wire.lines import JsonLines
from retirecluster.wire.messages import PROTOCOL_VERSION, WORKER, Message
from retirecluster.wire.session import PEERS_OF_MAIN, Session

if TYPE_CHECKING:
    from retirecluster.main.server import ClusterServer

log = Logger()
SENDER = "main-node"
DEVICES_ALONE = frozenset({WORKER})
"""Who may speak over TLS: the original's clients have no certificates, and the web for what they want."""
TLS_HELLO = b"\x16"
"""The first byte of TLS."""
REGISTER_WITHIN_S = 10.0
CLOSE_WITHIN_S = 5.0
RESET_GRACE_S = 2.0
"""How long a worker whose connection was reset may take to come back before its tasks move on."""


class MainPeer(JsonLines):
    """One connection to the main: a worker, or a client that asks."""

    def __init__(self, server: ClusterServer, host: str) -> None:
        super().__init__()
        self.server = server
        self.host = host
        secured = server.admission is not None
        self.session = Session(DEVICES_ALONE if secured else PEERS_OF_MAIN, secured)
        self._pings: list[Deferred[bool]] = []
        self._deadline: IDelayedCall | None = None
        self._closing: IDelayedCall | None = None
        self._first_data = True
        self._answering: dict[Deferred[Any], None] = {}
        self.leaving = False
        """It has said farewell: what it said before is seen to the end, and then its session is over."""

    @property
    def device_id(self) -> str | None:
        return self.session.device_id

    @property
    def session_no(self) -> int:
        return self.session.session_no

    def enter(self, device_id: str, session_no: int) -> None:
        self.session.device_id, self.session.session_no = device_id, session_no
        self._stop_deadline()

    def connectionMade(self) -> None:
        super().connectionMade()
        limits = {"max_line_bytes": MAX_LINE_BYTES, "max_depth": MAX_DEPTH, "register_within_s": REGISTER_WITHIN_S}
        greeting = {"protocol_version": PROTOCOL_VERSION, "server_id": self.server.server_id, "limits": limits}
        admission = self.server.admission
        proof = {"auth": "none"} if admission is None else {"auth": "required", "ca": admission.authority.pem}
        self.tell("connection_ack", greeting | proof)
        self._deadline = self.server.clock.callLater(REGISTER_WITHIN_S, self._too_late)

    def dataReceived(self, data: bytes) -> None:
        if self._first_data and data.startswith(TLS_HELLO) and not self.session.auth_required:
            log.warn("{host} speaks TLS, and this main listens without it (setting tls)", host=self.host)
            return self.abort()
        self._first_data = False
        super().dataReceived(data)

    def line_received(self, line: bytes) -> None:
        try:
            message = self.session.read(line)
        except ClusterError as error:
            self.refuse(error)
            return
        self.server.figures.messages["in", message.name] += 1
        if self._deadline is not None and self._deadline.active() and not self.session.auth_required:
            self._deadline.reset(REGISTER_WITHIN_S)
        self._handle(message)

    def _handle(self, message: Message) -> None:
        """Route a message; whatever goes wrong is answered, and never ends in the reactor."""
        try:
            self.server.registry.check_session(self)
            answer = self.server.handlers[message.name](self, message)
        except ClusterError as error:
            self.refuse(error, message)
        except Exception:
            self._our_fault(Failure(), message)
        else:
            if answer is not None:
                self._see_through(ensureDeferred(answer).addErrback(self._failed, message))

    def _see_through(self, answering: Deferred[Any]) -> None:
        if not answering.called:
            self._answering[answering] = None
            answering.addBoth(lambda _: self._answering.pop(answering, None))

    async def answered(self) -> None:
        """Returns once all messages that came so far have been dealt with."""
        await DeferredList(list(self._answering))

    def _failed(self, failure: Failure, message: Message) -> None:
        if failure.check(ClusterError):
            self.refuse(failure.value, message)  # type: ignore[arg-type]
        else:
            self._our_fault(failure, message)

    def _our_fault(self, failure: Failure, message: Message) -> None:
        log.failure("handling {name} failed", failure, name=message.name)
        self.refuse(ClusterError("internal", "a mistake of ours; it is in the log of the main"), message)

    def refuse(self, error: ClusterError, message: Message | None = None) -> None:
        """Answer with an error. A peer that earns too many too fast is cut off."""
        if not self.session.errors.take(self.server.clock.seconds()):
            self.hang_up()
            return
        self.server.figures.refused_messages[error.code] += 1
        self.server.registry.refused(self, error, message)
        data = {"code": error.code, "message": error.message[:2000]}
        if error.field:
            data["field"] = error.field[:400]
        self.tell("error", data, message)

    def tell(self, name: str, data: dict[str, Any], reply_to: Message | None = None) -> None:
        """Send a message."""
        envelope: dict[str, Any] = {
            "message_type": name,
            "sender_id": SENDER,
            "timestamp": format_instant(self.server.moment().wall_s),
            "data": data,
        }
        if self.device_id is not None:
            envelope["target_id"] = self.device_id
        if reply_to is not None and reply_to.message_id is not None:
            envelope["in_reply_to"] = reply_to.message_id
        self.server.figures.messages["out", name] += 1
        self.send(envelope)

    def assign(self, task_id: str, epoch: int, body: str) -> None:
        """Send `task_assign`; `body` is JSON text made at submit and goes out as it is."""
        instant = format_instant(self.server.moment().wall_s)
        self.server.figures.messages["out", "task_assign"] += 1
        self.send_line(
            f'{{"message_type":"task_assign","sender_id":"{SENDER}","target_id":{encode(self.device_id)},'
            f'"timestamp":"{instant}","data":{{"task":{{"task_id":{encode(task_id)},"epoch":{epoch},'
            f"{body[1:]}}}}}\n".encode("ascii")
        )

    def ping(self, timeout_s: float) -> Deferred[bool]:
        waiting: Deferred[bool] = Deferred()
        self._pings = [each for each in self._pings if not each.called] + [waiting]
        self.tell("ping", {})
        waiting.addTimeout(timeout_s, self.server.clock, onTimeoutCancel=lambda *_: False)
        return waiting

    def ponged(self) -> None:
        """The peer answered a ping."""
        waiting, self._pings = self._pings, []
        for each in waiting:
            if not each.called:
                each.callback(True)

    def line_too_long(self) -> None:
        self.refuse(ClusterError("line_too_long", f"a line has more than {MAX_LINE_BYTES} bytes; the connection ends"))

    def hang_up(self) -> None:
        """Close once everything is sent; at once if the peer does not take it within `CLOSE_WITHIN_S`."""
        if not self.dead:
            super().hang_up()
            self._closing = self.server.clock.callLater(CLOSE_WITHIN_S, self.abort)

    def _too_late(self) -> None:
        if not self.session.registered:
            self.refuse(ClusterError("register_timeout", f"nothing was asked for {REGISTER_WITHIN_S:g} s"))
            self.hang_up()

    def _stop_deadline(self) -> None:
        if self._deadline is not None and self._deadline.active():
            self._deadline.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cut_off = self.dead
        super().connectionLost(reason)
        self._stop_deadline()
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        waiting, self._pings = self._pings, []
        for each in waiting:
            if not each.called:
                each.callback(False)
        # Closed by the other side's system, and not by us: the process that held it has ended.
        closed = not cut_off and reason.check(ConnectionDone, ConnectionLost) is not None
        # A reset says less: a worker that lives on sends one too, for what reached it after it gave up a broken line.
        grace_s = 0.0 if reason.check(ConnectionDone) else RESET_GRACE_S
        self.server.lost(self, _in_words(reason), closed=closed, grace_s=grace_s)


def _in_words(reason: Failure) -> str:
    """Why a connection ended, as the device's reason."""
    if reason.check(ConnectionDone):
        return "its connection was closed without a farewell"
    return "its connection was reset" if reason.check(ConnectionLost) else reason.getErrorMessage()
