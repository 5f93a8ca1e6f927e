"""Handlers of /api/v1/tasks."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from twisted.internet.task import deferLater

from retirecluster.domain.devices import DEVICE_ID
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Field, Integer, Number, Problem, Record, Text, shown
from retirecluster.domain.lifecycle import State
from retirecluster.domain.task_types import TYPE_NAME
from retirecluster.domain.tasks import TaskSpec, spec_from_document
from retirecluster.main.cluster import Cluster
from retirecluster.store.reads import TaskFilter
from retirecluster.web.answers import Answer, success
from retirecluster.web.api_access import check_owner
from retirecluster.web.calls import Call, Web
from retirecluster.wire.codec import decode

MAX_TASKS = 10_000
"""The most tasks in one request."""
SLICE = 200
"""Documents of a large request that are checked before other work gets its turn."""
SHORTEST_PREFIX = 4
MAX_WAIT_S = 60
TASK_ID_CHARS = 17

LABEL = r'([^":=\x00-\x1f\x7f]+)[:=]([^\x00-\x1f\x7f]*)'
_STATE = "|".join(state.value for state in State)
LIST_FIELDS = (
    Field(
        "status",
        Text(200, pattern=f"(?:{_STATE}|)(?:,(?:{_STATE}|))*", pattern_doc=f"one of {_STATE.replace('|', ', ')}"),
        "states to show, with commas between them",
    ),
    Field("type", TYPE_NAME, "tasks of this type"),
    Field("device", DEVICE_ID, "tasks with an attempt on this device"),
    Field(
        "label",
        Text(600, 2, pattern=LABEL, pattern_doc="NAME:VALUE"),
        "NAME:VALUE, or NAME=VALUE; tasks with that label",
    ),
    Field("limit", Integer(1, 1000), "how many at most", default=100),
    Field(
        "cursor",
        Text(19, 2, pattern="t[0-9]{1,18}", pattern_doc="one that this server gave; without it a list begins anew"),
        "the `next_cursor` of the page before",
    ),
)
LIST_QUERY = Record(LIST_FIELDS, closed=True)
WAIT_QUERY = Record((Field("wait", Number(0, MAX_WAIT_S), "seconds to wait for its end", default=0),), closed=True)
OUTPUT_QUERY = Record((Field("from_seq", Integer(), "the first piece wanted", default=0),), closed=True)
RESULTS_IDS, RESULTS_BYTES = 200, 4 * 1024 * 1024
"""The most tasks in one question for results, and the bytes after which an answer leaves the rest for the next."""
RESULTS_QUERY = Record(
    (Field("ids", Text(RESULTS_IDS * 66), f"whole task ids, at most {RESULTS_IDS}, with commas between", default=""),),
    closed=True,
)
REFUSED_QUERY = Record((Field("limit", Integer(1, 1000), "how many at most", default=100),), closed=True)
REASON_BODY = Record((Field("reason", Text(1000), "why, for the record", nullable=True, default=""),), closed=True)


async def task_id_of(cluster: Cluster, given: str) -> str:
    """The id that is given, or that begins so. Raises ClusterError: not_found, ambiguous."""
    if len(given) == TASK_ID_CHARS or cluster.scheduler.task(given) is not None:
        return given
    found = await cluster.ids_with_prefix(given) if len(given) >= SHORTEST_PREFIX else []
    if given in found or len(found) == 1:
        return given if given in found else found[0]
    if not found:
        raise ClusterError("not_found", f"there is no task {shown(given)}")
    some = ", ".join(found)
    raise ClusterError("ambiguous", f"{shown(given)} begins more than one task id: {some}; write more of it")


# -- taking in


async def submit(web: Web, call: Call) -> Answer:
    """Take in one task (an object) or many (an array, all or none); they are on disk when this answers."""
    document = decode(call.request.content.read())
    key = call.header(b"Idempotency-Key")
    if isinstance(document, list):
        return await _submit_many(web, document, key, call.submitter)
    if not isinstance(document, dict):
        raise ClusterError("not_an_object", "the body must be a task (a JSON object) or an array of tasks")
    if key is not None and document.get("idempotency_key") is None:
        document["idempotency_key"] = key
    [submitted] = await web.cluster.submit([spec_from_document(document, submitter=call.submitter)])
    status = submitted.status
    if not submitted.created:
        status = (await web.cluster.task(submitted.task_id))["status"]
    answer = success({"task_id": submitted.task_id, "status": status}, 201 if submitted.created else 200)
    return answer.with_headers((b"Location", f"/api/v1/tasks/{submitted.task_id}".encode("ascii")))


async def _submit_many(web: Web, documents: list[Any], key: str | None, submitter: str) -> Answer:
    if key is not None:
        problem = Problem("Idempotency-Key", "is for one task; in an array each carries its own idempotency_key")
        raise invalid([problem])
    if not 1 <= len(documents) <= MAX_TASKS:
        raise invalid([Problem("", f"an array must have 1 to {MAX_TASKS} tasks, has {len(documents)}")])
    submitted = await web.cluster.submit(await _specs(web, documents, submitter))
    return success({"tasks": [{"task_id": each.task_id, "status": each.status} for each in submitted]}, 201)


async def _specs(web: Web, documents: list[Any], submitter: str) -> list[TaskSpec]:
    """The specifications of many documents; between slices others get their turn."""
    specs: list[TaskSpec] = []
    for start in range(0, len(documents), SLICE):
        if start:
            await deferLater(web.cluster.clock, 0)
        part = documents[start : start + SLICE]
        specs += [spec_from_document(each, f"[{start + index}]", submitter) for index, each in enumerate(part)]
    return specs


# -- looking


def filter_of(query: Mapping[str, Any]) -> TaskFilter:
    """What a query wants listed."""
    states = tuple(filter(None, (query.get("status") or "").split(",")))
    label, cursor = query.get("label"), query.get("cursor")
    named = re.fullmatch(LABEL, label) if label else None
    before = None if cursor is None else int(cursor[1:])
    pair = (named[1], named[2]) if named else None
    return TaskFilter(states, query.get("type") or "", query.get("device") or "", pair, before, query["limit"])


def cursor_of(before_seq: int) -> str:
    """A page's end as callers carry it; what is in it is nobody's business."""
    return f"t{before_seq}"


async def tasks(web: Web, call: Call) -> Answer:
    """Tasks, newest first, page by page."""
    found, before = await web.cluster.tasks(filter_of(call.query))
    cursor = None if before is None else cursor_of(before)
    answer = success({"tasks": found, "next_cursor": cursor})
    if cursor is None:
        return answer
    asked = {name: value for name, value in call.query.items() if value is not None and name != "cursor"}
    link = f'</api/v1/tasks?{urlencode(asked | {"cursor": cursor})}>; rel="next"'
    return answer.with_headers((b"Link", link.encode("ascii")))


async def task(web: Web, call: Call) -> Answer:
    """One task with its attempts; with ?wait= when it has ended, or as it stands then."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    wait_s = call.query["wait"]
    return success(await (web.cluster.wait(task_id, wait_s) if wait_s else web.cluster.task(task_id)))


