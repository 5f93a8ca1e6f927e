"""/text: one table, four formats, and nothing in a value that could forge it."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from retirecluster.domain.errors import ClusterError
from retirecluster.web.tabular import CSV, JSON, TEXT, TSV, Table, plain, rendered, wanted_format
from tests.web.device import played
from tests.web.http import Http

HOSTILE = ['<img src=x onerror="alert(1)">', "a|b|c", 'q"uo,te"s', "=1+1", "back\\slash", " padded ", "日本語 🦊"]
VALUES = st.one_of(st.none(), st.integers(), st.booleans(), st.text())


def test_formats_by_accept() -> None:
    assert wanted_format(None, None) == TEXT
    assert wanted_format("csv", "application/json") == CSV
    assert wanted_format(None, "*/*") == TEXT
    assert wanted_format(None, "text/*;q=0.2, application/json;q=0.5") == JSON
    assert wanted_format(None, "text/html, application/xhtml+xml, */*;q=0.8") == TEXT
    assert wanted_format(None, "text/plain;q=0, text/tab-separated-values") == TSV
    assert wanted_format(None, "text/*, text/plain;q=0.1") == CSV
    for asked, accept in (("xml", None), (None, "image/png"), (None, "text/plain;q=0")):
        with pytest.raises(ClusterError) as caught:
            wanted_format(asked, accept)
        assert caught.value.code == "not_acceptable" and "application/json" in caught.value.message


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=5))
def test_no_value_can_forge_a_column_or_a_line(rows: list[tuple[Any, Any, Any]]) -> None:
    table = Table(("a", "b", "c"), rows)
    text = rendered(table, TEXT, None)
    assert text.count("\n") == len(rows) and text.count("|") == 2 * len(rows)
    tsv = rendered(table, TSV, None)
    assert tsv.count("\n") == len(rows) + 1 and tsv.count("\t") == 2 * (len(rows) + 1)
    read = list(csv.reader(io.StringIO(rendered(table, CSV, None), newline=""), strict=True))
    assert read[0] == ["a", "b", "c"] and len(read) == len(rows) + 1
    for written in (text, tsv):
        assert all(each.isprintable() or each in "\n\t" for each in written)


@given(st.text(st.characters(exclude_categories=("C", "Z"), include_characters=' ,"\r\n\t|\\')))
def test_what_can_be_printed_comes_back_from_csv(value: str) -> None:
    read = list(csv.reader(io.StringIO(rendered(Table(("a", "b"), [(value, 1)]), CSV, False), newline=""), strict=True))
    assert read == [[value, "1"]]


@pytest_twisted.ensureDeferred
async def test_the_nearest_changes_stand_in_lines(node: Any, http: Http) -> None:
    await played(node, role="mobile")
    task = {"task_type": "echo", "payload": {}, "requirements": {"role": "nas"}}
    task_id = (await http.post("/api/v1/tasks", task)).data["task_id"]
    [change] = (await http.get(f"/api/v1/tasks/{task_id}/why")).data["nearest"]
    assert change["steps"][0]["change"] == "give_role" and change["device_id"] == "pixel-3"
    lines = (await http.get(f"/text/tasks/{task_id}/why?format=text")).text.splitlines()
    assert f"NEAREST 1: {change['text']}" in lines and "DEVICE PIXEL-3: role is mobile, not nas" in lines


@pytest_twisted.ensureDeferred
async def test_csv_and_tsv_and_text_say_what_json_says(node: Any, http: Http) -> None:
    device = await played(node, platform="andr|oid", role="mo,bile")
    await http.post("/api/v1/devices/pixel-3/drain")
    submitted = await http.post(
        "/api/v1/tasks", [{"task_type": "echo", "payload": {}, "name": name} for name in HOSTILE]
    )
    assert submitted.status == 201
    for path in ("/text/devices", "/text/tasks", "/text/events"):
        documents = (await http.get(f"{path}?format=json")).json
        answer = await http.get(path, Accept="text/csv")
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert answer.text.count("\r\n") == len(documents) + 1
        read = list(csv.DictReader(io.StringIO(answer.text, newline=""), strict=True))
        assert read == [{name: plain(value) for name, value in each.items()} for each in documents], path
        lines = (await http.get(f"{path}?header=1")).text.splitlines()
        assert lines[0].split("|") == list(documents[0])
        assert len(lines) == len(documents) + 1
        assert all(len(line.split("|")) == len(documents[0]) for line in lines)
        tsv = (await http.get(f"{path}?format=tsv&header=0")).text.splitlines()
        assert len(tsv) == len(documents)
    names = {each["name"] for each in (await http.get("/text/tasks?format=json")).json}
    assert names == set(HOSTILE)
    await device.leave()


COLUMNS = {
    "devices": {
        "id": "device_id",
        "status": "status",
        "cpu": "cpu_usage",
        "memory": "memory_usage",
        "reason": "reason",
    },
    "tasks": {"id": "task_id", "name": "name", "type": "task_type", "device": "device_id", "status": "status"},
    "events": {"event_no": "event_no", "event": "event", "task_id": "task_id", "device_id": "device_id"},
}
"""Columns of /text beside the names that /api/v1 has for the same."""


@pytest_twisted.ensureDeferred
async def test_csv_says_what_the_documents_of_the_api_say(node: Any, http: Http) -> None:
    devices = [await played(node, f"d:{number}", slots=1, role=role) for number, role in enumerate(HOSTILE[:5])]
    documents = [{"task_type": "echo", "payload": {"message": name}, "name": name} for name in HOSTILE]
    for document in documents:  # one transaction each: a batch has one event for each task, too, but no order
        assert (await http.post("/api/v1/tasks", document)).status == 201
    for device in devices:
        await device.finish(await device.take(), 'a,"b"\r\n=c')
    for path, columns in COLUMNS.items():
        listed = (await http.get(f"/api/v1/{path}?limit=500" if path != "devices" else "/api/v1/devices")).data[path]
        text = (await http.get(f"/text/{path}?format=csv" + ("&limit=500" if path != "devices" else ""))).text
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        assert len(rows) == len(listed) > 4
        wanted = [{column: plain(each[name]) for column, name in columns.items()} for each in listed]
        assert [{column: row[column] for column in columns} for row in rows] == wanted, path
    for row in rows:
        assert isinstance(json.loads(row["data"]), dict)
    for device in devices:
        await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_contract_of_devices_and_status(node: Any, http: Http) -> None:
    device = await played(node)
    assert (await http.get("/text/devices")).text == "pixel-3|online|12.5|40.0|0|-|1.0\n"
    assert (await http.get("/text/devices?header=1")).text.splitlines()[0] == "id|status|cpu|memory|tasks|reason|trust"
    lines = (await http.get("/text/status")).text.splitlines()
    assert [line.split(": ")[0] for line in lines[:6]] == ["STATUS", "NODES", "CPU", "MEMORY", "TASKS", "UPTIME"]
    assert lines[0] == "STATUS: running" and lines[2] == "CPU: 12.5%"
    assert "STATUS: online" in (await http.get("/text/devices/pixel-3")).text
    assert (await http.get("/text/health")).text.startswith("HEALTH: ok\n")
    assert (await http.get("/text/status?format=json")).json["status"] == "running"
    missing = await http.get("/text/devices/nobody")
    assert (missing.status, missing.code) == (404, "not_found")
    refused = await http.get("/text/devices", Accept="image/png")
    assert (refused.status, refused.code) == (406, "not_acceptable") and "text/csv" in refused.json["detail"]
    assert (await http.get("/text/metrics?format=csv")).status == 406
    for path, there in (
        ("/api/v1/devices", "application/json, other formats at /text/devices"),
        ("/api/v1/signals", "there is application/json"),
        ("/stream/tasks", "text/event-stream"),
    ):
        refused = await http.get(path, Accept="text/csv")
        assert (refused.status, refused.code) == (406, "not_acceptable") and there in refused.json["detail"], path
        assert (await http.get(path, Accept="application/json;q=0, text/plain")).status == 406, path
    for accept in ("*/*", "application/*", "text/csv, application/json;q=0.1", "text/html, */*;q=0.8", ""):
        assert (await http.get("/api/v1/devices", Accept=accept)).status == 200, accept
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_metrics_are_prometheus(node: Any, http: Http) -> None:
    device = await played(node)
    task_id = (await http.post("/api/v1/tasks", {"task_type": "echo", "payload": {}})).data["task_id"]
    answer = await http.get("/text/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert all(name.startswith("retire_") for name in families)
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    assert samples["retire_devices", ("status", "online")] == 1
    assert samples["retire_device_cpu_usage_ratio", ("device_id", "pixel-3")] == 0.125
    assert sum(value for name, value in samples.items() if name[0] == "retire_tasks") == 1
    assert samples["retire_slots", ("state", "free")] + samples["retire_slots", ("state", "busy")] == 2
    assert samples["retire_uptime_seconds",] > 0
    assert families["retire_events"].type == "counter"
    assert task_id not in answer.text
    assert all(family.documentation for family in families.values())
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_names_are_text_on_the_plain_page(http: Http) -> None:
    await http.post("/api/v1/tasks", [{"task_type": "echo", "payload": {}, "name": name} for name in HOSTILE])
    page = await http.get("/cli")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<img" not in page.text and "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in page.text
    assert '<meta http-equiv="refresh"' in page.text and "<script" not in page.text
    assert re.search(r"<td>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</td>", page.text)
