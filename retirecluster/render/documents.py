"""One task, device or status as `name  value` pairs for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from retirecluster.render.columns import Document, duration, field, percent, size, time_taken_s, words
from retirecluster.render.device_facts import fact_words, metric_pair
from retirecluster.render.figures import GAUGE_CELLS, bar, gauge

Pairs = list[tuple[str, str]]
PROGRESS_CELLS = 20


def _some(pairs: list[tuple[str, Any]]) -> Pairs:
    return [(name, str(value)) for name, value in pairs if value not in (None, "", [], {})]


def task_pairs(task: Document, now: datetime) -> Pairs:
    """What `tasks show` says of a task."""
    taken_s = time_taken_s(task, now)
    pairs = _some(
        [
            ("task", task.get("task_id")),
            ("name", task.get("name")),
            ("type", task.get("task_type")),
            ("status", task.get("status")),
            ("reason", task.get("reason")),
            ("priority", task.get("priority")),
            ("device", task.get("device_id")),
            ("labels", _labels(task.get("labels"))),
            ("progress", _progress(task.get("progress"))),
            ("created", task.get("created_at")),
            ("started", task.get("started_at")),
            ("finished", task.get("finished_at")),
            ("time", None if taken_s is None else duration(taken_s)),
        ]
    )
    pairs += _verification(task.get("verification"))
    for attempt in task.get("attempts") or ():
        pairs.append((f"attempt {attempt.get('epoch')}", _attempt(attempt)))
    return pairs + result_pairs(task.get("result"))


def _verification(verification: Any) -> Pairs:
    """What the copies of a verified task came to."""
    if not isinstance(verification, Mapping):
        return []
    said = ": ".join(each for each in (verification.get("state"), verification.get("reason")) if each)
    pairs = [("verification", said)]
    for number, each in enumerate(verification.get("copies") or (), 1):
        where, digest = each.get("device_id"), each.get("sha256")
        parts = [each.get("task_id"), where and f"on {where}", each.get("state") or "under way"]
        parts.append(f"sha256 {digest[:12]}" if digest else None)
        pairs.append((f"copy {number}", ", ".join(part for part in parts if part)))
    return pairs


def result_pairs(result: Any) -> Pairs:
    """What is known of a result, without the output itself."""
    if not isinstance(result, Mapping):
        return []
    error = result.get("error")
    peak = field("metrics", "memory_peak")(result)
    cpu_s = field("metrics", "cpu_time")(result)
    return _some(
        [
            ("exit code", result.get("exit_code")),
            ("execution time", None if result.get("execution_time") is None else duration(result["execution_time"])),
            ("processor time", None if cpu_s is None else duration(cpu_s)),
            ("memory peak", None if peak is None else size(peak)),
            ("error", error.get("message") if isinstance(error, Mapping) else error),
            ("output", result.get("output")),
        ]
    )


def _attempt(attempt: Document) -> str:
    parts = [f"on {attempt.get('device_id')}", attempt.get("outcome") or "current", attempt.get("reason") or ""]
    return ", ".join(part for part in parts if part)


def _labels(labels: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items()) if isinstance(labels, Mapping) else ""


def _progress(progress: Any) -> str:
    if not isinstance(progress, Mapping):
        return ""
    done = progress.get("percent")
    shown = f"{bar(done, 100, PROGRESS_CELLS)} {percent(done)}" if isinstance(done, int | float) else ""
    parts = [shown, progress.get("message") or ""]
    return " ".join(part for part in parts if part)


def device_pairs(device: Document) -> Pairs:
    """What `devices show` says of a device."""
    metrics = device.get("metrics") or {}
    pairs = _some(
        [
            ("device", device.get("device_id")),
            ("status", _status(device)),
            ("role", device.get("role")),
            ("hostname", device.get("hostname")),
            ("platform", device.get("platform")),
            ("architecture", device.get("architecture")),
            ("tags", words(device.get("tags") or [])),
            ("slots", device.get("slots")),
            ("running", device.get("running")),
            ("assigned", device.get("assigned")),
            ("cpu", None if device.get("cpu_usage") is None else percent(device["cpu_usage"])),
            ("memory", None if device.get("memory_usage") is None else percent(device["memory_usage"])),
            ("uptime", None if device.get("uptime_s") is None else duration(device["uptime_s"])),
            ("last seen", None if device.get("last_seen_s") is None else f"{duration(device['last_seen_s'])} ago"),
        ]
    )
    pairs += [("policy", line) for line in device.get("policy") or ()]
    untold = ", ".join(device.get("policy_untold") or ())
    pairs += _some([("rules that cannot be told here", untold), ("trust", _trust(device))])
    pairs += _some([("wake", _wake(device.get("wake") or {}))])
    shown = {"cpu_usage", "memory_usage", "uptime"}
    pairs += _facts(device.get("profile") or {})
    return pairs + _some([metric_pair(name, value) for name, value in metrics.items() if name not in shown])


def _wake(wake: Mapping[str, Any]) -> str:
    """As `woken 2 times, last at 2025-...; 00:11:22:aa:bb:cc`; empty where its owner does not want it."""
    if not wake.get("possible"):
        return ""
    times = "once" if wake.get("woken") == 1 else f"{wake.get('woken')} times"
    woken = f"woken {times}, last at {wake['woken_at']}" if wake.get("woken_at") else "possible"
    return f"{woken}; {words(wake.get('macs') or [])}"


def _trust(device: Document) -> str:
    """As `0.27 (wrong 2, good 18); next probe in 42m`."""
    if device.get("trust") is None:
        return ""
    figures = [f"{name} {value:.3g}" for name, value in (device.get("trust_ledger") or {}).items() if value]
    probe_in_s = (device.get("quarantine") or {}).get("probe_in_s")
    probe = "" if probe_in_s is None else f"; next probe in {duration(probe_in_s)}"
    return f"{device['trust']:.2f}" + (f" ({', '.join(figures)})" if figures else "") + probe


def _status(device: Document) -> str:
    """As `paused: battery 31 % < 40 %, on battery since 14:02`."""
    return ": ".join(each for each in (device.get("status"), device.get("reason")) if each)


SHOWN_FACTS = ("model", "os_name", "cpu_model", "cpu_cores", "cpu_physical_cores", "gpu", "graphics", "disks",
               "network_interfaces", "benchmark")  # fmt: skip


def _facts(profile: Mapping[str, Any]) -> Pairs:
    """What the device is, each fact with where it came from."""
    pairs: Pairs = []
    for name in SHOWN_FACTS:
        fact = profile.get(name) or {}
        if fact.get("value") is None:
            pairs.append((name.replace("_", " "), "unknown"))
            continue
        values = fact["value"] if isinstance(fact["value"], list) else [fact["value"]]
        pairs += [(name.replace("_", " "), f"{fact_words(name, value)}  [{fact.get('source')}]") for value in values]
    return pairs if profile else []


def status_pairs(status: Document) -> Pairs:
    """What `cluster status` says."""
    uptime_s, age_s = status.get("uptime_s"), status.get("queue_age_s")
    rate = status.get("throughput_per_s")
    slots = status.get("slots") or {}
    return _some(
        [
            ("state", status.get("state")),
            ("version", status.get("version")),
            ("cluster", status.get("cluster_id")),
            ("uptime", None if uptime_s is None else duration(uptime_s)),
            ("devices", _counts(status.get("devices"))),
            ("tasks", _counts(status.get("tasks"))),
            ("slots", f"{slots.get('busy', 0)} of {slots['total']} busy" if "total" in slots else None),
            ("load", _slots_bar(slots)),
            ("processors", _gauge(status.get("cpu_usage"))),
            ("memory", _gauge(status.get("memory_usage"))),
            ("placement", status.get("placement")),
            ("throughput", None if rate is None else f"{rate:.3g} tasks/s"),
            ("oldest waiting", None if not age_s else duration(age_s)),
        ]
    )


def _gauge(percent_used: Any) -> str | None:
    return gauge(percent_used) if isinstance(percent_used, int | float) else None


def _slots_bar(slots: Mapping[str, Any]) -> str | None:
    busy, total = slots.get("busy", 0), slots.get("total")
    return f"{bar(busy, total, GAUGE_CELLS)} {percent(100 * busy / total):>4}" if total else None


def _counts(counts: Any) -> str:
    if not isinstance(counts, Mapping):
        return ""
    some = [f"{number} {name}" for name, number in counts.items() if number]
    return ", ".join(some) or "none"


def flat_pairs(document: Mapping[str, Any], prefix: str = "") -> Pairs:
    """Every value of a nested document under its dotted name."""
    pairs: Pairs = []
    for name, value in document.items():
        if isinstance(value, Mapping) and value:
            pairs.extend(flat_pairs(value, f"{prefix}{name}."))
        else:
            pairs.append((f"{prefix}{name}", words(value) if isinstance(value, list) else str(value)))
    return pairs