async def task_status(web: Web, call: Call) -> Answer:
    """How one task stands, in few words."""
    document = await web.cluster.task(await task_id_of(web.cluster, call.path["task_id"]))
    names = ("task_id", "status", "device_id", "epoch", "progress", "reason")
    return success({name: document[name] for name in names})


async def result(web: Web, call: Call) -> Answer:
    """The result of a task that has ended; not_finished before."""
    return success(await web.cluster.result(await task_id_of(web.cluster, call.path["task_id"])))


async def results(web: Web, call: Call) -> Answer:
    """The results of many tasks, as far as these have ended."""
    task_ids = list(dict.fromkeys(filter(None, call.query["ids"].split(","))))
    if len(task_ids) > RESULTS_IDS:
        raise invalid([Problem("ids", f"names {len(task_ids)} tasks; ask for at most {RESULTS_IDS} at a time")])
    return success(await web.cluster.results(task_ids, RESULTS_BYTES))


async def output(web: Web, call: Call) -> Answer:
    """What a task has printed so far, in pieces."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    return success(await web.cluster.output(task_id, call.query["from_seq"]))


async def refused(web: Web, call: Call) -> Answer:
    """Results of a task that did not count, newest first."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    found = await web.cluster.refused_results(task_id, call.query["limit"])
    return success({"task_id": task_id, "refused": found})


async def why(web: Web, call: Call) -> Answer:
    """Why a task waits, device by device, and what would help."""
    return success(await web.cluster.explain(await task_id_of(web.cluster, call.path["task_id"])))


async def statistics(web: Web, call: Call) -> Answer:
    """Counts and mean run times by task type."""
    return success(await web.cluster.task_statistics() | {"states": web.cluster.status()["tasks"]})


async def types(web: Web, call: Call) -> Answer:
    """Every task type, its payload's JSON Schema, and who offers it."""
    return success({"types": web.cluster.task_types()})


# -- acting


async def cancel(web: Web, call: Call) -> Answer:
    """Cancel a task; if it runs, its device is told to stop it."""
    return await _act(
        web, call, lambda task_id: web.cluster.cancel(task_id, call.body["reason"] or "cancelled", call.actor)
    )


async def hold(web: Web, call: Call) -> Answer:
    """Keep a waiting task from being given out."""
    return await _act(web, call, lambda task_id: web.cluster.hold(task_id, call.body["reason"] or "held", call.actor))


async def release(web: Web, call: Call) -> Answer:
    """Let a held task go on."""
    return await _act(web, call, lambda task_id: web.cluster.release(task_id, call.actor))


async def _act(web: Web, call: Call, action: Callable[[str], Awaitable[str]]) -> Answer:
    task_id = await _own_task(web, call)
    return success({"task_id": task_id, "status": await action(task_id)})


async def _own_task(web: Web, call: Call) -> str:
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    await check_owner(web, call, task_id)
    return task_id


async def retry(web: Web, call: Call) -> Answer:
    """Submit a task that has ended once more, as a new task."""
    submitted = await web.cluster.retry(await _own_task(web, call), call.actor)
    return success({"task_id": submitted.task_id, "status": submitted.status}, 201)
