"""Join strings: one line that tells a device where a main is, how to know it, and a secret to be let in with, once."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Integer, ListOf, Problem, Record, Text

PREFIX = "rc1-"
MAX_HOSTS = 8
SECRET_BYTES = 32
LONGEST_TTL_S = 7 * 86_400.0
"""How long a join string may be good for."""
HASH = Text(64, 64, pattern="[0-9a-f]{64}", pattern_doc="a SHA-256 in small hexadecimal digits")
SECRET = Text(64, 32, pattern="[A-Za-z0-9_-]{32,64}", pattern_doc="letters, digits, _ and -")
FIELDS = Record(
    (
        Field("h", ListOf(Text(255, 1), MAX_HOSTS), "names or addresses of the main", required=True),
        Field("p", Integer(1, 65_535), "its port for workers", required=True),
        Field("c", HASH, "SHA-256 of the certificate of the cluster's authority", required=True),
        Field("s", SECRET, "what lets one device in", required=True),
    )
)
"""Short names: the text has to fit a QR code that a phone's camera reads from a screen."""


@frozen
class JoinString:
    """What a join string says. `ca_hash` pins the authority; `secret` is good for one device, for a short time."""

    hosts: tuple[str, ...]
    port: int
    ca_hash: str
    secret: str

    def text(self) -> str:
        """As people copy it."""
        document = {"h": list(self.hosts), "p": self.port, "c": self.ca_hash, "s": self.secret}
        packed = json.dumps(document, separators=(",", ":")).encode("ascii")
        return PREFIX + base64.urlsafe_b64encode(packed).decode("ascii").rstrip("=")

    def __repr__(self) -> str:
        return f"JoinString({self.hosts}, {self.port}, ca {self.ca_hash[:12]})"  # no secret in a log


def is_join_string(text: str) -> bool:
    """Whether a text means to be one, rather than an address."""
    return text.strip().startswith(PREFIX)


def read_join_string(text: str) -> JoinString:
    """What a join string says. Raises ClusterError bad_config, with nothing of the secret in it."""
    packed = "".join(text.split()).removeprefix(PREFIX)  # terminals and messengers break long lines
    try:
        document: Any = json.loads(base64.b64decode(packed + "=" * (-len(packed) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _damaged("it is not whole") from None
    problems: list[Problem] = FIELDS.problems(document) if isinstance(document, dict) else [Problem("", "no object")]
    if problems or not document["h"]:
        raise _damaged(f"its field {problems[0].path!r} is wrong" if problems else "it names no main")
    return JoinString(tuple(document["h"]), document["p"], document["c"], document["s"])


def _damaged(why: str) -> ClusterError:
    words = "the join string is damaged"
    return ClusterError(
        "bad_config", f"{words}: {why}; copy all of it, from {PREFIX} on, or make a new one", field="join"
    )
