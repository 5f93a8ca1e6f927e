"""The table of metrics. It feeds the exposition, the page of the documentation, and the tests of rules and dashboard.

Names have the prefix `retire_` and end in their base unit; counters end in `_total`. Labels are names of tables of ours
or of devices; no task ids, which would never end.
"""

from __future__ import annotations

from attrs import frozen

GAUGE, COUNTER, HISTOGRAM, INFO = "gauge", "counter", "histogram", "info"


@frozen
class Metric:
    """One row: a name as it is in queries (histograms add `_bucket`, `_sum` and `_count`), and its labels."""

    name: str
    kind: str
    doc: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names that queries may use."""
        if self.kind == HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


DEVICE = ("device_id",)
METRICS = (
    # the main
    Metric("retire_main_info", INFO, "The main node.", ("version", "cluster_id")),
    Metric("retire_uptime_seconds", GAUGE, "Since the main started."),
    Metric("retire_start_time_seconds", GAUGE, "When the main started, in Unix time."),
    Metric("retire_incarnation", GAUGE, "How often the main was started on its data folder."),
    Metric("retire_health_check_ok", GAUGE, "1 while this check of /ready holds, else 0.", ("check",)),
    Metric("retire_reactor_lag_seconds", HISTOGRAM, "How much later than due a timer ran, looked at twice a second."),
    # tasks
    Metric("retire_tasks", GAUGE, "Tasks by state, those that have ended and are kept included.", ("state",)),
    Metric("retire_tasks_finished_total", COUNTER, "Tasks that ended, by how.", ("state",)),
    Metric("retire_task_attempts_total", COUNTER, "Attempts that ended, by how.", ("outcome",)),
    Metric("retire_task_retries_total", COUNTER, "Attempts that were charged and are made again."),
    Metric("retire_task_reassignments_total", COUNTER, "Tasks given to another device than the one before."),
    Metric("retire_task_wait_seconds", HISTOGRAM, "From the submission of a task to its first start."),
    Metric("retire_task_run_seconds", HISTOGRAM, "From the start of an attempt to its result."),
    Metric("retire_scheduling_seconds", HISTOGRAM, "From an event to the commit of what was decided about it."),
    Metric("retire_queue_tasks", GAUGE, "Queued tasks by priority.", ("priority",)),
    Metric("retire_queue_oldest_seconds", GAUGE, "Age of the queued task that was submitted first; 0 without one."),
    Metric("retire_leases", GAUGE, "Attempts that devices hold."),
    Metric("retire_results_refused_total", COUNTER, "Results that did not count, by why.", ("code",)),
    # devices
    Metric("retire_devices", GAUGE, "Devices by status.", ("status",)),
    Metric("retire_slots", GAUGE, "Slots of devices that are online.", ("state",)),
    Metric("retire_devices_not_shown", GAUGE, "Devices beyond those that have series of their own."),
    Metric("retire_device_up", GAUGE, "1 while the device is connected.", ("device_id", "role")),
    Metric("retire_device_status", GAUGE, "1 for the status that the device has now.", ("device_id", "status")),
    Metric("retire_device_cpu_usage_ratio", GAUGE, "Processor use, 0 to 1.", DEVICE),
    Metric("retire_device_memory_usage_ratio", GAUGE, "Memory use, 0 to 1.", DEVICE),
    Metric("retire_device_disk_usage_ratio", GAUGE, "Disk use, 0 to 1.", DEVICE),
    Metric("retire_device_temperature_celsius", GAUGE, "The hottest sensor.", DEVICE),
    Metric("retire_device_last_seen_seconds", GAUGE, "Since the last sign of life.", DEVICE),
    Metric("retire_device_slots", GAUGE, "Tasks at the same time.", DEVICE),
    Metric("retire_device_tasks", GAUGE, "Tasks that it holds.", DEVICE),
    Metric("retire_device_trust_ratio", GAUGE, "How far it can be relied upon, 0 to 1.", DEVICE),
    Metric("retire_device_tasks_completed_total", COUNTER, "Tasks that it completed.", DEVICE),
    Metric("retire_device_tasks_failed_total", COUNTER, "Tasks that failed on it.", DEVICE),
    # doors
    Metric("retire_heartbeats_total", COUNTER, "Heartbeats that were taken in."),
    Metric("retire_heartbeat_errors_total", COUNTER, "Ticks of the heartbeat monitor that failed."),
    Metric("retire_messages_total", COUNTER, "Messages of the line protocol.", ("direction", "kind")),
    Metric("retire_messages_refused_total", COUNTER, "Messages answered with an error.", ("code",)),
    Metric("retire_worker_connections", GAUGE, "Open connections of the line protocol."),
    Metric("retire_web_connections", GAUGE, "Open web connections."),
    Metric("retire_event_streams", GAUGE, "Open event streams."),
    Metric("retire_http_requests_total", COUNTER, "Answers to HTTP requests.", ("route", "method", "status")),
    Metric(
        "retire_http_request_duration_seconds",
        HISTOGRAM,
        "From a whole HTTP request to the head of its answer, what `?wait=` waits included.",
        ("route", "status"),
    ),
    Metric("retire_file_bytes_total", COUNTER, "Contents of files that the main took in or gave out.", ("direction",)),
    # the store
    Metric("retire_events_total", COUNTER, "Events in the log, over the life of the cluster."),
    Metric("retire_store_commits_total", COUNTER, "Transactions."),
    Metric("retire_store_commit_seconds", HISTOGRAM, "From handing a turn to the database to its commit."),
    Metric("retire_store_size_bytes", GAUGE, "The database, what is not merged into it yet included."),
    Metric("retire_files_size_bytes", GAUGE, "Contents of tasks' files."),
    Metric("retire_disk_free_bytes", GAUGE, "Free on the disk of the data folder."),
    Metric("retire_disk_min_free_bytes", GAUGE, "Below this no tasks are taken in: the setting min_free_bytes."),
)
BY_NAME = {each.name: each for each in METRICS}
