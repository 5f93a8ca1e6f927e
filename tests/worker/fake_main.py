"""A scripted main node over real TCP: says what the test tells it, keeps what it hears."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from retirecluster.wire.codec import decode_object
from retirecluster.wire.lines import JsonLines
from retirecluster.wire.messages import WORKER, read_message

Message = dict[str, Any]


class Peer(JsonLines):
    """One connection of the worker."""

    def __init__(self, main: FakeMain) -> None:
        super().__init__()
        self.main = main

    def connectionMade(self) -> None:
        self.main.peers.append(self)
        if self.main.greets:
            limits = {"max_line_bytes": 1 << 20, "max_depth": 32, "register_within_s": 10}
            greeting = {"protocol_version": 1, "server_id": "main-node", "limits": limits, "auth": "none"}
            self.say("connection_ack", greeting)

    def say(self, message_type: str, data: Message) -> None:
        self.send({"message_type": message_type, "sender_id": "main-node", "data": data, "message_id": "m1"})

    def line_received(self, line: bytes) -> None:
        document = decode_object(line)
        read_message(document, frozenset({WORKER}))  # every line of the worker is a valid one
        self.main.heard(self, document["message_type"], document["data"])

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        super().connectionLost(reason)
        self.main.peers.remove(self)
        self.main.heard(self, "(closed)", {})


class FakeMain(Factory):
    """Answers register and heartbeat unless told otherwise; acknowledges results when `acknowledges`."""

    noisy = False

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.messages: list[tuple[str, Message]] = []
        self.greets = self.answers = self.acknowledges = True
        self.refuses: str | None = None
        self.stop: list[Message] = []
        self.heartbeat_interval_s = 0.2
        self.lease_s = 60.0
        self.sessions = 0
        self._waiting: list[tuple[Callable[[str, Message], bool], Deferred[Message]]] = []
        self.port: Any = None

    def buildProtocol(self, addr: object) -> Peer:
        return Peer(self)

    def listen(self, port: int = 0) -> int:
        self.port = reactor.listenTCP(port, self, interface="127.0.0.1")
        number: int = self.port.getHost().port
        return number

    async def close(self) -> None:
        await self.port.stopListening()
        for peer in list(self.peers):
            gone = self.next("(closed)")
            peer.transport.abortConnection()  # type: ignore[union-attr]
            await gone

    @property
    def peer(self) -> Peer:
        return self.peers[-1]

    def assign(self, task_id: str, task_type: str, payload: Message, epoch: int = 1, **more: Any) -> None:
        task = {"task_id": task_id, "task_type": task_type, "payload": payload, "epoch": epoch, "timeout": 20} | more
        self.peer.say("task_assign", {"task": task})

    def next(self, name: str, check: Callable[[Message], bool] = lambda data: True) -> Deferred[Message]:
        """The next message of that name from now on."""
        waiter: Deferred[Message] = Deferred()
        self._waiting.append((lambda heard, data: heard == name and check(data), waiter))
        waiter.addTimeout(20, reactor, onTimeoutCancel=lambda *_: self._never(name))  # type: ignore[arg-type]
        return waiter

    def _never(self, name: str) -> Failure:
        return Failure(AssertionError(f"{name} never came; heard {json.dumps(self.messages)[-2000:]}"))

    def all(self, name: str) -> list[Message]:
        return [data for heard, data in self.messages if heard == name]

    def heard(self, peer: Peer, name: str, data: Message) -> None:
        self.messages.append((name, data))
        if name == "register":
            self._registered(peer)
        elif name == "heartbeat" and self.answers:
            peer.say("heartbeat_ack", {"renewed": data["attempts"], "stop": [], "lease_s": self.lease_s})
        elif name == "task_result" and self.acknowledges:
            acknowledged = {"task_id": data["task_id"], "epoch": data["epoch"], "accepted": True}
            peer.say("result_ack", acknowledged)
        elif name == "ping" and self.answers:
            peer.say("pong", {})
        for entry in list(self._waiting):
            if entry[0](name, data) and entry in self._waiting:
                self._waiting.remove(entry)
                if not entry[1].called:
                    entry[1].callback(data)

    def _registered(self, peer: Peer) -> None:
        if self.refuses is not None:
            peer.say("error", {"code": self.refuses, "message": "refused"})
            peer.hang_up()
            return
        self.sessions += 1
        welcome = {
            "accepted": True,
            "device_id": "device-1",
            "session_no": self.sessions,
            "heartbeat_interval_s": self.heartbeat_interval_s,
            "offline_after_s": 60.0,
            "lease_s": self.lease_s,
            "resume": [],
            "stop": self.stop,
        }
        peer.say("register_ack", welcome)
