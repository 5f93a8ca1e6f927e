"""The table of addresses. It feeds Klein, the OpenAPI document, 404 and 405, and the tests that walk it."""

from __future__ import annotations

from retirecluster.web import (
    api_cluster,
    api_command,
    api_devices,
    api_files,
    api_household,
    api_tasks,
    downloads,
    pages,
    stream_views,
    text_views,
)
from retirecluster.web.answers import TEXT
from retirecluster.web.routing import ADMIN, API, Route
from retirecluster.web.sse import MEDIA_TYPE as SSE

TABLES = text_views.MEDIA_TYPES
HTML = pages.HTML
VIEW, REASON = text_views.VIEW, api_tasks.REASON_BODY

CLUSTER = (
    Route("GET", f"{API}/cluster/status", api_cluster.status, "State, version, counts of devices, tasks and slots"),
    Route("GET", f"{API}/cluster/health", api_cluster.cluster_health, "Whether the main works, check by check"),
    Route("GET", f"{API}/cluster/metrics", api_cluster.metrics, "Figures for graphs"),
    Route("GET", f"{API}/cluster/config", api_cluster.config, "The main's settings, without secrets"),
    Route("GET", f"{API}/events", api_cluster.events, "A page of the event log", query=api_cluster.EVENTS_QUERY),
    Route(
        "GET",
        f"{API}/audit",
        api_cluster.audit,
        "Who changed what, and what was refused",
        ADMIN,
        api_cluster.AUDIT_QUERY,
    ),
    Route("GET", f"{API}/openapi.json", api_cluster.openapi, "This description"),
)
TASKS = (
    Route("POST", f"{API}/tasks", api_tasks.submit, "Submit one task or many", ADMIN, status=201, takes="TaskOrTasks"),
    Route("GET", f"{API}/tasks", api_tasks.tasks, "Tasks, newest first", query=api_tasks.LIST_QUERY),
    Route("GET", f"{API}/tasks/statistics", api_tasks.statistics, "Counts and mean run times by type"),
    Route("GET", f"{API}/tasks/types", api_tasks.types, "Task types, what they take, and who offers them"),
    Route(
        "GET",
        f"{API}/tasks/results",
        api_tasks.results,
        "The results of many tasks, as far as these have ended",
        query=api_tasks.RESULTS_QUERY,
    ),
    Route("GET", f"{API}/tasks/{{task_id}}", api_tasks.task, "One task", query=api_tasks.WAIT_QUERY),
    Route("GET", f"{API}/tasks/{{task_id}}/status", api_tasks.task_status, "How a task stands, in few words"),
    Route("GET", f"{API}/tasks/{{task_id}}/result", api_tasks.result, "The result of a task that has ended"),
    Route(
        "GET",
        f"{API}/tasks/{{task_id}}/output",
        api_tasks.output,
        "What a task has printed so far",
        query=api_tasks.OUTPUT_QUERY,
    ),
    Route(
        "GET",
        f"{API}/tasks/{{task_id}}/refused",
        api_tasks.refused,
        "Results of a task that did not count",
        query=api_tasks.REFUSED_QUERY,
    ),
    Route("GET", f"{API}/tasks/{{task_id}}/why", api_tasks.why, "Why a task waits, and what would help"),
    Route(
        "POST",
        f"{API}/tasks/{{task_id}}/cancel",
        api_tasks.cancel,
        "Cancel a task",
        ADMIN,
        body=REASON,
    ),
    Route(
        "POST",
        f"{API}/tasks/{{task_id}}/retry",
        api_tasks.retry,
        "Submit a task that has ended once more",
        ADMIN,
        body=REASON,
        status=201,
    ),
    Route("POST", f"{API}/tasks/{{task_id}}/hold", api_tasks.hold, "Hold a task back", ADMIN, body=REASON),
    Route(
        "POST",
        f"{API}/tasks/{{task_id}}/release",
        api_tasks.release,
        "Let a held task go on",
        ADMIN,
        body=REASON,
    ),
)
FILE, BYTES = f"{API}/files/{{sha256}}", (downloads.MEDIA_TYPE,)
FILES = (
    Route("GET", f"{API}/files", api_files.listing, "Every file that is complete", ADMIN, query=api_files.LIST_QUERY),
    Route(
        "PUT",
        FILE,
        api_files.put,
        "Upload a file, or a piece of at most 8 MiB of one",
        ADMIN,
        query=api_files.PUT_QUERY,
        status=201,
        devices=True,
        raw=True,
    ),
    Route(
        "GET",
        FILE,
        api_files.get,
        "Download a file; HEAD tells how much of it is there",
        query=api_files.READ_QUERY,
        media_types=BYTES,
        devices=True,
    ),
    Route("DELETE", FILE, api_files.delete, "Remove a file that no kept task names", ADMIN),
    Route("GET", f"{API}/tasks/{{task_id}}/files", api_files.of_task, "The files that a task brought and left"),
    Route(
        "GET",
        f"{API}/tasks/{{task_id}}/files/{{file_name}}",
        api_files.task_file,
        "Download a file of a task by its name",
        query=api_files.DOWNLOAD_QUERY,
        media_types=BYTES,
    ),
)
DEVICES = (
    Route("GET", f"{API}/devices", api_devices.devices, "Every device"),
    Route("GET", f"{API}/devices/summary", api_devices.summary, "Counts of devices"),
    Route("GET", f"{API}/devices/{{device_id}}", api_devices.device, "One device with all that is known of it"),
    Route("DELETE", f"{API}/devices/{{device_id}}", api_devices.remove, "Forget a device that is not online", ADMIN),
    Route(
        "POST",
        f"{API}/devices/{{device_id}}/ping",
        api_devices.ping,
        "Ask a device for a sign of life",
        ADMIN,
        body=api_devices.NO_FIELDS,
    ),
    Route(
        "POST",
        f"{API}/devices/{{device_id}}/wake",
        api_devices.wake,
        "Wake a device that sleeps",
        ADMIN,
        body=api_devices.NO_FIELDS,
    ),
    *(
        Route(
            "POST",
            f"{API}/devices/{{device_id}}/{action}",
            api_devices.acting(action),
            summary,
            ADMIN,
            body=api_devices.DRAIN_BODY if action == "drain" else api_devices.NO_FIELDS,
        )
        for action, summary in (
            ("drain", "Give a device no new tasks; what runs there ends"),
            ("undrain", "End the draining of a device"),
            ("cordon", "Give a device no new tasks until a person says otherwise"),
            ("uncordon", "End the cordon of a device"),
        )
    ),
    Route(
        "POST",
        f"{API}/devices/{{device_id}}/release",
        api_devices.release,
        "Believe a device again that is suspect or in quarantine",
        ADMIN,
        body=api_devices.NO_FIELDS,
    ),
    Route(
        "POST",
        f"{API}/devices/{{device_id}}/role",
        api_devices.set_role,
        "Give a device a role that it keeps",
        ADMIN,
        body=api_devices.ROLE_BODY,
    ),
)
HOUSEHOLD = (
    Route("GET", f"{API}/signals", api_household.signals, "Signals from outside that hold now"),
    Route("GET", f"{API}/signals/{{name}}", api_household.signal, "One signal"),
    Route(
        "PUT",
        f"{API}/signals/{{name}}",
        api_household.set_signal,
        "Set a signal for policies, and for how long it holds",
        ADMIN,
        body=api_household.SIGNAL_BODY,
    ),
    Route("DELETE", f"{API}/signals/{{name}}", api_household.remove_signal, "Remove a signal", ADMIN),
    Route(
        "POST",
        f"{API}/cluster/quiet",
        api_household.quiet,
        "Give no device anything new for a while",
        ADMIN,
        body=api_devices.REST_BODY,
    ),
    Route("DELETE", f"{API}/cluster/quiet", api_household.end_quiet, "End the quiet", ADMIN),
    Route(
        "POST",
        f"{API}/devices/{{device_id}}/borrow",
        api_devices.borrow,
        "Leave a device to its owner for a while",
        ADMIN,
        body=api_devices.REST_BODY,
    ),
    Route(
        "POST",
        f"{API}/devices/{{device_id}}/give_back",
        api_devices.give_back,
        "End the borrowing of a device",
        ADMIN,
        body=api_devices.NO_FIELDS,
    ),
    Route(
        "GET",
        f"{API}/devices/{{device_id}}/metrics",
        api_devices.metrics,
        "What a device reported lately: a minute, an hour or a day a step",
        query=api_devices.METRICS_QUERY,
    ),
)
COMMANDS = (
    Route(
        "POST",
        f"{API}/command",
        api_command.running((*CLUSTER, *TASKS, *FILES, *DEVICES, *HOUSEHOLD)),
        "Run one line of the terminal; each command needs what its route needs",
        body=api_command.COMMAND_BODY,
    ),
    Route(
        "GET",
        f"{API}/command/complete",
        api_command.completed,
        "What may stand at the cursor of a line",
        query=api_command.COMPLETE_QUERY,
    ),
    Route("GET", f"{API}/commands", api_command.table, "The table of commands"),
)
TEXTS = (
    Route("GET", "/text/status", text_views.status, "The cluster, a line each", query=VIEW, media_types=TABLES),
    Route("GET", "/text/health", text_views.health, "Whether the main works", query=VIEW, media_types=TABLES),
    Route("GET", "/text/devices", text_views.devices, "Devices, a line each", query=VIEW, media_types=TABLES),
    Route(
        "GET",
        "/text/devices/{device_id}",
        text_views.device,
        "One device, a line for each thing known",
        query=VIEW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/devices/{device_id}/metrics",
        text_views.device_metrics,
        "What a device reported lately, a line a step",
        query=text_views.METRICS_WINDOW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/tasks",
        text_views.tasks,
        "Tasks, newest first, a line each",
        query=text_views.TASKS_VIEW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/tasks/{task_id}",
        text_views.task,
        "One task, a line for each thing known",
        query=VIEW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/tasks/{task_id}/why",
        text_views.why,
        "Why a task waits, and the nearest changes that would let it run",
        query=VIEW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/events",
        text_views.events,
        "The event log, a line each",
        query=text_views.EVENTS_VIEW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/audit",
        text_views.audit,
        "Who changed what, and what was refused, a line each",
        ADMIN,
        query=text_views.AUDIT_VIEW,
        media_types=TABLES,
    ),
    Route(
        "GET",
        "/text/metrics",
        text_views.metrics,
        "Metrics for Prometheus",
        query=text_views.METRICS_VIEW,
        media_types=(TEXT,),
    ),
)
STREAMS = (
    Route(
        "GET",
        "/stream/devices",
        stream_views.devices,
        "What happens to devices",
        query=stream_views.RESUME_QUERY,
        media_types=(SSE,),
    ),
    Route(
        "GET",
        "/stream/tasks",
        stream_views.tasks,
        "What happens to tasks",
        query=stream_views.RESUME_QUERY,
        media_types=(SSE,),
    ),
    Route(
        "GET",
        "/stream/tasks/{task_id}",
        stream_views.task,
        "What happens to one task",
        query=stream_views.RESUME_QUERY,
        media_types=(SSE,),
    ),
    Route(
        "GET",
        "/stream/tasks/{task_id}/output",
        stream_views.output,
        "What a task prints, until it has ended",
        query=stream_views.OUTPUT_QUERY,
        media_types=(SSE,),
    ),
    Route(
        "GET",
        "/stream/events",
        stream_views.events,
        "The event log as it grows",
        query=stream_views.RESUME_QUERY,
        media_types=(SSE,),
    ),
)
PAGES = (
    Route("GET", "/", pages.dashboard, "The dashboard", media_types=(HTML,)),
    Route("GET", "/cli", pages.plain, "The state of the cluster for browsers without script", media_types=(HTML,)),
    Route("GET", "/static/{name}", pages.asset, "A file of the dashboard", media_types=("*/*",)),
    Route("GET", "/health", api_cluster.health, "For probes: 200 while the process answers and its store takes writes"),
    Route("GET", "/ready", api_cluster.ready, "For probes: 200 while tasks are taken in; else what fails"),
)
ROUTES = (*CLUSTER, *TASKS, *FILES, *DEVICES, *HOUSEHOLD, *COMMANDS, *TEXTS, *STREAMS, *PAGES)
