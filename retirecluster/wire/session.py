"""What one connection may say, and when. Pure: decoded lines and `now` go in, messages or errors come out.

A session is either *greeted* (a line is open, nobody has said who they are) or *registered*. Before
registration only the messages marked `early` in the catalogue are understood.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.codec import decode_object
from retirecluster.wire.messages import CLIENT, MAIN, MESSAGES, WORKER, Message, MessageType, kind_of, read_data

PEERS_OF_MAIN = frozenset({WORKER, CLIENT})
PEERS_OF_WORKER = frozenset({MAIN})
BEFORE_AUTH = frozenset({"join", "register", "ping", "pong", "disconnect", "error"})
"""All that a stranger may say where the main knows its devices by certificates."""
_LISTED = ", ".join(sorted(BEFORE_AUTH))


@define
class TokenBucket:
    """A rate limit: `rate_per_s` on average, bursts of `burst`."""

    rate_per_s: float
    burst: float
    level: float = field(init=False)
    at: float | None = None

    def __attrs_post_init__(self) -> None:
        self.level = self.burst

    def take(self, now: float) -> bool:
        """True if one more is allowed at `now` (monotonic seconds)."""
        if self.at is not None:
            self.level = min(self.burst, self.level + max(0.0, now - self.at) * self.rate_per_s)
        self.at = now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


@define
class Session:
    """One connection as the main sees it: who it is, and what it may say."""

    senders: frozenset[str] = PEERS_OF_MAIN
    auth_required: bool = False
    device_id: str | None = None
    session_no: int = 0
    heartbeats: TokenBucket = field(factory=lambda: TokenBucket(rate_per_s=2.0, burst=20.0))
    errors: TokenBucket = field(factory=lambda: TokenBucket(rate_per_s=20.0, burst=200.0))

    @property
    def registered(self) -> bool:
        return self.device_id is not None

    def read(self, line: bytes) -> Message:
        """The message in a line. Raises ClusterError for anything that it may not be."""
        document, kind = self._of_a_kind(line)
        if self.registered:
            if kind.name == "register":
                raise ClusterError("already_registered", f"this connection is {self.device_id} already")
        elif not kind.early:
            raise ClusterError("not_registered", f"{kind.name} needs a registration: send register first")
        return read_data(kind, document)

    def _of_a_kind(self, line: bytes) -> tuple[dict[str, Any], MessageType]:
        """The document in a line, and what it is by its own word."""
        try:
            document = decode_object(line)
        except ClusterError as error:
            # Of a report with a sensor that says NaN, all else counts: a device is not to look dead for it.
            document = decode_object(line, odd_numbers=True) if error.code == "bad_number" else {}
            kind = MESSAGES.get(str(document.get("message_type")))
            if kind is None or not kind.spared:
                raise
        if self.auth_required and not self.registered and document.get("message_type") not in BEFORE_AUTH:
            raise ClusterError("unauthorized", f"before a device has registered only {_LISTED} are understood here")
        return document, kind_of(document, self.senders)
