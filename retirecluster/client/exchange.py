"""One request to the main node and its answer: timeouts, errors, and the `data` inside.

The one place of the client that knows how requests are made; `ClusterApi` above it knows which.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from retirecluster.client.problems import error_from_failure, error_from_response, unreachable
from retirecluster.transfer import HttpsEndpoints

T = TypeVar("T")
HeaderFields = dict[bytes | str, bytes | str]

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0
IDLE_CONNECTION_S = 5
"""Kept-alive connections are dropped after this, before the main's own idle timeout could race a new request."""


class Exchange:
    """Requests to one main node over a few kept-alive connections."""

    def __init__(
        self, server: str, token: str, *, reactor: Any, request_timeout_s: float = REQUEST_TIMEOUT_S, ca: str = ""
    ) -> None:
        self.server = server.rstrip("/")
        self.reactor = reactor
        self.request_timeout_s = request_timeout_s
        self.headers: HeaderFields = {"User-Agent": "retire-cluster"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self._pool = HTTPConnectionPool(reactor)
        self._pool.cachedConnectionTimeout = IDLE_CONNECTION_S
        self._pool.maxPersistentPerHost = 8
        self.context = None
        if ca and self.server.startswith("https:"):
            from retirecluster.tls import Identity  # not above: for most there is no TLS

            self.context = Identity(ca).context()
        self.client = HTTPClient(self._agent())

    def _agent(self) -> Agent:
        if self.context is None:
            return Agent(self.reactor, connectTimeout=CONNECT_TIMEOUT_S, pool=self._pool)
        endpoints = HttpsEndpoints(self.reactor, self.context, CONNECT_TIMEOUT_S)
        return Agent.usingEndpointFactory(self.reactor, endpoints, self._pool)

    def text_headers(self) -> dict[str, str]:
        """What goes with every request, for those who make their own."""
        return {str(name): str(value) for name, value in self.headers.items()}

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.closeCachedConnections()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """One request to /api/v1/`path`; the `data` of the answer. `body` is JSON text."""
        sent: HeaderFields = {**self.headers, "Accept": "application/json"}
        sent.update(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        limit_s = self.request_timeout_s if timeout_s is None else timeout_s
        work = self._exchange(method, f"{self.server}/api/v1/{path}", dict(params or {}), body, sent)
        try:
            status, content = await within(limit_s, self.reactor, work)
        except TimeoutError:
            raise unreachable(self.server, f"no answer within {limit_s:g} s") from None
        except Exception:
            raise connection_error(Failure(), self.server) from None
        return self._data(status, content)

    async def _exchange(
        self, method: str, url: str, params: dict[str, str], body: bytes | None, headers: HeaderFields
    ) -> tuple[int, bytes]:
        data = None if body is None else _Body(body)
        response = await self.client.request(
            method, url, params=params, data=data, headers=headers, allow_redirects=False, reactor=self.reactor
        )
        return response.code, await response.content()

    def _data(self, status: int, content: bytes) -> Any:
        if not 200 <= status < 300:
            raise error_from_response(status, content, self.server, "Authorization" in self.headers)
        try:
            return json.loads(content)["data"]
        except (ValueError, KeyError, TypeError):
            raise error_from_response(status, b"", self.server) from None


@implementer(IBodyProducer)
class _Body:
    """A body that is in memory. What treq makes of bytes itself is sent by the global reactor, which may not run."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All of it is written at once."""

    def resumeProducing(self) -> None:
        """All of it is written at once."""

    def stopProducing(self) -> None:
        """All of it is written at once."""


def connection_error(failure: Failure, server: str) -> BaseException:
    """What to raise for a request that failed: a ClusterError, CancelledError, or the thing itself."""
    if was_cancelled(failure):
        return CancelledError()
    return error_from_failure(failure, server) or failure.value or RuntimeError(str(failure))


def was_cancelled(failure: Failure) -> bool:
    """Whether the request was given up by us; twisted.web wraps that like any broken connection."""
    if failure.check(CancelledError):
        return True
    return any(was_cancelled(reason) for reason in getattr(failure.value, "reasons", ()))


async def within(limit_s: float, reactor: Any, work: Coroutine[Any, Any, T] | Deferred[T]) -> T:
    """What `work` gives; TimeoutError if it takes longer than `limit_s` seconds."""
    # Not Deferred.addTimeout: it knows a plain CancelledError alone, and twisted.web wraps it.
    deferred = work if isinstance(work, Deferred) else Deferred.fromCoroutine(work)
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        deferred.cancel()

    call = reactor.callLater(limit_s, expire)
    try:
        return await deferred
    except Exception:
        if expired:
            raise TimeoutError(f"not within {limit_s:g} s") from None
        raise
    finally:
        if call.active():
            call.cancel()
