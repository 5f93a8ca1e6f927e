"""Every error that leaves the house, grouped by who must act.

One table gives each its wire `code`, HTTP status and command-line exit code, so that the doors cannot
disagree. A message says what was wrong, what is allowed, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from retirecluster.domain.fields import Problem


@frozen
class ErrorKind:
    """One row of the table. `actor` is who can mend it: caller, peer, operator or us."""

    code: str
    actor: str
    http_status: int
    exit_code: int
    doc: str


def _table(*rows: ErrorKind) -> dict[str, ErrorKind]:
    return {row.code: row for row in rows}


ERRORS = _table(
    # framing and syntax
    ErrorKind("not_json", "caller", 400, 2, "The text is not one JSON document."),
    ErrorKind("not_an_object", "caller", 400, 2, "The JSON value is not an object where one is needed."),
    ErrorKind("bad_number", "caller", 400, 2, "NaN, Infinity, or an integer beyond 64 bits."),
    ErrorKind("duplicate_key", "caller", 400, 2, "The same name stands twice in one object."),
    ErrorKind("bad_text", "caller", 400, 2, "Invalid UTF-8 or half of a surrogate pair."),
    ErrorKind("too_deep", "caller", 400, 2, "Lists and objects are nested deeper than 32."),
    ErrorKind("line_too_long", "peer", 413, 2, "A line of more than 1 MiB; the connection is closed."),
    ErrorKind("too_large", "caller", 413, 2, "The request body or a field of it is larger than allowed."),
    # meaning
    ErrorKind("bad_field", "caller", 422, 2, "A field has a wrong type or value."),
    ErrorKind("missing_field", "caller", 422, 2, "A required field is not there."),
    ErrorKind("unknown_type", "caller", 422, 2, "No message or task type has that name."),
    ErrorKind("wrong_direction", "peer", 422, 2, "That message is not for this side to send."),
    ErrorKind("not_registered", "peer", 403, 3, "Register first; until then few messages are understood."),
    ErrorKind("already_registered", "peer", 409, 3, "This connection has registered already."),
    ErrorKind("duplicate_device", "peer", 409, 3, "Another live connection holds that device id."),
    ErrorKind("register_timeout", "peer", 403, 3, "No register message came in time; the connection is closed."),
    ErrorKind("too_many_connections", "peer", 503, 4, "The cap on connections is reached."),
    ErrorKind("rate_limited", "peer", 429, 4, "Too many messages in too short a time."),
    ErrorKind("not_holder", "peer", 409, 3, "The attempt is not held by this device."),
    ErrorKind("stale_attempt", "peer", 409, 3, "A newer attempt of the task has been granted, or it has ended."),
    ErrorKind("result_conflict", "peer", 409, 3, "Another result of the same attempt is already recorded."),
    # access
    ErrorKind("unauthorized", "caller", 401, 3, "A token is needed, and none or a wrong one was given."),
    ErrorKind("forbidden", "caller", 403, 3, "That is not allowed for this caller."),
    ErrorKind("bad_host", "caller", 400, 3, "The Host header does not name this server."),
    # objects
    ErrorKind("not_found", "caller", 404, 5, "There is nothing by that name."),
    ErrorKind("ambiguous", "caller", 409, 5, "The prefix fits more than one."),
    ErrorKind("method_not_allowed", "caller", 405, 2, "That address has other methods."),
    ErrorKind("not_acceptable", "caller", 406, 2, "That view does not exist in the format asked for."),
    ErrorKind("unsupported_media_type", "caller", 415, 2, "The body's Content-Type is not one that is read here."),
    ErrorKind("conflict", "caller", 409, 5, "The state of the object does not allow that."),
    ErrorKind("idempotency_conflict", "caller", 409, 5, "The same idempotency key came before with another body."),
    ErrorKind("not_finished", "caller", 409, 5, "The task has not ended yet."),
    # capacity and condition
    ErrorKind("queue_full", "operator", 503, 4, "The queue holds as many tasks as the configuration allows."),
    ErrorKind("shutting_down", "operator", 503, 4, "The main node is stopping; try again when it is back."),
    ErrorKind("not_ready", "operator", 503, 4, "The main node cannot do its work; the problem names what fails."),
    ErrorKind("store_busy", "operator", 503, 4, "The database did not answer in time; try again."),
    ErrorKind("no_space", "operator", 507, 4, "The disk of the main node is almost full."),
    ErrorKind("bad_config", "operator", 500, 2, "The configuration has a mistake."),
    ErrorKind("unreachable", "operator", 502, 4, "The main node could not be reached."),
    ErrorKind("task_failed", "caller", 200, 1, "The task ended, and not with success."),
    ErrorKind("timeout", "caller", 504, 6, "What was waited for did not happen in time."),
    ErrorKind("internal", "us", 500, 70, "A mistake of ours; it is in the log under the request id."),
)


class ClusterError(Exception):
    """An error with a row in `ERRORS`. `problems` names fields where fields are wrong.

    `retry_after_s` is when to try again, where that is known.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        field: str = "",
        problems: Sequence[Problem] = (),
        retry_after_s: int | None = None,
    ) -> None:
        self.kind = ERRORS[code]
        self.message = message or self.kind.doc
        self.field = field or (problems[0].path if problems else "")
        self.problems = tuple(problems)
        self.retry_after_s = retry_after_s
        super().__init__(self.message)

    @property
    def code(self) -> str:
        return self.kind.code


def invalid(problems: Sequence[Problem]) -> ClusterError:
    """The error for fields that are wrong: `missing_field` when that is all, else `bad_field`."""
    missing = all(problem.message.startswith("is required") for problem in problems)
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ClusterError("missing_field" if missing else "bad_field", f"{first}{more}", problems=problems[:20])
