"""One command on its way: what it may ask of the API, and what came of it.

A command has no door of its own to the cluster. It calls the handlers of the JSON API, found by method and path in the
table of routes, with the same checks of role, query and body. So nothing can be done by a command that its caller could
not do without it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import BytesIO
from typing import Any, cast

from attrs import define, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.web.http_headers import Headers

from retirecluster.domain.access import Caller
from retirecluster.domain.commands.grammar import Filled
from retirecluster.domain.commands.selectors import (
    ALL,
    DEVICES,
    LAST,
    TASKS,
    Listing,
    device_named,
    devices_named,
    rows,
)
from retirecluster.domain.commands.task_table import ALL_MEANS
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import shown
from retirecluster.domain.tasks import encode
from retirecluster.render.views import Said, View
from retirecluster.web.answers import Answer
from retirecluster.web.calls import Call, Web
from retirecluster.web.connections import WebRequest
from retirecluster.web.guard import Peer, check_role
from retirecluster.web.routing import API, Route

PAGE = 1000
MAX_TASKS = 10_000
"""Tasks that one command can mean with `all`, or export."""
AT_ONCE = 200
"""Things that are done at the same time: they share a commit."""
Document = dict[str, Any]
RouteIndex = Mapping[tuple[str, str], Route]


@frozen
class Outcome:
    """What a command shows. `stream` is where to go on listening, `again_s` when to ask again, as `--watch` wants.

    `data` False: the documents are not sent beside the text.
    """

    view: View
    exit_code: int = 0
    stream: Mapping[str, Any] | None = None
    again_s: float | None = None
    data: bool = True


@define(eq=False)
class _InnerRequest:
    """What handlers look at of a request, for a call that no request was made for."""

    requestHeaders: Headers
    content: BytesIO
    caller: Caller
    request_id: str
    peer: Callable[[], Peer]
    method: bytes
    device: str | None = None


@define(eq=False)
class Run:
    """A command with its values, and who asks."""

    web: Web
    call: Call
    filled: Filled
    routes: RouteIndex
    listing: Listing | None = None
    width: int | None = None

    @property
    def values(self) -> Mapping[str, Any]:
        return self.filled.values

    # -- the API

    async def ask(
        self, method: str, path: str, *, query: Document | None = None, body: Any = None, **variables: str
    ) -> Any:
        """The document that a route answers with. Raises ClusterError as the route does."""
        route = self.routes[method, API + path]
        request = self.call.request
        check_role(request.caller, route.role, self.filled.command.name)
        query = {name: value for name, value in (query or {}).items() if value is not None}
        inner = Call(cast(WebRequest, self._request(route, body)), variables, route.query.with_defaults(query))
        problems = route.query.problems(query)
        if route.body is not None:
            problems += route.body.problems(body or {})
            inner.body = route.body.with_defaults(body or {})
        if problems:
            raise invalid(problems)
        answer = await route.handler(self.web, inner)
        assert isinstance(answer, Answer), path
        return json.loads(answer.body)["data"]

    def _request(self, route: Route, body: Any) -> _InnerRequest:
        headers, ours = Headers(), self.call.request.requestHeaders
        for name in (b"Submitter", b"Idempotency-Key", b"Host", b"X-Forwarded-Proto"):
            values = ours.getRawHeaders(name)
            if values:
                headers.setRawHeaders(name, values)
        content = b"" if body is None else encode(body).encode("ascii")
        request = self.call.request
        method = route.method.encode("ascii")
        return _InnerRequest(headers, BytesIO(content), request.caller, request.request_id, request.peer, method)

    # -- devices

    async def device_ids(self) -> list[str]:
        """Every device, by id."""
        return [each["device_id"] for each in (await self.ask("GET", "/devices"))["devices"]]

    async def device(self) -> str:
        """The one device that the line names."""
        word, known = self.values["device"], await self.device_ids()
        found = None if word in known else rows(word, DEVICES, self.listing)
        if found is None:
            return device_named(word, known)
        if len(found) != 1:
            raise ClusterError("ambiguous", f"one device is needed here; {word} are {len(found)}")
        return devices_named([word], known, self.listing)[0]

    async def devices(self) -> list[str]:
        """The devices that the line names."""
        words: list[str] = self.values["devices"]
        found = devices_named(words, await self.device_ids(), self.listing)
        self.agree(words, len(found), "device")
        return found

    # -- tasks

    async def task_id(self, word: str) -> str:
        """The one task that a word names."""
        if word == ALL:
            raise ClusterError("ambiguous", "one task is needed here, not all; `tasks list` shows them")
        if word == LAST:
            newest = (await self.ask("GET", "/tasks", query={"limit": 1}))["tasks"]
            if not newest:
                raise ClusterError("not_found", "there is no last task: none has been submitted yet")
            return str(newest[0]["task_id"])
        found = rows(word, TASKS, self.listing)
        if found is not None:
            if len(found) != 1:
                raise ClusterError("ambiguous", f"one task is needed here; {word} are {len(found)}")
            return found[0]
        return str((await self._task_named(word))["task_id"])

    async def _task_named(self, word: str) -> Document:
        if not word.isascii() or not word.replace("-", "").replace("_", "").isalnum():
            raise ClusterError("not_found", f"no task is called {shown(word)}; `tasks list` shows them")
        try:
            found: Document = await self.ask("GET", "/tasks/{task_id}", task_id=word)
        except ClusterError as error:
            if error.code != "not_found" or word.startswith("task-"):
                raise
            # People leave the part out that all ids share.
            found = await self.ask("GET", "/tasks/{task_id}", task_id=f"task-{word}")
        return found

    async def task_ids(self) -> list[str]:
        """The tasks that the line names, each once; `all` are those that the command is for."""
        words: list[str] = self.values["tasks"]
        found: dict[str, None] = {}
        for word in words:
            listed = rows(word, TASKS, self.listing)
            if word == ALL:
                states = ",".join(sorted(ALL_MEANS[self.filled.command.path[-1]]))
                listed = [each["task_id"] for each in await self.tasks({"status": states})]
            found |= dict.fromkeys([await self.task_id(word)] if listed is None else listed)
        self.agree(words, len(found), "task")
        return list(found)

    async def tasks(self, query: Document, limit: int = MAX_TASKS) -> list[Document]:
        """Tasks that fit a query, newest first, page by page."""
        found: list[Document] = []
        cursor = None
        while len(found) < limit:
            page = await self.ask(
                "GET", "/tasks", query=query | {"limit": min(PAGE, limit - len(found)), "cursor": cursor}
            )
            found += page["tasks"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        return found

    # -- doing something to each

    def agree(self, words: Sequence[str], count: int, what: str) -> None:
        """`all` is much at once, and has to be meant."""
        if ALL in words and count and self.values.get("yes") is False:
            verb, ending = self.filled.command.path[-1], "s" * (count != 1)
            raise ClusterError("conflict", f"{verb} {count} {what}{ending}? Add --yes if that is meant")

    async def each(self, ids: Sequence[str], one: Callable[[str], Awaitable[Said]]) -> Outcome:
        """Do it to each of them. What fails for one is said, and the others are done."""

        async def attempt(name: str) -> Said | ClusterError:
            try:
                return await one(name)
            except ClusterError as error:
                return error

        found: list[Said | ClusterError] = []
        for start in range(0, len(ids), AT_ONCE):
            doing = [Deferred.fromCoroutine(attempt(each)) for each in ids[start : start + AT_ONCE]]
            found += await gatherResults(doing)
        failed = [each for each in found if isinstance(each, ClusterError)]
        if failed and len(found) == 1:
            raise failed[0]
        return Outcome(_told(ids, found), failed[0].kind.exit_code if failed else 0)


def _told(ids: Sequence[str], found: Sequence[Said | ClusterError]) -> Said:
    lines: list[str] = []
    documents: list[Any] = []
    for name, each in zip(ids, found, strict=True):
        if isinstance(each, ClusterError):
            lines.append(f"{name}  not done: {each.message}")
            documents.append({"id": name, "error_code": each.code, "message": each.message})
        else:
            lines += each.lines
            documents.append(each.document)
    if not ids:
        return Said(["There is nothing to do."], [])
    return Said(lines, documents[0] if len(documents) == 1 else documents)
