"""Metrics for Prometheus: strict in form, right in figures, bounded in labels, and what deploy/ says of them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock

from retirecluster.domain.distribution import WAITS_S, Distribution
from retirecluster.main.lag import TICK_S, LagMeter
from retirecluster.web import exposition
from retirecluster.web.metric_table import BY_NAME, COUNTER, GAUGE, HISTOGRAM, INFO, METRICS
from tests.support import connect, pause
from tests.web.conftest import http_of
from tests.web.device import played
from tests.web.http import Http, parse, wire

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ECHO = {"task_type": "echo", "payload": {"message": "hello"}}
UNITS = ("seconds", "bytes", "ratio", "celsius")
promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool: Debian's package prometheus")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def run_promtool(*arguments: str, given: str = "", folder: Path = ROOT) -> None:
    done = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, timeout=120, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if arguments[:2] == ("check", "metrics"):
        assert not done.stdout and not done.stderr  # what it advises counts, too


def samples_of(families: list[Family]) -> Samples:
    found: Samples = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands twice"
            found[key] = sample.value
    return found


async def read(http: Http) -> tuple[str, Samples]:
    answer = await http.get("/text/metrics")
    assert answer.status == 200
    return answer.text, samples_of(list(text_string_to_metric_families(answer.text)))


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def busy_cluster(node: Any, http: Http) -> None:
    """A cluster in which every metric has something to tell."""
    one = await played(node, "pixel-3", slots=1)
    first = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    task = await one.take()
    await one.finish(task, execution_time=0.01)
    stale = {"task_id": first, "epoch": 7, "status": "completed"}
    one.say("task_result", stale)
    await one.expect("result_ack")
    # A task that one device hands back and another one completes.
    await http.post("/api/v1/tasks", ECHO | {"priority": "high"})
    moved = await one.take()
    two = await played(node, "nas", slots=1)
    one.say("task_refused", {"task_id": moved["task_id"], "epoch": moved["epoch"], "reason": "low battery"})
    await two.finish(await two.take())
    await http.post("/api/v1/devices/pixel-3/cordon")
    # One that fails, waits for its next attempt, and some that wait for a device.
    await http.post("/api/v1/tasks", ECHO)
    await two.finish(await two.take(), status="failed")
    await http.post("/api/v1/devices/nas/cordon")
    await http.post("/api/v1/tasks", [ECHO | {"priority": "low"}] * 3)
    content = b"x" * 1000
    address = f"/api/v1/files/{sha256(content).hexdigest()}"
    assert (await http.call("PUT", address, body=content)).status == 201
    assert (await http.call("GET", address)).body == content
    assert (await http.get("/nowhere")).status == 404
    one.say("task_started", {"task_id": "task-none", "epoch": 1})
    await one.expect("error")
    await pause(0.6)  # one tick of the lag meter
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_every_figure_is_where_the_thing_happened(node: Any, http: Http) -> None:
    await busy_cluster(node, http)
    text, samples = await read(http)
    families = {each.name for each in text_string_to_metric_families(text)}
    assert families == {each.name.removesuffix("_total") for each in METRICS}
    assert value(samples, "retire_tasks_finished_total", state="completed") == 2
    assert value(samples, "retire_task_attempts_total", outcome="completed") == 2
    assert value(samples, "retire_task_attempts_total", outcome="handed_back") == 1
    assert value(samples, "retire_task_attempts_total", outcome="failed") == 1
    assert value(samples, "retire_task_retries_total") == 1
    assert value(samples, "retire_task_reassignments_total") == 1
    assert value(samples, "retire_results_refused_total", code="stale_attempt") == 1
    assert value(samples, "retire_task_wait_seconds_count") == 3
    assert value(samples, "retire_task_run_seconds_count") == 3
    assert value(samples, "retire_queue_tasks", priority="low") == 3
    assert value(samples, "retire_queue_tasks", priority="high") == 0
    assert value(samples, "retire_queue_oldest_seconds") > 0.1
    assert value(samples, "retire_leases") == 0
    assert value(samples, "retire_heartbeats_total") == 2
    assert value(samples, "retire_messages_total", direction="in", kind="task_result") == 4
    assert value(samples, "retire_messages_total", direction="out", kind="task_assign") == 4
    assert value(samples, "retire_messages_refused_total", code="not_found") == 1
    assert value(samples, "retire_file_bytes_total", direction="in") == 1000
    assert value(samples, "retire_file_bytes_total", direction="out") == 1000
    assert value(samples, "retire_files_size_bytes") == 1000
    tasks = {"route": "/api/v1/tasks", "method": "POST", "status": "201"}
    assert value(samples, "retire_http_requests_total", **tasks) == 4
    assert value(samples, "retire_http_requests_total", route="other", method="GET", status="404") == 1
    took = {"route": "/api/v1/tasks", "status": "2xx"}
    assert value(samples, "retire_http_request_duration_seconds_count", **took) == 4
    assert 0 < value(samples, "retire_http_request_duration_seconds_sum", **took) < 60
    assert value(samples, "retire_device_status", device_id="pixel-3", status="disconnected") == 1
    assert value(samples, "retire_device_up", device_id="nas", role="mobile") == 0
    assert value(samples, "retire_device_tasks_failed_total", device_id="nas") == 1
    assert value(samples, "retire_scheduling_seconds_count") > 5
    assert value(samples, "retire_store_commits_total") == value(samples, "retire_store_commit_seconds_count")
    assert value(samples, "retire_store_size_bytes") > 4096
    assert value(samples, "retire_disk_free_bytes") > value(samples, "retire_disk_min_free_bytes")
    assert value(samples, "retire_reactor_lag_seconds_count") >= 1
    checks = {labels for name, labels in samples if name == "retire_health_check_ok"}
    assert checks == {frozenset({("check", name)}) for name in ("store", "accepting", "disk", "listener", "lag")}


def check_family(family: Family) -> None:
    """What Prometheus' own habits ask for, and the table says."""
    name = family.name + ("_total" if family.type == COUNTER else "")
    known = BY_NAME[name]
    assert family.type == (GAUGE if known.kind == INFO else known.kind), name
    assert family.documentation == known.doc and known.doc.endswith(".")
    assert re.fullmatch(r"retire_[a-z]+(_[a-z]+)*", name)
    if known.kind == HISTOGRAM:
        assert name.endswith("_seconds")
        check_histogram(family)
    allowed = set(known.labels) | ({"le"} if known.kind == HISTOGRAM else set())
    for sample in family.samples:
        assert set(sample.labels) == allowed or set(sample.labels) == set(known.labels), sample
        assert sample.name in known.series and isfinite(sample.value)
        assert known.kind == GAUGE or sample.value >= 0


