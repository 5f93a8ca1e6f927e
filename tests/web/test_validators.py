"""ETags: what is polled is sent again when it has changed, and only then."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from retirecluster.domain.tasks import encode
from retirecluster.web.answers import Answer, success
from retirecluster.web.routes import ROUTES
from retirecluster.web.validators import validated
from tests.support import pause
from tests.web.device import played
from tests.web.http import Http

ECHO = {"task_type": "echo", "payload": {}}
NOT_POLLED = {
    "/text/metrics",
    "/text/audit",
    "/api/v1/audit",
    "/api/v1/files",
    "/api/v1/audit/verify",
    "/api/v1/ca",
    "/api/v1/tokens",
}
NOTHING = Headers()


def tag_of(answer: Answer) -> bytes:
    [tag] = [value for name, value in answer.headers if name == b"ETag"]
    return tag


def test_reads_that_are_polled_have_validators() -> None:
    for route in ROUTES:
        document = route.path.startswith(("/api/", "/text/")) and route.path not in NOT_POLLED
        is_file = "application/octet-stream" in route.media_types
        assert route.validated == (document and route.method == "GET" and not is_file), (route.method, route.path)


@pytest_twisted.ensureDeferred
async def test_every_polled_read_is_answered_with_304_while_nothing_changes(node: Any, http: Http) -> None:
    device = await played(node)
    task_id = (await http.post("/api/v1/tasks", ECHO | {"name": "a"})).data["task_id"]
    await device.finish(await device.take())
    names = {"task_id": task_id, "device_id": "pixel-3", "name": "sun"}
    await http.call("PUT", "/api/v1/signals/sun", {"value": 1, "ttl_s": 600})
    same = 0
    for route in ROUTES:
        if not route.validated:
            continue
        path = route.path.format(**names)
        first = await http.get(path)
        assert first.status == 200, path
        assert first.headers["cache-control"] == "no-cache"
        tag = first.headers["etag"]
        assert tag.startswith('W/"')
        await pause(0.002)
        again = await http.get(path, If_None_Match=f'"other", {tag}')
        if again.status == 304:
            same += 1
            assert (again.body, again.headers["etag"], again.headers["cache-control"]) == (b"", tag, "no-cache")
            assert "content-type" not in again.headers
        head = await http.call("HEAD", path, token=False)
        assert (head.status, head.body) == (200, b"")
        assert (await http.get(path, If_None_Match='"other"')).status == 200
    assert same >= 20
    for path in (
        "devices",
        "devices/pixel-3",
        "tasks",
        f"tasks/{task_id}",
        "cluster/status",
        "tasks/types",
        "openapi.json",
    ):
        tag = (await http.get(f"/api/v1/{path}")).headers["etag"]
        assert (await http.get(f"/api/v1/{path}", If_None_Match=tag)).status == 304, path
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_what_changes_is_sent(node: Any, http: Http) -> None:
    task_id = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    polled = (
        "/api/v1/tasks",
        f"/api/v1/tasks/{task_id}",
        f"/api/v1/tasks/{task_id}/status",
        f"/api/v1/tasks/{task_id}/why",
        "/api/v1/tasks/statistics",
        "/api/v1/cluster/status",
        "/text/tasks",
        f"/text/tasks/{task_id}",
        "/text/status",
        "/api/v1/events",
    )
    tags: dict[str, str] = {}

    async def changed(step: str) -> None:
        for path in polled:
            answer = await http.get(path, **({"If_None_Match": tags[path]} if tags else {}))
            assert answer.status == 200, (step, path)
        tags.update({path: (await http.get(path)).headers["etag"] for path in polled})

    await changed("queued")
    device = await played(node)
    task = await device.take()
    await pause(0.3)
    await changed("running")
    progress = f"/api/v1/tasks/{task_id}/status"
    device.say("task_progress", {"task_id": task_id, "epoch": task["epoch"], "percent": 50, "message": "half"})
    await pause(0.1)
    assert (await http.get(progress, If_None_Match=tags[progress])).data["progress"]["percent"] == 50
    await device.finish(task)
    await changed("completed")
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_time_alone_is_no_change_and_formats_differ(node: Any, http: Http) -> None:
    device = await played(node)
    formats = ("text", "csv", "tsv", "json")
    tags = {each: (await http.get(f"/text/status?format={each}")).headers["etag"] for each in formats}
    assert len(set(tags.values())) == len(formats)
    devices = (await http.get("/api/v1/devices")).headers["etag"]
    await pause(1.1)  # the uptime is another one now, in every format
    for each, tag in tags.items():
        assert (await http.get(f"/text/status?format={each}", If_None_Match=tag)).status == 304, each
    assert (await http.get("/api/v1/devices", If_None_Match=devices)).status == 304
    device.say("heartbeat", {"system_metrics": {"cpu_usage": 99.0, "memory_usage": 40.0}})
    await device.expect("heartbeat_ack")
    assert (await http.get("/api/v1/devices", If_None_Match=devices)).status == 200
    assert (await http.get("/text/devices", Accept="text/csv")).headers["vary"] == "Accept"
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_a_waiting_read_of_what_has_not_changed(http: Http) -> None:
    task_id = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    tag = (await http.get(f"/api/v1/tasks/{task_id}")).headers["etag"]
    assert (await http.get(f"/api/v1/tasks/{task_id}?wait=0.1", If_None_Match=tag)).status == 304
    missing = await http.get("/api/v1/tasks/task-nosuchtask00", If_None_Match="*")
    assert (missing.status, missing.code) == (404, "not_found") and "etag" not in missing.headers


@given(st.text(), st.text())
def test_text_of_others_is_never_taken_for_a_figure_that_passes(one: str, other: str) -> None:
    for shape in ('x","uptime_s":{}', '"last_seen_s":{}', "{}"):
        answers = [success({"name": shape.format(each)}) for each in (one, other)]
        tags = {tag_of(validated(each, NOTHING)) for each in answers}
        assert len(tags) == len({each.body for each in answers})


@pytest.mark.parametrize("name", ["last_seen_s", "uptime_s", "throughput_per_s", "since_s", "for_s", "probe_in_s"])
def test_figures_that_pass_do_not_count(name: str) -> None:
    tags = {tag_of(validated(success({"a": 1, name: figure}), NOTHING)) for figure in (1, 2.5, 1e-7)}
    assert len(tags) == 1
    assert encode({name: 1}) == f'{{"{name}":1}}'  # without spaces, as the validator expects it
