"""The API client against the contract: documents, errors, waiting, batches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Factory, Protocol

from retirecluster.client import api as api_module
from retirecluster.client import batches
from retirecluster.client.api import ClusterApi
from retirecluster.client.batches import MAX_BATCH_BYTES
from retirecluster.domain.errors import ClusterError
from tests.client.fake_main import TOKEN, FakeMain
from tests.support import pause

ECHO = {"task_type": "echo", "payload": {}}


@ensureDeferred
async def test_one_task_from_submit_to_result(api: ClusterApi, fake: FakeMain) -> None:
    fake.ends_after_gets = 3
    [submitted] = await api.submit(ECHO, idempotency_key="once")
    task = await api.wait(submitted["task_id"])
    assert task["status"] == "completed"
    assert (await api.result(submitted["task_id"]))["output"] == "done\n"
    method, path, headers, body = fake.requests[0]
    assert (method, path, json.loads(body)) == ("POST", "/api/v1/tasks", ECHO)
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["idempotency-key"] == "once"
    assert headers["content-type"] == "application/json"
    assert fake.requests[1][1].startswith("/api/v1/tasks/task-0001?wait=")


@ensureDeferred
async def test_many_tasks_go_in_batches_with_progress(
    api: ClusterApi, fake: FakeMain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_TASKS", 2)
    monkeypatch.setattr(batches.batches, "__defaults__", (MAX_BATCH_BYTES, 2))
    told: list[tuple[int, int]] = []
    submitted = await api.submit(
        (dict(ECHO, name=str(number)) for number in range(5)), progress=lambda sent, total: told.append((sent, total))
    )
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert [fake.tasks[each["task_id"]]["name"] for each in submitted] == list("01234")
    with pytest.raises(ClusterError) as caught:
        await api.submit([ECHO, ECHO, ECHO, {"payload": {}}])
    assert caught.value.code == "missing_field"
    assert caught.value.message.startswith("2 of 4 tasks were submitted before this: ")


@ensureDeferred
async def test_a_list_pages_through_all_and_stops_at_its_limit(api: ClusterApi, fake: FakeMain) -> None:
    for _ in range(8):
        fake.add(ECHO)
    assert [task["task_id"][-1] async for task in api.tasks()] == list("87654321")
    assert [task["task_id"][-1] async for task in api.tasks(limit=4)] == list("8765")
    assert [task async for task in api.tasks(limit=4, status="failed")] == []


@ensureDeferred
async def test_problems_become_errors_with_their_code(api: ClusterApi, fake: FakeMain) -> None:
    with pytest.raises(ClusterError) as caught:
        await api.submit({"payload": {}})
    assert caught.value.code == "missing_field"
    assert [problem.path for problem in caught.value.problems] == ["task_type"]
    with pytest.raises(ClusterError) as caught:
        await api.task("nope")
    assert (caught.value.code, caught.value.message) == ("not_found", "there is no task nope")
    fake.ends_after_gets = 99
    task = fake.add(ECHO)
    with pytest.raises(ClusterError) as caught:
        await api.result(task["task_id"])
    assert caught.value.code == "not_finished"


@ensureDeferred
async def test_a_missing_token_says_where_to_name_one(fake: FakeMain) -> None:
    client = ClusterApi(fake.url, "", reactor=reactor)
    with pytest.raises(ClusterError) as caught:
        await client.submit(ECHO)
    await client.close()
    assert caught.value.code == "unauthorized"
    assert "--token-file" in caught.value.message


@ensureDeferred
async def test_names_are_quoted_in_addresses(api: ClusterApi, fake: FakeMain) -> None:
    with pytest.raises(ClusterError):
        await api.device("a b?c#d")
    assert fake.requests[-1][1] == "/api/v1/devices/a%20b%3Fc%23d"
    with pytest.raises(ClusterError):
        await api.task("")


@ensureDeferred
async def test_a_full_queue_is_waited_for(api: ClusterApi, fake: FakeMain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "_FIRST_PAUSE_S", 0.01)
    fake.refusals = [(503, "queue_full"), (429, "rate_limited")]
    assert len(await api.submit(ECHO)) == 1
    fake.refusals = [(503, "queue_full")] * 20
    with pytest.raises(ClusterError) as caught:
        await api.submit(ECHO)
    assert caught.value.code == "queue_full"
    assert len(fake.refusals) == 20 - 6


@ensureDeferred
async def test_waiting_gives_up_in_time(api: ClusterApi, fake: FakeMain) -> None:
    fake.ends_after_gets = 1000
    task = fake.add(ECHO)
    with pytest.raises(ClusterError) as caught:
        await api.wait(task["task_id"], timeout_s=0.05)
    assert caught.value.code == "timeout"


@ensureDeferred
async def test_nobody_there_says_what_to_do(fake: FakeMain) -> None:
    url = fake.url
    await fake.port.stopListening()
    client = ClusterApi(url, "", reactor=reactor)
    with pytest.raises(ClusterError) as caught:
        await client.health()
    assert caught.value.code == "unreachable"
    assert "retire-cluster up" in caught.value.message and "--server" in caught.value.message
    fake.listen()


class Silent(Protocol):
    """Takes a request and says what it was made with, or nothing."""

    answer = b""

    def dataReceived(self, data: bytes) -> None:
        if self.answer:
            self.transport.write(self.answer)
            self.transport.loseConnection()


async def ask_a_stranger(answer: bytes) -> ClusterError:
    factory = Factory.forProtocol(type("Stranger", (Silent,), {"answer": answer}))
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    client = ClusterApi(f"http://127.0.0.1:{port.getHost().port}", reactor=reactor, request_timeout_s=0.2)
    try:
        with pytest.raises(ClusterError) as caught:
            await client.health()
    finally:
        await client.close()
        await port.stopListening()
        await pause(0.02)
    return caught.value


@ensureDeferred
async def test_a_server_that_never_answers_is_unreachable() -> None:
    error = await ask_a_stranger(b"")
    assert error.code == "unreachable" and "0.2 s" in error.message


@ensureDeferred
async def test_what_is_no_retire_cluster_is_said_to_be_none() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"
    assert "is --server right?" in (await ask_a_stranger(page)).message
    page = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n<html"
    assert "answered 502" in (await ask_a_stranger(page)).message
    assert (await ask_a_stranger(b"\x00\x01garbage\r\n\r\n")).code == "unreachable"


@ensureDeferred
async def test_a_request_can_be_cancelled() -> None:
    factory = Factory.forProtocol(Silent)
    factory.noisy = False
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    client = ClusterApi(f"http://127.0.0.1:{port.getHost().port}", reactor=reactor)
    asking = Deferred.fromCoroutine(client.health())
    await pause(0.05)
    asking.cancel()
    with pytest.raises(CancelledError):
        await asking
    await client.close()
    await port.stopListening()
    await pause(0.02)


documents = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=30), max_size=3), max_size=20)


@given(documents, st.integers(300, 1000), st.integers(1, 5))
def test_batches_are_the_documents_in_order_and_under_the_limits(
    wanted: list[dict[str, Any]], max_bytes: int, max_tasks: int
) -> None:
    wanted = [each for each in wanted if len(batches.encode(each)) + 2 <= max_bytes]
    made = list(batches.batches(wanted, max_bytes, max_tasks))
    assert [document for batch in made for document in json.loads(batch.body)] == wanted
    assert all(len(batch.body) <= max_bytes and 1 <= batch.count <= max_tasks for batch in made)


def test_a_document_larger_than_a_batch_is_named() -> None:
    with pytest.raises(ClusterError) as caught:
        list(batches.batches([{}, {"x": "y" * 500}], max_bytes=300))
    assert caught.value.code == "too_large" and caught.value.message.startswith("[1]")


def test_what_json_cannot_say_is_an_error() -> None:
    for value in (float("nan"), {1, 2}):
        with pytest.raises(ClusterError):
            batches.encode({"payload": value})
