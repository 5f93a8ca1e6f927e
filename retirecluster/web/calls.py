"""What a handler is given, and how a request's query and body become it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import DeferredLock

from retirecluster.domain.audit import Actor
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Boolean, Field, Integer, Number, Problem, Record, shown
from retirecluster.main.access import Access
from retirecluster.main.cluster import Cluster
from retirecluster.main.task_files import TaskFiles
from retirecluster.web.hub import StreamHub
from retirecluster.wire.codec import decode

if TYPE_CHECKING:
    from retirecluster.web.connections import WebRequest

_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{0,20})?(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
_TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
NO_QUERY = Record((), closed=True)
_SUBMITTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


@frozen
class Asset:
    """A file as it is served."""

    body: bytes
    media_type: str
    etag: bytes


@define(eq=False)
class Web:
    """What handlers work with. `openapi` is the generated document, as JSON text."""

    cluster: Cluster
    hub: StreamHub
    assets: Mapping[str, Asset]
    openapi: bytes
    connections: Callable[[], int]
    files: TaskFiles
    access: Access
    rendering: DeferredLock = field(factory=DeferredLock)
    """Large answers to commands are made into text by a thread, one after the other: each that computes makes all
    others wait for the interpreter."""


@define(eq=False)
class Call:
    """One request for a handler: `path` holds the variable parts of the address, `query` and `body` are checked."""

    request: WebRequest
    path: Mapping[str, str]
    query: Mapping[str, Any]
    body: Any = None

    def header(self, name: bytes) -> str | None:
        """The only value of a header, None without one. Raises ClusterError bad_field if it stands twice."""
        values = self.request.requestHeaders.getRawHeaders(name)
        if not values:
            return None
        if len(values) > 1:
            raise ClusterError("bad_field", f"the header {name.decode()} stands {len(values)} times", field="header")
        text: str = values[0].decode("latin-1")
        return text

    @property
    def actor(self) -> Actor:
        """Who asks, for the audit trail."""
        return self.request.caller.actor(self.request.request_id)

    @property
    def submitter(self) -> str:
        """Who submits: whoever has the token, by the name that the header Submitter gives. Raises ClusterError.

        The name is not proved: it keeps apart the warm tasks of people who trust each other with one token.
        """
        name = self.header(b"Submitter")
        if name is None:
            return self.actor.name
        if not _SUBMITTER.fullmatch(name):
            what = f"the header Submitter must be 1 to 100 letters, digits and . _ @ -, not {shown(name)}"
            raise ClusterError("bad_field", what, field="header")
        return f"{self.actor.name}/{name}"


def read_query(fields: Record, args: Mapping[bytes, list[bytes]]) -> dict[str, Any]:
    """The query of a request after all checks, with defaults. Raises ClusterError: bad_field, missing_field."""
    given: dict[str, Any] = {}
    problems: list[Problem] = []
    for raw_name, values in args.items():
        name = raw_name.decode("utf-8", "replace")
        known = fields.by_name.get(name)
        if known is None:
            problems.append(Problem(name[:200], fields.unknown(name)))
        elif len(values) > 1:
            problems.append(Problem(name, f"stands {len(values)} times; once is enough"))
        else:
            given[name] = _parsed(known, values[0].decode("utf-8", "replace"))
    problems += fields.problems(given)
    if problems:
        raise invalid(problems)
    return fields.with_defaults(given)


def _parsed(known: Field, text: str) -> Any:
    """The text as the field's type; what does not fit stays text, and is refused by the check."""
    if isinstance(known.type, Integer) and _INTEGER.fullmatch(text):
        return int(text)
    if isinstance(known.type, Number) and _NUMBER.fullmatch(text):
        return float(text)
    if isinstance(known.type, Boolean):
        return _TRUTHS.get(text.lower(), text)
    return text


def read_body(record: Record, data: bytes) -> dict[str, Any]:
    """The object in a body after all checks, with defaults; no body is an empty object. Raises ClusterError."""
    value = decode(data) if data else {}
    if not isinstance(value, dict):
        raise ClusterError("not_an_object", "the body must be a JSON object")
    problems = record.problems(value)
    if problems:
        raise invalid(problems)
    return record.with_defaults(value)
