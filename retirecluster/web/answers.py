"""What the doors answer: documents in the success envelope, and problems by RFC 9457."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from attrs import evolve, frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Problem, shown
from retirecluster.domain.tasks import encode

JSON = "application/json"
PROBLEM = "application/problem+json"
TEXT = "text/plain; charset=utf-8"
RETRY_AFTER_S = 5
Header = tuple[bytes, bytes]

_BEARER = (b"WWW-Authenticate", b'Bearer realm="retire-cluster"')


@frozen
class Answer:
    """A whole answer. `headers` are those beyond Content-Type, Content-Length and what every answer has."""

    status: int
    body: bytes
    media_type: str = JSON
    headers: tuple[Header, ...] = ()

    def with_headers(self, *more: Header) -> Answer:
        """The same answer with more headers."""
        return evolve(self, headers=self.headers + more)


def success(data: object, status: int = 200) -> Answer:
    """A document in its envelope."""
    return Answer(status, ('{"status":"success","data":' + encode(data) + "}").encode("ascii"))


def success_text(data: str) -> Answer:
    """A document that is JSON text already, in its envelope."""
    return Answer(200, ('{"status":"success","data":' + data + "}").encode("ascii"))


def problem_document(error: ClusterError, status: int, request_id: str, instance: str) -> dict[str, Any]:
    """The members of RFC 9457, and ours: error_code, request_id, and errors where fields are wrong."""
    document: dict[str, Any] = {
        "type": f"urn:retire-cluster:error:{error.code}",
        "title": error.kind.doc,
        "status": status,
        "detail": error.message,
        "instance": instance,
        "error_code": error.code,
        "request_id": request_id,
    }
    problems = error.problems or ((Problem(error.field, error.message),) if error.field else ())
    if problems:
        document["errors"] = [{"field": each.path, "message": each.message} for each in problems]
    return document


def problem(error: ClusterError, request_id: str, instance: str = "", status: int | None = None) -> Answer:
    """An error as an answer. `status` only where HTTP knows a closer one than the table of errors."""
    code = status or error.kind.http_status
    if code < 400:  # an error of the command line that has no business here
        code = 500
    headers: tuple[Header, ...] = ()
    if code in (429, 503, 507):
        headers = (_retry(error.retry_after_s or RETRY_AFTER_S),)
    elif code == 401:
        headers = (_BEARER,)
    body = encode(problem_document(error, code, request_id, instance)).encode("ascii")
    return Answer(code, body, PROBLEM, headers)


def _retry(seconds: int) -> Header:
    return (b"Retry-After", b"%d" % seconds)


def instance_of(uri: bytes) -> str:
    """A request's address as it may stand in a document: without the query, short, printable."""
    path = uri.split(b"?", 1)[0][:200].decode("latin-1")
    return path if path.isprintable() and path.isascii() else shown(path, 200)


def as_cluster_error(raised: Exception) -> ClusterError | None:
    """The error in our table that an exception stands for; None for a mistake of ours."""
    if isinstance(raised, ClusterError):
        return raised
    if isinstance(raised, sqlite3.OperationalError) and _is_busy(str(raised)):
        return ClusterError("store_busy")
    return None


def _is_busy(text: str) -> bool:
    return "locked" in text or "busy" in text


_PHRASES = {int(each): each.phrase.encode("ascii") for each in HTTPStatus}


def reason_phrase(status: int) -> bytes:
    """The words beside a status."""
    return _PHRASES[status]


def raw(answer: Answer, headers: Mapping[bytes, bytes], constant: bytes) -> bytes:
    """An answer as the bytes of a response that ends its connection, for where there is no request to answer."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (answer.status, reason_phrase(answer.status))]
    fields = {
        b"Content-Type": answer.media_type.encode("ascii"),
        b"Content-Length": b"%d" % len(answer.body),
        b"Connection": b"close",
        **headers,
    }
    lines += [name + b": " + value + b"\r\n" for name, value in (*fields.items(), *answer.headers)]
    return b"".join(lines) + constant + b"\r\n" + answer.body
