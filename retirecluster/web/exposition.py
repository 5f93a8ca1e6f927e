"""Metrics for Prometheus, read from the cluster's state when they are asked for. The names are in `metric_table`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import core as families
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from retirecluster.domain.devices import Presence
from retirecluster.domain.distribution import Distribution
from retirecluster.domain.lifecycle import FINAL, HELD_BY_DEVICE, State
from retirecluster.domain.tasks import PRIORITIES
from retirecluster.web.calls import Web
from retirecluster.web.metric_table import BY_NAME, COUNTER, GAUGE, HISTOGRAM, INFO, METRICS, Metric

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text"
MAX_DEVICES = 1000
"""Devices that have series of their own, those that are connected first: names are given by devices, without an end."""

Sample = tuple[tuple[str, ...], Any]
Samples = Mapping[str, Iterable[Sample]]
"""By the name of a metric: its label values, and a number or a distribution."""


def exposed(web: Web, accept: str | None) -> tuple[bytes, str]:
    """Everything in the text format, or as OpenMetrics for who asks for that; and the media type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterCollector(web))
    if any(part.partition(";")[0].strip().lower() == OPENMETRICS for part in (accept or "").split(",")):
        return openmetrics.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST
    return generate_latest(registry), MEDIA_TYPE


class ClusterCollector(Collector):
    """Reads the state of a cluster."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def describe(self) -> Iterable[Family]:
        """Nothing: else registering would collect."""
        return []

    def collect(self) -> Iterator[Family]:
        """Every metric, as of now."""
        found = readings(self._web)
        for metric in METRICS:
            yield family(metric, found[metric.name])


def family(metric: Metric, samples: Iterable[Sample]) -> Family:
    """A metric as prometheus_client has it."""
    made = _MAKERS[metric.kind](metric)
    for labels, value in samples:
        if metric.kind == HISTOGRAM:
            made.add_metric(labels, buckets_of(value), value.total)
        else:
            made.add_metric(labels, value)
    return made


def buckets_of(value: Distribution) -> list[tuple[str, float]]:
    """Cumulated counts by upper bound, the last of which is infinite."""
    bounds = [repr(float(bound)) for bound in value.bounds] + ["+Inf"]
    return list(zip(bounds, value.cumulated(), strict=True))


_MAKERS: dict[str, Callable[[Metric], Any]] = {
    GAUGE: lambda each: families.GaugeMetricFamily(each.name, each.doc, labels=each.labels),
    COUNTER: lambda each: families.CounterMetricFamily(each.name, each.doc, labels=each.labels),
    HISTOGRAM: lambda each: families.HistogramMetricFamily(each.name, each.doc, labels=each.labels),
    INFO: lambda each: families.InfoMetricFamily(each.name.removesuffix("_info"), each.doc),
}


def readings(web: Web) -> dict[str, Iterable[Sample]]:
    """What every metric of the table says now."""
    status = web.cluster.status()
    return {**_main(web, status), **_tasks(web), **_devices(web, status), **_doors(web), **_store(web, status)}


def _one(value: Any) -> list[Sample]:
    return [] if value is None else [((), value)]


def _by(counts: Mapping[str, float]) -> list[Sample]:
    return [((name,), count) for name, count in counts.items()]


def _main(web: Web, status: Mapping[str, Any]) -> Samples:
    cluster = web.cluster
    checks = cluster.health_checks.checks()
    return {
        "retire_main_info": [((), {name: status[name] for name in BY_NAME["retire_main_info"].labels})],
        "retire_uptime_seconds": _one(status["uptime_s"]),
        "retire_start_time_seconds": _one(cluster.began.wall_s),
        "retire_incarnation": _one(status["incarnation"]),
        "retire_health_check_ok": _by({each.name: 0 if each.problem else 1 for each in checks}),
        "retire_reactor_lag_seconds": _one(cluster.figures.lag_s),
    }


def _tasks(web: Web) -> Samples:
    cluster, ledger, now = web.cluster, web.cluster.scheduler.ledger, web.cluster.moment()
    oldest = ledger.oldest_waiting()
    age_s = 0.0 if oldest is None else max(0.0, cluster.scheduler.tasks.waited_s(oldest, now))
    return {
        "retire_tasks": _by({state.value: ledger.counts[state] for state in State}),
        "retire_tasks_finished_total": _by({state.value: ledger.finished[state] for state in State if state in FINAL}),
        "retire_task_attempts_total": _by(ledger.outcomes),
        "retire_task_retries_total": _one(ledger.retries),
        "retire_task_reassignments_total": _one(ledger.moved),
        "retire_task_wait_seconds": _one(ledger.wait_s),
        "retire_task_run_seconds": _one(ledger.run_s),
        "retire_scheduling_seconds": _one(cluster.figures.scheduling_s),
        "retire_queue_tasks": _by({PRIORITIES[each]: ledger.waiting[each] for each in range(len(PRIORITIES))}),
        "retire_queue_oldest_seconds": _one(age_s),
        "retire_leases": _one(sum(ledger.counts[state] for state in HELD_BY_DEVICE)),
        "retire_results_refused_total": _by(cluster.figures.refused_results),
    }


_DEVICE_FIGURES = (
    ("retire_device_cpu_usage_ratio", "cpu_usage", 0.01),
    ("retire_device_memory_usage_ratio", "memory_usage", 0.01),
    ("retire_device_disk_usage_ratio", "disk_usage", 0.01),
    ("retire_device_temperature_celsius", "temperature", 1),
    ("retire_device_last_seen_seconds", "last_seen_s", 1),
    ("retire_device_slots", "slots", 1),
    ("retire_device_tasks", "assigned", 1),
    ("retire_device_trust_ratio", "trust", 1),
    ("retire_device_tasks_completed_total", "completed", 1),
    ("retire_device_tasks_failed_total", "failed", 1),
)


def _devices(web: Web, status: Mapping[str, Any]) -> Samples:
    slots, known = status["slots"], web.cluster.scheduler.devices
    connected = {device_id for device_id, each in known.items() if each.presence is Presence.ONLINE}
    listed = web.cluster.devices()
    listed.sort(key=lambda each: each["device_id"] not in connected)  # stable: by id among those that are alike
    shown = listed[:MAX_DEVICES]
    by_status = {name: count for name, count in status["devices"].items() if name != "total"}
    found: dict[str, Iterable[Sample]] = {
        "retire_devices": _by(by_status),
        "retire_slots": _by({"busy": slots["busy"], "free": slots["total"] - slots["busy"]}),
        "retire_devices_not_shown": _one(len(listed) - len(shown)),
        "retire_device_up": [
            ((each["device_id"], each["role"]), 1 if each["device_id"] in connected else 0) for each in shown
        ],
        "retire_device_status": [((each["device_id"], each["status"]), 1) for each in shown],
    }
    for name, source, factor in _DEVICE_FIGURES:
        numbers = ((each["device_id"], each[source]) for each in shown)
        found[name] = [((key,), value * factor) for key, value in numbers if isinstance(value, int | float)]
    return found


def _doors(web: Web) -> Samples:
    cluster, figures = web.cluster, web.cluster.figures
    moved = {"in": web.files.store.taken_in_bytes, "out": web.files.store.given_out_bytes}
    return {
        "retire_heartbeats_total": _one(figures.heartbeats),
        "retire_heartbeat_errors_total": _one(cluster.heartbeat.errors),
        "retire_messages_total": figures.messages.items(),
        "retire_messages_refused_total": _by(figures.refused_messages),
        "retire_worker_connections": _one(cluster.health_checks.limits.open.total()),
        "retire_web_connections": _one(web.connections()),
        "retire_event_streams": _one(web.hub.readers),
        "retire_http_requests_total": [
            ((route, method, str(code)), count) for (route, method, code), count in figures.requests.items()
        ],
        "retire_http_request_duration_seconds": [
            ((route, f"{digit}xx"), took) for (route, digit), took in figures.answers_s.items()
        ],
        "retire_file_bytes_total": _by(moved),
    }


def _store(web: Web, status: Mapping[str, Any]) -> Samples:
    cluster, space = web.cluster, web.cluster.desk.space
    path = cluster.database.path
    return {
        "retire_events_total": _one(status["event_no"]),
        "retire_store_commits_total": _one(cluster.desk.turns.commits),
        "retire_store_commit_seconds": _one(cluster.figures.commit_s),
        "retire_store_size_bytes": _one(_size(path) + _size(Path(f"{path}-wal"))),
        "retire_files_size_bytes": _one(web.files.store.used_bytes),
        "retire_disk_free_bytes": _one(space.free()),
        "retire_disk_min_free_bytes": _one(space.min_free_bytes),
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