def check_histogram(family: Family) -> None:
    series: dict[frozenset[tuple[str, str]], dict[str, list[Any]]] = {}
    for each in family.samples:
        labels = frozenset(item for item in each.labels.items() if item[0] != "le")
        parts = series.setdefault(labels, {"bucket": [], "sum": [], "count": []})
        parts[each.name.rpartition("_")[2]].append((each.labels.get("le"), each.value))
    for labels, parts in series.items():
        bounds, counts = [float(bound) for bound, _ in parts["bucket"]], [count for _, count in parts["bucket"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == inf, labels
        assert counts == sorted(counts)
        assert parts["count"] == [(None, counts[-1])] and len(parts["sum"]) == 1


@pytest_twisted.ensureDeferred
async def test_the_exposition_is_strict(node: Any, http: Http) -> None:
    await busy_cluster(node, http)
    answer = await http.get("/text/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("\n")
    for family in text_string_to_metric_families(answer.text):
        check_family(family)
    # Each family once, HELP before TYPE before samples.
    heads = re.findall(r"^# (HELP|TYPE) (\S+)", answer.text, re.MULTILINE)
    assert heads == [(word, each.name) for each in METRICS for word in ("HELP", "TYPE")]
    assert "task-" not in answer.text


@promtool
@pytest_twisted.ensureDeferred
async def test_promtool_finds_nothing_to_complain_of(node: Any, http: Http) -> None:
    await busy_cluster(node, http)
    run_promtool("check", "metrics", given=(await http.get("/text/metrics")).text)


@pytest_twisted.ensureDeferred
async def test_openmetrics_for_those_who_ask(node: Any, http: Http) -> None:
    await busy_cluster(node, http)
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    answer = await http.get("/text/metrics", Accept=accept)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    families = list(openmetrics_families(answer.text))
    assert len(families) == len(METRICS)
    for accept in ("application/openmetrics-text;version=\x01;escaping=\x02", "*/*", "text/plain"):
        assert (await http.get("/text/metrics", Accept=accept)).status == 200


@pytest_twisted.ensureDeferred
async def test_names_of_devices_are_escaped_and_their_number_is_bounded(
    node: Any, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = await connect(node.worker_port)
    hostile = 'mobile"} 1\nretire_forged{x="\\'
    peer.say("register", {"device_info": {"role": hostile}, "slots": 1}, sender_id="zz-connected")
    answer = await peer.received.get()
    if answer["message_type"] == "error":  # then it was no name to begin with
        peer.say("register", {"device_info": {"role": "mobile"}, "slots": 1}, sender_id="zz-connected")
        await peer.expect("register_ack")
    for number in range(5):
        gone = await played(node, f"gone-{number}")
        await gone.leave()
    device = node.rooms.scheduler.devices["zz-connected"]
    device.profile = device.profile.with_role(hostile)
    monkeypatch.setattr(exposition, "MAX_DEVICES", 3)
    await pause(0.1)
    text, samples = await read(http)
    assert "\nretire_forged" not in text
    shown = [dict(labels) for name, labels in samples if name == "retire_device_up"]
    assert [each["device_id"] for each in shown] == ["zz-connected", "gone-0", "gone-1"]
    assert shown[0]["role"] == hostile
    assert value(samples, "retire_devices_not_shown") == 3
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_what_callers_make_up_makes_no_series(node: Any, http: Http) -> None:
    for number in range(20):
        await http.call(f"METHOD{number}", f"/nowhere/{number}")
        await http.get(f"/api/v1/tasks/task-{number:012d}")
    peer = await connect(node.worker_port)
    for number in range(20):
        peer.say(f"kind-{number}")
        await peer.expect("error")
    _, samples = await read(http)
    requests = {labels: count for (name, labels), count in samples.items() if name == "retire_http_requests_total"}
    assert len(requests) == 2
    assert requests[frozenset({("route", "other"), ("method", "other"), ("status", "404")})] == 20
    took = {
        labels: count for (name, labels), count in samples.items() if name.endswith("request_duration_seconds_count")
    }
    assert took == {
        frozenset({("route", "other"), ("status", "4xx")}): 20,
        frozenset({("route", "/api/v1/tasks/{task_id}"), ("status", "4xx")}): 20,
    }
    kinds = {dict(labels)["kind"] for name, labels in samples if name == "retire_messages_total"}
    assert kinds <= {"connection_ack", "error"}
    assert value(samples, "retire_messages_refused_total", code="unknown_type") == 20
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_the_queue_is_counted_again_after_a_restart(make_node: Any, tmp_path: Path) -> None:
    node = make_node(tmp_path)
    desk, http = node.rooms.desk, http_of(node)
    await http.post("/api/v1/tasks", [ECHO | {"priority": "urgent"}] * 2 + [ECHO])
    await http.post("/api/v1/tasks", ECHO | {"name": "held"})
    held = (await http.get("/api/v1/tasks?limit=1")).data["tasks"][0]["task_id"]
    await http.post(f"/api/v1/tasks/{held}/hold")
    assert desk.scheduler.ledger.waiting == {3: 2, 1: 1}
    await node.stopService()
    again = make_node(tmp_path)
    _, samples = await read(http_of(again))
    assert value(samples, "retire_queue_tasks", priority="urgent") == 2
    assert value(samples, "retire_queue_tasks", priority="normal") == 1
    assert value(samples, "retire_queue_oldest_seconds") < 60
    assert value(samples, "retire_incarnation") == 2


async def begun(node: Any, *, whole: bool) -> None:
    """Wait until the main has all of a request, or the beginning of a body, and has not answered yet."""

    def there() -> bool:
        waiting = [each for channel in node.site.channels for each in channel.requests]
        return any(each.came_s is not None if whole else each.received_bytes for each in waiting)

    while not there():
        await pause(0.01)


@pytest_twisted.ensureDeferred
async def test_an_answer_takes_from_the_whole_request_to_its_head(node: Any, http: Http) -> None:
    task_id = (await http.post("/api/v1/tasks", ECHO)).data["task_id"]
    took = node.rooms.cluster.figures.answers_s
    took.clear()
    node.site.clock = clock = Clock()
    asked, hold = f"/api/v1/tasks/{task_id}", f"/api/v1/tasks/{task_id}/hold"
    waiting = await wire(http.port)
    waiting.send(f"GET {asked}?wait=60 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    await begun(node, whole=True)
    clock.advance(2)
    late = await wire(http.port)
    late.send(
        f"POST {hold} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {http.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{".encode()
    )
    await begun(node, whole=False)
    stream = await http.stream("/stream/events")
    clock.advance(5)
    late.send(b"}")
    assert parse(await late.end()).status == 200
    assert (await http.post(f"/api/v1/tasks/{task_id}/cancel")).status == 200
    assert parse(await waiting.end()).status == 200
    assert (await http.raw(b"GET / HTTP/1.1\r\nno colon\r\n\r\n")).status == 400
    assert {key: each.total for key, each in took.items()} == {
        ("/api/v1/tasks/{task_id}", 2): 7.0,  # it waited
        ("/api/v1/tasks/{task_id}/hold", 2): 0.0,  # how long its body took is the caller's affair
        ("/api/v1/tasks/{task_id}/cancel", 2): 0.0,
        ("/stream/events", 2): 0.0,  # so is how long it is read
    }
    await stream.leave()


# -- how it is measured


@given(st.lists(st.floats(-10, 1e6)))
def test_a_distribution_counts_every_value_once(values: list[float]) -> None:
    made = Distribution(WAITS_S)
    for each in values:
        made.observe(each)
    counts = made.cumulated()
    assert len(counts) == len(WAITS_S) + 1 and counts[-1] == made.count == len(values)
    for bound, count in zip(WAITS_S, counts, strict=False):
        assert count == sum(each <= bound for each in values)
    assert made.total == pytest.approx(sum(max(0.0, each) for each in values))


def test_the_lag_is_how_late_a_tick_is() -> None:
    clock, lags = Clock(), Distribution((0.1, 1.0))
    meter = LagMeter(clock, lags)
    meter.start()
    for _ in range(10):
        clock.advance(TICK_S)
    assert (lags.count, meter.worst_s()) == (10, 0.0)
    clock.advance(TICK_S + 0.3)
    assert meter.worst_s() == pytest.approx(0.3)
    clock.advance(TICK_S - 0.3)  # the next one is in time
    assert lags.cumulated() == [11, 12, 12] and lags.total == pytest.approx(0.3)
    clock.rightNow += 3.0  # nothing has run for three seconds, this question aside
    assert meter.worst_s() == pytest.approx(2.5)
    for _ in range(30):
        clock.advance(TICK_S)
    assert meter.worst_s() == 0.0
    meter.stop()
    assert not clock.getDelayedCalls()


# -- what deploy/ says of it


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\bretire_\w+", expression))


SERIES = {name for each in METRICS for name in each.series}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    board = json.loads((DEPLOY / "grafana" / "retirecluster.json").read_text())
    panels = [each for each in board["panels"] if each["type"] != "row"]
    assert len({each["id"] for each in board["panels"]}) == len(board["panels"])
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    expressions += [each["expr"] for each in board["annotations"]["list"]]
    assert len(expressions) > 30
    for expression in expressions:
        assert names_in(expression) and names_in(expression) <= SERIES, expression
        check_selectors(expression)
    [instances] = [each["query"]["query"] for each in board["templating"]["list"] if each["name"] == "instance"]
    assert names_in(instances) <= SERIES


def check_selectors(expression: str) -> None:
    """Every label that a selector or a grouping names is one of the metric's."""
    for name, selector in re.findall(r"\b(retire_\w+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert labels <= {"instance", "job", *labels_of(name)}, expression
    grouped = {each for group in re.findall(r"\bby \(([^)]*)\)", expression) for each in group.split(", ")}
    known = {label for name in names_in(expression) for label in labels_of(name)}
    assert grouped <= {"instance", "le", *known}, expression


def labels_of(series: str) -> tuple[str, ...]:
    [found] = [each for each in METRICS if series in each.series]
    return found.labels


@promtool
def test_the_dashboard_is_promql(tmp_path: Path) -> None:
    """Its expressions as recording rules, which promtool reads."""
    board = json.loads((DEPLOY / "grafana" / "retirecluster.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    plain = [each.replace("$__rate_interval", "5m").replace("$instance", ".*") for each in expressions]
    rules = [{"record": f"dashboard:{number}", "expr": each} for number, each in enumerate(plain)]
    assert len(rules) > 30 and not any("$" in each for each in plain)
    path = tmp_path / "dashboard.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_promtool("check", "rules", str(path))


def test_the_rules_ask_for_metrics_that_exist() -> None:
    rules = (DEPLOY / "prometheus" / "retirecluster.rules.yml").read_text()
    assert names_in(rules) <= SERIES
    for expression in re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n(?= {8}(?:for|labels):)", rules):
        check_selectors(expression)
    alerts = re.findall(r"- alert: (\w+)", rules)
    tested = (DEPLOY / "prometheus" / "retirecluster.tests.yml").read_text()
    assert len(alerts) == len(set(alerts)) == 11
    for alert in alerts:
        assert f"alertname: {alert}\n" in tested and f"alertname: {alert}}}" in tested, alert


@promtool
def test_promtool_takes_the_rules_and_the_example() -> None:
    folder = DEPLOY / "prometheus"
    run_promtool("check", "rules", "retirecluster.rules.yml", folder=folder)
    run_promtool("check", "config", "prometheus.yml", folder=folder)
    run_promtool("test", "rules", "retirecluster.tests.yml", folder=folder)
