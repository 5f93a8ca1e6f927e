"""Tools for tests: bare peers, settings, pauses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor run for a while."""
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting


class LinePeer(Protocol):
    """A bare peer: sends JSON lines, and hands over what comes."""

    def __init__(self) -> None:
        self.received: DeferredQueue[dict[str, Any]] = DeferredQueue()
        self.closed: Deferred[None] = Deferred()
        self._rest = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.received.put(json.loads(line))

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)

    def say(self, message_type: str, data: dict[str, Any] | None = None, **envelope: Any) -> None:
        message = {"message_type": message_type, "sender_id": "device-001", "data": data or {}} | envelope
        self.send(json.dumps(message).encode() + b"\n")

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def expect(self, message_type: str, timeout_s: float = 10.0) -> dict[str, Any]:
        """The next message of that type; others before it are passed over."""
        while True:
            message = await self.received.get().addTimeout(timeout_s, reactor)
            if message["message_type"] == message_type:
                return message

    async def leave(self) -> None:
        """Close, and wait until it is closed."""
        self.transport.loseConnection()
        await self.closed


async def connect(port: int) -> LinePeer:
    """A new bare peer, greeted by the main."""
    peer = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), LinePeer())
    await peer.expect("connection_ack")
    return peer


def main_settings(folder: Path, **settings: Any) -> dict[str, Any]:
    """Settings of a main that listens on free ports."""
    from retirecluster.config import load_config

    return load_config("main", {"data_dir": str(folder), "port": 0, "web_port": 0} | settings, {}, None)
