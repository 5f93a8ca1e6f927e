"""/health, /ready and their detailed form, with things that are really wrong."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred

from retirecluster.main import health as health_module
from retirecluster.store import database as database_module
from tests.support import connect, pause
from tests.web.conftest import http_of
from tests.web.http import Http
from tests.web.test_routes import check_problem

ECHO = {"task_type": "echo", "payload": {}}
NAMES = ["store", "accepting", "disk", "listener", "lag"]


async def failing(http: Http) -> list[str]:
    """The checks that fail; all doors say the same."""
    found = (await http.get("/api/v1/cluster/health")).data
    names = [name for name, each in found["checks"].items() if each["state"] == "failing"]
    assert list(found["checks"]) == NAMES
    assert found["problems"] == [each["problem"] for each in found["checks"].values() if each["problem"]]
    assert found["status"] == ("failing" if names else "ok")
    ready = await http.get("/ready")
    if not names:
        assert (ready.status, ready.json) == (200, {"ready": True, "problems": []})
        return []
    assert (ready.status, ready.code, ready.headers["retry-after"]) == (503, "not_ready", "5")
    check_problem(ready, "/ready")
    assert [each["field"] for each in ready.json["errors"]] == names
    text = (await http.get("/text/health")).text
    assert all(f"{name.upper()}: failing" in text for name in names)
    metrics = (await http.get("/text/metrics")).text
    assert all(f'retire_health_check_ok{{check="{each}"}} {float(each not in names)}' in metrics for each in NAMES)
    return names


@pytest_twisted.ensureDeferred
async def test_all_is_well(node: Any, http: Http) -> None:
    assert await failing(http) == []
    assert (await http.get("/health")).json["status"] == "ok"
    checks = (await http.get("/api/v1/cluster/health")).data["checks"]
    assert checks["disk"]["figure"] > checks["disk"]["limit"] == node.settings["min_free_bytes"]
    assert checks["listener"]["limit"] == node.settings["max_connections"]
    assert checks["lag"]["unit"] == checks["store"]["unit"] == "seconds"


@pytest_twisted.ensureDeferred
async def test_a_disk_with_too_little_room(make_node: Any) -> None:
    http = http_of(make_node(min_free_bytes=2**50, reserve_bytes=0))
    assert await failing(http) == ["disk"]
    assert "min_free_bytes" in (await http.get("/ready")).json["detail"]
    assert (await http.get("/health")).status == 200  # to start it again would help nobody


@pytest_twisted.ensureDeferred
async def test_a_store_that_another_program_has_locked(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.2)
    node = make_node()
    http = http_of(node)
    lock = sqlite3.connect(node.rooms.database.path)
    lock.execute("BEGIN IMMEDIATE")
    assert (await http.post("/api/v1/tasks", ECHO)).code == "store_busy"
    assert await failing(http) == ["store"]
    assert "locked" in (await http.get("/ready")).json["errors"][0]["message"]
    assert (await http.get("/health")).status == 200
    lock.rollback()
    lock.close()
    while node.rooms.turns.busy_s():
        await pause(0.05)
    assert await failing(http) == []


@pytest_twisted.ensureDeferred
async def test_a_transaction_that_hangs(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "LONGEST_WRITE_S", 0.2)
    node = make_node()
    http = http_of(node)
    lock = sqlite3.connect(node.rooms.database.path)
    lock.execute("BEGIN IMMEDIATE")
    submitting = ensureDeferred(http.post("/api/v1/tasks", ECHO))
    while node.rooms.turns.writing_for_s() <= 0.2:
        await pause(0.05)
    assert await failing(http) == ["store"]
    assert "under way" in (await http.get("/ready")).json["errors"][0]["message"]
    assert (await http.get("/health")).status == 503  # a new start may mend it: the watchdog says the same
    lock.rollback()
    lock.close()
    assert (await submitting).status == 201
    assert await failing(http) == []


@pytest_twisted.ensureDeferred
async def test_a_store_that_takes_no_writes(node: Any, http: Http) -> None:
    node.rooms.turns.stopped = True  # as it is between a broken disk and the end of the process
    assert await failing(http) == ["store"]
    live = await http.get("/health")
    assert (live.status, live.code) == (503, "not_ready")


@pytest_twisted.ensureDeferred
async def test_a_port_that_nobody_listens_on(node: Any, http: Http) -> None:
    await node.ports[0].stopListening()
    assert await failing(http) == ["listener"]
    assert (await http.get("/ready")).json["errors"][0]["message"] == "nobody listens on port"
    assert "nobody listens on port" in (await http.get("/health")).json["detail"]


@pytest_twisted.ensureDeferred
async def test_no_room_for_more_devices(make_node: Any) -> None:
    node = make_node(max_connections=2)
    http = http_of(node)
    peers = [await connect(node.worker_port) for _ in range(2)]
    assert await failing(http) == ["listener"]
    for peer in peers:
        await peer.leave()
    while node.rooms.server.peers:
        await pause(0.02)
    assert await failing(http) == []


@pytest_twisted.ensureDeferred
async def test_a_reactor_that_was_blocked(node: Any, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "LONGEST_LAG_S", 0.4)
    before = node.rooms.cluster.figures.lag_s.total
    reactor.callLater(0, time.sleep, 1.2)
    await pause(0.05)
    assert await failing(http) == ["lag"]
    assert node.rooms.lag.worst_s() > 0.4
    while node.rooms.cluster.figures.lag_s.total == before:
        await pause(0.05)
    assert node.rooms.cluster.figures.lag_s.total - before > 0.4


@pytest_twisted.ensureDeferred
async def test_a_main_that_stops(node: Any, http: Http) -> None:
    node.rooms.desk.accepting = False
    assert await failing(http) == ["accepting"]
    node.rooms.desk.accepting = True


@pytest_twisted.ensureDeferred
async def test_from_elsewhere_the_details_need_a_token(make_node: Any, tmp_path: Path) -> None:
    """A proxy on this machine speaks for people who are not here."""
    http = http_of(make_node())
    for path in ("/health", "/ready", "/api/v1/cluster/health", "/text/metrics"):
        assert (await http.get(path, X_Forwarded_For="192.0.2.1")).code == "unauthorized", path
        assert (await http.call("GET", path, X_Forwarded_For="192.0.2.1")).status == 200, path
