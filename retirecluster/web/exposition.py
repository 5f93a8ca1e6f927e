"""Metrics for Prometheus, read from the cluster's state when they are asked for. Base units, and no task ids."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from retirecluster.web.calls import Web

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposed(web: Web) -> bytes:
    """Everything in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterCollector(web))
    text: bytes = generate_latest(registry)
    return text


class ClusterCollector(Collector):
    """Reads the state of a cluster."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def describe(self) -> Iterable[Metric]:
        """Nothing: else registering would collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, as of now."""
        status = self._web.cluster.status()
        yield InfoMetricFamily(
            "retire_main",
            "The main node",
            {"version": status["version"], "cluster_id": status["cluster_id"]},
        )
        yield _gauge("retire_uptime_seconds", "Since the main started", status["uptime_s"])
        yield from _counted(status)
        yield from self._counters(status)
        yield _gauge("retire_event_streams", "Open event streams", self._web.hub.readers)
        yield _gauge("retire_web_connections", "Open web connections", self._web.connections())
        yield from _devices(self._web.cluster.devices())

    def _counters(self, status: dict[str, Any]) -> Iterator[Metric]:
        cluster = self._web.cluster
        for name, doc, value in (
            ("retire_events", "Events in the log", status["event_no"]),
            (
                "retire_task_retries",
                "Attempts after the first, since the start",
                cluster.scheduler.ledger.retries,
            ),
            ("retire_store_commits", "Transactions since the start", cluster.desk.turns.commits),
            ("retire_heartbeat_errors", "Ticks of the heartbeat monitor that failed", cluster.heartbeat.errors),
        ):
            yield CounterMetricFamily(name, doc, value)


def _gauge(name: str, doc: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, doc, value)


def _counted(status: dict[str, Any]) -> Iterator[Metric]:
    devices = GaugeMetricFamily("retire_devices", "Devices by status", labels=["status"])
    for name, count in status["devices"].items():
        if name != "total":
            devices.add_metric([name], count)
    yield devices
    tasks = GaugeMetricFamily("retire_tasks", "Tasks by state, those that have ended included", labels=["state"])
    for name, count in status["tasks"].items():
        tasks.add_metric([name], count)
    yield tasks
    slots = GaugeMetricFamily("retire_slots", "Slots of devices that are online", labels=["state"])
    slots.add_metric(["busy"], status["slots"]["busy"])
    slots.add_metric(["free"], status["slots"]["total"] - status["slots"]["busy"])
    yield slots


_DEVICE_GAUGES = (
    ("retire_device_cpu_usage_ratio", "Processor use, 0 to 1", "cpu_usage", 0.01),
    ("retire_device_memory_usage_ratio", "Memory use, 0 to 1", "memory_usage", 0.01),
    ("retire_device_disk_usage_ratio", "Disk use, 0 to 1", "disk_usage", 0.01),
    ("retire_device_temperature_celsius", "The hottest sensor", "temperature", 1.0),
    ("retire_device_last_seen_seconds", "Since the last sign of life", "last_seen_s", 1.0),
    ("retire_device_slots", "Tasks at the same time", "slots", 1.0),
    ("retire_device_tasks", "Tasks that it holds", "assigned", 1.0),
)


def _devices(devices: list[dict[str, Any]]) -> Iterator[Metric]:
    up = GaugeMetricFamily("retire_device_up", "1 while the device is online", labels=["device_id", "role"])
    for each in devices:
        up.add_metric([each["device_id"], each["role"]], 1 if each["status"] == "online" else 0)
    yield up
    for name, doc, source, factor in _DEVICE_GAUGES:
        family = GaugeMetricFamily(name, doc, labels=["device_id"])
        for each in devices:
            if isinstance(each[source], int | float):
                family.add_metric([each["device_id"]], each[source] * factor)
        yield family
    for name, doc, source in (
        ("retire_device_tasks_completed", "Tasks that it completed", "completed"),
        ("retire_device_tasks_failed", "Tasks that failed on it", "failed"),
    ):
        counter = CounterMetricFamily(name, doc, labels=["device_id"])
        for each in devices:
            counter.add_metric([each["device_id"]], each[source])
        yield counter
