"""From what went wrong on the way to the main, or at it, to a `ClusterError` that says what to do next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.internet import error as internet_error
from twisted.python.failure import Failure
from twisted.web import client as web_client

from retirecluster.domain.errors import ERRORS, ClusterError
from retirecluster.domain.fields import Problem

TOKEN_HINT = "name a token with --token-file or RETIRE_CLUSTER_TOKEN_FILE, or the main's data folder with --data-dir"
TEMPORARY = frozenset({"unreachable", "shutting_down", "store_busy", "rate_limited", "too_many_connections"})
"""Codes of what may be over in a moment: the same request can succeed then."""
_CODE_BY_STATUS = {
    400: "bad_field",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "bad_field",
    429: "rate_limited",
    503: "shutting_down",
    504: "timeout",
    507: "no_space",
}


def error_from_response(status: int, body: bytes, server: str, had_token: bool = False) -> ClusterError:
    """The error in an answer: RFC 9457 problem+json from the main, or whatever a proxy on the way says."""
    problem = _problem_document(body)
    if problem is None:
        return ClusterError(
            _CODE_BY_STATUS.get(status, "internal"),
            f"{server} answered {status} and not as a retire-cluster main does; is --server right?",
        )
    code = problem.get("error_code")
    if not isinstance(code, str) or code not in ERRORS:
        code = _CODE_BY_STATUS.get(status, "internal")
    message = str(problem.get("detail") or problem.get("title") or "")
    if code == "unauthorized":
        # The main says how HTTP clients send a token; who reads this wants to know how to name one here.
        found = "did not accept the token" if had_token else "wants its admin token for that"
        message = f"the main at {server} {found}: {TOKEN_HINT}"
    if code == "internal" and problem.get("request_id"):
        message = f"{message.rstrip('.')} (request id {problem['request_id']})"
    return ClusterError(code, message, problems=_field_problems(problem.get("errors")))


def _problem_document(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) and ("error_code" in document or "title" in document) else None


def _field_problems(errors: object) -> list[Problem]:
    if not isinstance(errors, list):
        return []
    found = [each for each in errors if isinstance(each, dict)]
    return [
        Problem(str(each.get("path") or each.get("field") or ""), str(each.get("message") or each.get("detail") or ""))
        for each in found
    ]


def unreachable(server: str, why: str) -> ClusterError:
    """The main cannot be reached at all."""
    return ClusterError(
        "unreachable",
        f"cannot reach the main node at {server} ({why}); is it running? "
        "Start it with `retire-cluster up`, or name it with --server",
    )


def error_from_failure(failure: Failure, server: str) -> ClusterError | None:
    """The error for a connection that failed; None if the failure is not about the connection."""
    inner = failure.value
    wrapped = isinstance(inner, web_client.ResponseFailed | web_client.RequestTransmissionFailed)
    while isinstance(inner, web_client.ResponseFailed | web_client.RequestTransmissionFailed) and inner.reasons:
        inner = inner.reasons[0].value
    return unreachable(server, _why(inner)) if wrapped or _is_connection_error(inner) else None


def _is_connection_error(value: BaseException | None) -> bool:
    kinds = (
        internet_error.ConnectError,
        internet_error.ConnectionClosed,
        internet_error.ConnectionAborted,
        internet_error.DNSLookupError,
        internet_error.TimeoutError,
        web_client.PotentialDataLoss,
        OSError,
    )
    return isinstance(value, kinds)


def _why(value: BaseException | None) -> str:
    if isinstance(value, internet_error.ConnectionRefusedError):
        return "connection refused"
    if isinstance(value, internet_error.DNSLookupError):
        return "no such host"
    if isinstance(value, internet_error.TimeoutError | TimeoutError):
        return "no answer in time"
    if isinstance(value, internet_error.ConnectionClosed | internet_error.ConnectionAborted):
        return "the connection broke"
    if type(value).__name__ == "ParseError":
        return "what answers there does not speak HTTP"
    return str(value).strip().rstrip(".") or type(value).__name__
