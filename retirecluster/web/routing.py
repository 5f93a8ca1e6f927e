"""A route, and how the table of routes becomes a Klein application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import frozen
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from retirecluster.domain.access import PUBLIC, READ
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Record
from retirecluster.web.acceptable import check_accepts
from retirecluster.web.answers import JSON, Answer
from retirecluster.web.calls import NO_QUERY, Call, Web, read_body, read_query
from retirecluster.web.connections import WebRequest
from retirecluster.web.downloads import Download
from retirecluster.web.guard import SAFE_METHODS, check_content_type, check_role, needs_token
from retirecluster.web.sse import MEDIA_TYPE, Stream
from retirecluster.web.validators import validated

API = "/api/v1"
Handler = Callable[[Web, Call], Awaitable["Answer | Stream | Download"]]


@frozen
class Route:
    """One row of the table.

    `path` has its variable parts in braces. `role` is what a caller needs, see `access`. `query` are
    the fields of the query; `body` those of a JSON body (None: the handler reads it itself, or there is none).
    `media_types` are what it answers; `takes` names a schema that the OpenAPI document shows for a body which
    the handler reads itself.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    role: str = READ
    query: Record = NO_QUERY
    body: Record | None = None
    media_types: tuple[str, ...] = (JSON,)
    status: int = 200
    takes: str = ""
    devices: bool = False
    raw: bool = False

    @property
    def rule(self) -> str:
        """The path as Werkzeug writes it. `{file_name}` is all that is left of an address, slashes included."""
        return self.path.replace("{file_name}", "{path:file_name}").replace("{", "<").replace("}", ">")

    @property
    def validated(self) -> bool:
        """Whether answers carry an ETag: documents that anybody may read again and again."""
        views = self.path.startswith(("/api/", "/text/")) and JSON in self.media_types
        return views and self.method == "GET" and self.role == READ

    @property
    def only_type(self) -> str | None:
        """The media type of a document or a stream that is to be had in no other at its address."""
        single = self.media_types in ((JSON,), (MEDIA_TYPE,)) and self.path.startswith((API, "/stream"))
        return self.media_types[0] if single and self.method == "GET" else None

    @property
    def operation_id(self) -> str:
        """A name that no other route has: the method and the path."""
        words = [self.method.lower(), *(part.strip("{}.") for part in self.path.split("/") if part)]
        return "_".join(word.replace(".", "_").replace("-", "_") for word in words)


def make_app(routes: Sequence[Route], web: Web) -> Klein:
    """The Klein application of a table of routes."""
    app = Klein()
    app.url_map.merge_slashes = False
    paths = {route.path for route in routes}
    for route in routes:
        twin = "/text" + route.path.removeprefix(API)
        endpoint = _endpoint(route, web, twin if twin in paths else "")
        endpoint.__name__ = route.operation_id
        app.route(route.rule, methods=[route.method], endpoint=route.operation_id)(endpoint)
    app.handle_errors(Exception)(_answer_failure)
    return app


def _endpoint(route: Route, web: Web, twin: str) -> Callable[..., Awaitable[bytes | None]]:
    """`twin` is the address that has the same as text; empty if there is none."""
    handler, reads_query = route.handler, bool(route.query.fields)
    defaults, has_validator = route.query.with_defaults({}), route.validated
    only = route.only_type

    async def endpoint(request: WebRequest, **path: str) -> bytes | None:
        request.route = route.path
        try:
            query = read_query(route.query, request.args) if request.args or reads_query else defaults
            call = Call(request, path, query)
            _check_caller(route, call)
            if only is not None:
                check_accepts(request.requestHeaders, only, twin)
            answer = await handler(web, call)
            if isinstance(answer, Answer):
                if has_validator and answer.status == 200:
                    answer = validated(answer, request.requestHeaders)
                request.prepare(answer)
                return answer.body
            if isinstance(answer, Download):
                await answer.run(request)
                return None
            if request.method == b"HEAD":
                request.prepare(Answer(200, b"", MEDIA_TYPE))
                return b""
            await answer.run(request)
        except CancelledError:
            raise
        except Exception:
            return _prepared_failure(request, Failure())
        return None

    return endpoint


def _check_caller(route: Route, call: Call) -> None:
    """Whether the caller may do that; a device's token is for few routes."""
    request, what = call.request, f"{route.method} {route.path}"
    if request.device is None:
        check_role(request.caller, route.role, what)
    elif not route.devices:
        raise ClusterError("forbidden", f"a device's token is not for {what}")
    if changes_something(route) or route.body is not None:
        _take_body(route, call)


def _take_body(route: Route, call: Call) -> None:
    """What a call that changes something, or may, needs: a body that says what it is."""
    request = call.request
    if request.received_bytes:
        check_content_type(request.requestHeaders, raw=route.raw)
    if route.body is not None:
        call.body = read_body(route.body, request.content.read())


def _prepared_failure(request: WebRequest, failure: Failure) -> bytes | None:
    if request.startedWriting:
        request.failed(failure)  # for the log; the stream just ends
        return None
    answer = request.failed(failure)
    request.prepare(answer)
    return answer.body


def _answer_failure(request: IRequest, failure: Failure) -> bytes | None:
    """What Klein or Werkzeug raise: no such address, no such method there."""
    assert isinstance(request, WebRequest)
    value = failure.value
    if not isinstance(value, HTTPException):
        return _prepared_failure(request, failure)
    if request.caller.role == PUBLIC:
        answer = request.problem(needs_token("reading from another machine", READ))
        request.prepare(answer)
        return answer.body
    allowed = getattr(value, "valid_methods", None)
    if allowed:
        error = _wrong_method(request, sorted(allowed))
        request.responseHeaders.setRawHeaders(b"Allow", [", ".join(sorted(allowed)).encode("ascii")])
    else:
        error = ClusterError("not_found", "there is nothing at this address; GET /api/v1/openapi.json lists what is")
    answer = request.problem(error)
    request.prepare(answer)
    return answer.body


def _wrong_method(request: WebRequest, allowed: Sequence[str]) -> ClusterError:
    method = request.method.decode("ascii", "replace")
    return ClusterError("method_not_allowed", f"{method} is not for this address; it has {', '.join(allowed)}")


def changes_something(route: Route) -> bool:
    """Whether a route's method is one that changes state."""
    return route.method.encode("ascii") not in SAFE_METHODS


def variables(route: Route) -> list[str]:
    """The names of the variable parts of a route's path, in order."""
    return [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
