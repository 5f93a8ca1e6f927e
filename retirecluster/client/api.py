"""`ClusterApi`: the HTTP API of the main node as async methods.

Documents come back as the API gives them: dicts with times as ISO 8601 UTC, durations in seconds, sizes in
bytes. What goes wrong is a `ClusterError`, whether the main refused or nobody answered.

    api = ClusterApi("http://127.0.0.1:5000", token=token, reactor=reactor)
    submitted = await api.submit({"task_type": "echo", "payload": {"message": "hello"}})
    task = await api.wait(submitted[0]["task_id"])
    await api.close()
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.task import deferLater

from retirecluster.client import batches
from retirecluster.client.calls import call_document, unpack
from retirecluster.client.exchange import REQUEST_TIMEOUT_S, Exchange
from retirecluster.client.settings import submitter_header
from retirecluster.client.streams import EventStream
from retirecluster.client.transfers import Transfers
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL

Document = dict[str, Any]
Progress = Callable[[int, int], None]

LONG_POLL_S = 30
"""How long the main holds one `?wait=` request open."""
PAGE_SIZE = 200
_TRY_AGAIN = frozenset({"rate_limited", "queue_full", "store_busy", "too_many_connections"})
_SUBMIT_TRIES = 6
_FIRST_PAUSE_S = 0.5


class ClusterApi:
    """A client of one main node.

    `server` is the base URL, as `http://127.0.0.1:5000`. `token` may be empty: reads from the main's own
    machine need none. `ca` is the authority (PEM) that an https main has to be of. `reactor` is the Twisted reactor to
    use; close() what you open.
    """

    def __init__(
        self,
        server: str,
        token: str = "",
        *,
        reactor: Any,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        ca: str = "",
    ) -> None:
        self._exchange = Exchange(server, token, reactor=reactor, request_timeout_s=request_timeout_s, ca=ca)
        self._reactor = reactor
        self._transfers: Transfers | None = None
        self.server = self._exchange.server
        self.request = self._exchange.call

    async def close(self) -> None:
        """Close the idle connections. Streams are closed by whoever opened them."""
        if self._transfers is not None:
            await self._transfers.close()
        await self._exchange.close()

    # -- tasks

    async def submit(
        self,
        tasks: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        *,
        idempotency_key: str | None = None,
        progress: Progress | None = None,
    ) -> list[Document]:
        """Submit one task document or many; gives `{"task_id", "status"}` for each, in order.

        Many are sent in batches that the main accepts; each batch is all or nothing, and `progress(sent, total)`
        is called after each. A queue that is full for the moment is waited for, a few seconds long.
        `idempotency_key` is for one task; in many, each document may carry its own. An input of `files` may have the
        `path` of a file here in place of a `sha256`: it is uploaded first.
        """
        if isinstance(tasks, Mapping):
            headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
            return [await self._submit_patiently(batches.encode(await self.with_uploads(tasks)), headers)]
        documents = [await self.with_uploads(task) for task in tasks]
        submitted: list[Document] = []
        for batch in batches.batches(documents):
            submitted.extend(await self._submit_batch(batch, len(submitted), len(documents)))
            if progress is not None:
                progress(len(submitted), len(documents))
        return submitted

    async def _submit_batch(self, batch: batches.Batch, before: int, total: int) -> list[Document]:
        try:
            data = await self._submit_patiently(batch.body, {})
        except ClusterError as error:
            if not before:
                raise
            done = f"{before} of {total} tasks were submitted before this: {error.message}"
            raise ClusterError(error.code, done, problems=error.problems) from None
        return list(data["tasks"])

    async def _submit_patiently(self, body: bytes, headers: dict[str, str]) -> Any:
        headers = {**headers, **submitter_header(os.environ)}
        pause_s = _FIRST_PAUSE_S
        for _ in range(_SUBMIT_TRIES - 1):
            try:
                return await self.request("POST", "tasks", body=body, headers=headers)
            except ClusterError as error:
                # These are refusals before anything was recorded, so sending the same again is safe.
                if error.code not in _TRY_AGAIN:
                    raise
            await deferLater(self._reactor, pause_s)
            pause_s *= 2
        return await self.request("POST", "tasks", body=body, headers=headers)

    async def call(
        self, function: Callable[..., Any], *args: Any, task: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """Call a Python function on a device; gives its value, or raises what it raised there.

        `task` are more fields of its task: `requirements`, `timeout`, `mode`... See `retirecluster.client.calls`
        for what travels and whom to trust. Raises TaskFailed where the call did not come to its end.
        """
        document = call_document(function, args, kwargs, task or {})
        [submitted] = await self.submit(document)
        await self.wait(submitted["task_id"])
        return unpack(await self.result(submitted["task_id"]))

    async def task(self, task_id: str) -> Document:
        """The task document."""
        return await self.request("GET", f"tasks/{_quoted(task_id)}")

    async def tasks(self, *, limit: int | None = None, **filters: str | None) -> AsyncIterator[Document]:
        """Task documents, page after page. Filters: status, type, device, label; those that are None are left out."""
        params = {name: value for name, value in filters.items() if value is not None}
        left = limit
        while left is None or left > 0:
            params["limit"] = str(PAGE_SIZE if left is None else min(left, PAGE_SIZE))
            page = await self.request("GET", "tasks", params=params)
            for document in page["tasks"][:left]:
                yield document
            left = None if left is None else left - len(page["tasks"])
            if not page.get("next_cursor") or not page["tasks"]:
                return
            params["cursor"] = page["next_cursor"]

    async def result(self, task_id: str) -> Document:
        """The result of a task that has ended; ClusterError (`not_finished`) before."""
        return await self.request("GET", f"tasks/{_quoted(task_id)}/result")

    async def results(self, task_ids: Iterable[str]) -> Document:
        """Results of at most 200 tasks: `{"results": [...], "unfinished": [{"task_id", "status"}], "unknown", "left"}`.

        `unknown` are ids that are no tasks; `left` those to ask for again, because the answer was long enough.
        """
        return await self.request("GET", "tasks/results", params={"ids": ",".join(task_ids)})

    async def output(self, task_id: str, from_seq: int = 0) -> Document:
        """What it has printed so far: `{"epoch", "chunks": [{"seq", "stream", "data"}], "next_seq", "finished"}`."""
        return await self.request("GET", f"tasks/{_quoted(task_id)}/output", params={"from_seq": str(from_seq)})

    async def why(self, task_id: str) -> Document:
        """Why a task waits: `{"status", "reason", "devices": [{"device_id", "fits", "reasons"}], "hint", "nearest"}`.

        `nearest` are the changes that would let it run, the smallest first.
        """
        return await self.request("GET", f"tasks/{_quoted(task_id)}/why")

    async def cancel(self, task_id: str) -> Document:
        """Cancel a task; if it runs, its device is told to stop it."""
        return await self.task_action(task_id, "cancel")

    async def retry(self, task_id: str) -> Document:
        """Run a task that ended without success once more; gives the new task."""
        return await self.task_action(task_id, "retry")

    async def hold(self, task_id: str) -> Document:
        """Keep a waiting task from being given out."""
        return await self.task_action(task_id, "hold")

    async def release(self, task_id: str) -> Document:
        """Let a held task go on."""
        return await self.task_action(task_id, "release")

    async def task_action(self, task_id: str, action: str) -> Document:
        """POST tasks/{task_id}/{action}: cancel, retry, hold or release."""
        return await self.request("POST", f"tasks/{_quoted(task_id)}/{action}", body=b"{}")

    async def wait(self, task_id: str, timeout_s: float | None = None) -> Document:
        """The task document once it has ended. ClusterError (`timeout`) after `timeout_s` seconds, if given."""
        until = None if timeout_s is None else self._reactor.seconds() + timeout_s
        while True:
            left_s = float(LONG_POLL_S) if until is None else max(0.0, until - self._reactor.seconds())
            held_s = min(left_s, LONG_POLL_S)
            document = await self.request(
                "GET",
                f"tasks/{_quoted(task_id)}",
                params={"wait": f"{held_s:.3g}"},
                timeout_s=self._exchange.request_timeout_s + held_s,
            )
            if document["status"] in FINAL:
                return document
            if until is not None and self._reactor.seconds() >= until:
                raise ClusterError("timeout", f"{task_id} has not ended after {timeout_s:g} s: {document['status']}")

    async def task_types(self) -> Any:
        """The task types that the main knows, with what their payloads take."""
        return await self.request("GET", "tasks/types")

    async def task_statistics(self) -> Document:
        """Counts and times over all tasks."""
        return await self.request("GET", "tasks/statistics")

    # -- files

    @property
    def _files(self) -> Transfers:
        if self._transfers is None:
            self._transfers = Transfers(
                self._reactor, self.server, self._exchange.text_headers(), self._exchange.context
            )
        return self._transfers

    async def upload_file(self, path: str | Path, progress: Progress | None = None) -> Document:
        """Have the main hold a file: `{"sha256", "size_bytes"}`. Goes on where an earlier try stopped."""
        return await self._files.upload(Path(path), progress)

    async def with_uploads(
        self, task: Mapping[str, Any], progress: Callable[[str, int, int], None] | None = None
    ) -> Document:
        """The task, once its inputs that have a `path` are uploaded; `progress(name, done, whole)` in bytes."""
        return await self._files.with_uploads(task, progress)

    async def task_files(self, task_id: str) -> Document:
        """`{"inputs": [{"name", "sha256", "size_bytes", ...}], "outputs": [{..., "epoch"}]}`."""
        return await self.request("GET", f"tasks/{_quoted(task_id)}/files")

    async def download(
        self,
        task_id: str,
        file: Mapping[str, Any],
        folder: str | Path,
        *,
        force: bool = False,
        progress: Progress | None = None,
    ) -> bool:
        """Bring a file of a task, one of `task_files`, below `folder`; False if that content is there already.

        It goes on where an interrupted download stopped, and is checked by its hash. ClusterError (`conflict`) where
        another file has the name, unless `force`.
        """
        return await self._files.download(task_id, file, Path(folder), force=force, progress=progress)

    async def files(self) -> AsyncIterator[Document]:
        """Every file that the main holds: `{"sha256", "size_bytes", "created_at", "used_at", "named"}`."""
        params = {"limit": str(PAGE_SIZE)}
        while True:
            page = await self.request("GET", "files", params=params)
            for document in page["files"]:
                yield document
            if not page.get("next_after"):
                return
            params["after"] = page["next_after"]

    async def remove_file(self, digest: str) -> Document:
        """Remove a file that no kept task names."""
        return await self.request("DELETE", f"files/{_quoted(digest)}")

    # -- devices and the cluster

    async def devices(self) -> list[Document]:
        """All devices that the main knows."""
        data = await self.request("GET", "devices")
        return list(data["devices"])

    async def device(self, device_id: str) -> Document:
        """One device with its metrics."""
        return await self.request("GET", f"devices/{_quoted(device_id)}")

    async def device_action(self, device_id: str, action: str, body: Mapping[str, Any] | None = None) -> Document:
        """POST devices/{device_id}/{action}: ping, drain, undrain, cordon, uncordon, role (body: role)."""
        return await self.request("POST", f"devices/{_quoted(device_id)}/{action}", body=batches.encode(body or {}))

    async def create_join_token(self, body: Mapping[str, Any]) -> Document:
        """A join string for one device (body: role, name, ttl_s): `{"join_string", "command", "expires_at"}`."""
        return await self.request("POST", "join-tokens", body=batches.encode(body))

    async def device_metrics(self, device_id: str, window: str) -> Document:
        """What a device reported in a window as `2h`: `{"step", "step_s", "points": [{"at", "cpu_usage", ...}]}`."""
        return await self.request("GET", f"devices/{_quoted(device_id)}/metrics", params={"window": window})

    async def quiet(self, body: Mapping[str, Any]) -> Document:
        """Give no device anything new for `for_s` seconds; `running`: continue, suspend or hand_back."""
        return await self.request("POST", "cluster/quiet", body=batches.encode(body))

    async def end_quiet(self) -> Document:
        """End the quiet."""
        return await self.request("DELETE", "cluster/quiet")

    async def signals(self) -> list[Document]:
        """The signals that hold."""
        data = await self.request("GET", "signals")
        return list(data["signals"])

    async def set_signal(self, name: str, value: float, ttl_s: float) -> Document:
        """Set a signal for so many seconds."""
        body = batches.encode({"value": value, "ttl_s": ttl_s})
        return await self.request("PUT", f"signals/{_quoted(name)}", body=body)

    async def remove_signal(self, name: str) -> Document:
        """Remove a signal."""
        return await self.request("DELETE", f"signals/{_quoted(name)}")

    async def remove_device(self, device_id: str) -> Document:
        """Forget a device."""
        return await self.request("DELETE", f"devices/{_quoted(device_id)}")

    async def cluster_status(self) -> Document:
        """State, version, uptime, counts of devices and tasks, slots, throughput."""
        return await self.request("GET", "cluster/status")

    async def health(self) -> Document:
        """Whether the main is well."""
        return await self.request("GET", "cluster/health")

    async def cluster_config(self) -> Document:
        """The configuration that the main runs with."""
        return await self.request("GET", "cluster/config")

    # -- streams

    def stream(self, path: str, last_event_id: str = "", params: Mapping[str, str] | None = None) -> EventStream:
        """Server-sent events of `path`, as `stream/tasks`; reconnects by itself and resumes. close() it after use."""
        return EventStream(self._exchange, path.lstrip("/"), params or {}, last_event_id)


def _quoted(name: str) -> str:
    if not name:
        raise ClusterError("not_found", "a name is needed, and it is empty")
    return quote(name, safe="")
