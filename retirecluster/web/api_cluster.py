"""Handlers of /api/v1 about the cluster as a whole, and of /health and /ready."""

from __future__ import annotations

import re

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Integer, Problem, Record, Text
from retirecluster.domain.tasks import encode
from retirecluster.main.events import from_row
from retirecluster.web.answers import Answer, success, success_text
from retirecluster.web.calls import Call, Web

EVENTS_QUERY = Record(
    (
        Field("after", Integer(), "events with higher numbers than this", default=0),
        Field("subject", Text(choices=("task", "device", "cluster")), "only events about these", default=""),
        Field("limit", Integer(1, 1000), "how many at most", default=100),
    ),
    closed=True,
)
AUDIT_QUERY = Record(
    (
        Field("before", Integer(1), "rows with lower numbers than this: the `next_before` of the page before"),
        Field("actor", Text(200, 1), "what this one did: admin, tcp client, device:ID, peer:ADDRESS"),
        Field("action", Text(64, 1), "only this: task.cancel, device.drain, result.refused, ..."),
        Field("limit", Integer(1, 1000), "how many at most", default=100),
    ),
    closed=True,
)
_SECRET = re.compile("token|secret|password|private_key", re.IGNORECASE)


async def status(web: Web, call: Call) -> Answer:
    """State, version, uptime; counts of devices, tasks and slots."""
    return success(web.cluster.status())


async def cluster_health(web: Web, call: Call) -> Answer:
    """Whether the main works, and each check with its figure, in the envelope; always 200."""
    return success(web.cluster.health())


async def metrics(web: Web, call: Call) -> Answer:
    """Figures for graphs, as JSON."""
    cluster = web.cluster
    found = cluster.status()
    return success(
        {
            "uptime_s": found["uptime_s"],
            "throughput_per_s": found["throughput_per_s"],
            "devices": found["devices"],
            "tasks": found["tasks"],
            "slots": found["slots"],
            "cpu_usage": found["cpu_usage"],
            "memory_usage": found["memory_usage"],
            "events": found["event_no"],
            "commits": cluster.desk.turns.commits,
            "retries": cluster.scheduler.ledger.retries,
            "streams": web.hub.readers,
            "web_connections": web.connections(),
        }
    )


async def config(web: Web, call: Call) -> Answer:
    """The settings that the main runs with; secrets are not shown."""
    settings = web.cluster.settings
    return success({name: "(not shown)" if _SECRET.search(name) else value for name, value in settings.items()})


async def events(web: Web, call: Call) -> Answer:
    """A page of the event log, oldest first."""
    query = call.query
    rows = await web.cluster.events_after(query["after"], query["subject"], query["limit"])
    last_no = rows[-1][0] if rows else query["after"]
    listed = ",".join(from_row(row).data for row in rows)
    more = len(rows) == query["limit"]
    tail = f'"next_after":{last_no if more else "null"},"last_event_no":{web.hub.events.last_no}'
    return success_text(f'{{"events":[{listed}],{tail}}}')


async def audit(web: Web, call: Call) -> Answer:
    """A page of the audit trail, newest first."""
    query = call.query
    found, before = await web.cluster.audit_trail(
        query.get("before"), query.get("actor") or "", query.get("action") or "", query["limit"]
    )
    return success({"audit": found, "next_before": before})


async def openapi(web: Web, call: Call) -> Answer:
    """This API, described by OpenAPI 3.1."""
    return Answer(200, web.openapi)


async def health(web: Web, call: Call) -> Answer:
    """Plain JSON for probes: 200 while nothing is wrong that a new start would mend, else a problem with 503."""
    if web.cluster.desk.turns.stopped:
        raise ClusterError("not_ready", "the store takes no writes: the main stops, and has to be started again")
    hangs = web.cluster.health_checks.hangs()
    if hangs:
        raise ClusterError("not_ready", f"{hangs}: the main has to be started again")
    return Answer(200, encode(web.cluster.health()).encode("ascii"))


async def ready(web: Web, call: Call) -> Answer:
    """Plain JSON for probes: 200 while tasks are taken in, else a problem with 503 that names the checks that fail."""
    checks = web.cluster.health_checks.checks()
    failing = [Problem(each.name, each.problem) for each in checks if each.problem]
    if failing:
        what = "; ".join(each.message for each in failing)
        raise ClusterError("not_ready", f"{what}; GET /api/v1/cluster/health has the figures", problems=failing)
    return Answer(200, encode({"ready": True, "problems": []}).encode("ascii"))
