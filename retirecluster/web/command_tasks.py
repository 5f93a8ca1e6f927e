"""What is done for commands about tasks."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from retirecluster.domain.commands.selectors import ALL
from retirecluster.domain.commands.task_options import document_from
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import FINAL, State
from retirecluster.render import answers
from retirecluster.render.views import Printed, Said
from retirecluster.web.command_cluster import following
from retirecluster.web.command_run import PAGE, Document, Outcome, Run
from retirecluster.wire.codec import decode

SEARCHED = 2000
"""How many of the newest tasks a text is looked for in."""
MOST_NAMED = 1000
_FINAL = sorted(state.value for state in FINAL)


def _now(run: Run) -> datetime:
    return datetime.fromtimestamp(run.web.cluster.moment().wall_s, timezone.utc)


def _which(run: Run) -> Document:
    return {name: run.values[name] for name in ("status", "type", "device", "label")}


def _limit(run: Run) -> int:
    asked: int = run.values["limit"]
    if not 0 <= asked <= PAGE:
        raise ClusterError("bad_field", f"--limit is 1 to {PAGE}, or 0 for {PAGE}; not {asked}", field="line")
    return asked or PAGE


async def list_tasks(run: Run) -> Outcome:
    return Outcome(answers.tasks(await run.tasks(_which(run), _limit(run)), _now(run)))


async def query(run: Run) -> Outcome:
    found = answers.matching(await run.tasks(_which(run), SEARCHED), run.values["text"] or "")
    return Outcome(answers.tasks(found[: _limit(run)], _now(run)))


async def _one(run: Run) -> str:
    return await run.task_id(run.values["task"])


async def show(run: Run) -> Outcome:
    found = await run.ask("GET", "/tasks/{task_id}", task_id=await _one(run))
    return Outcome(answers.task(found, _now(run)))


async def why(run: Run) -> Outcome:
    return Outcome(answers.why(await run.ask("GET", "/tasks/{task_id}/why", task_id=await _one(run))))


async def result(run: Run) -> Outcome:
    return Outcome(answers.result(await run.ask("GET", "/tasks/{task_id}/result", task_id=await _one(run))))


async def files(run: Run) -> Outcome:
    task_id = await _one(run)
    return Outcome(answers.task_files(task_id, await run.ask("GET", "/tasks/{task_id}/files", task_id=task_id)))


async def logs(run: Run) -> Outcome:
    task_id = await _one(run)
    if run.values["follow"]:
        return output_stream(task_id)
    found = await run.ask("GET", "/tasks/{task_id}/output", task_id=task_id)
    return Outcome(Printed("".join(chunk["data"] for chunk in found["chunks"]), found))


def output_stream(task_id: str) -> Outcome:
    """The outcome of following what a task prints, until it has ended."""
    return following(f"/stream/tasks/{task_id}/output", "output", "task_update")


async def wait(run: Run) -> Outcome:
    """As they are where all have ended; else where to hear of it, and what to wait for."""
    # Taken before: an end that comes in between is replayed by the stream.
    event_no = (await run.ask("GET", "/cluster/status"))["event_no"]
    ids = await run.task_ids()
    if ALL in run.values["tasks"]:  # those that had not ended a moment ago
        return _waiting(ids, ids, event_no) if ids else Outcome(Said(["Nothing to wait for."], []))
    if len(ids) > MOST_NAMED:
        raise _wrong(f"{len(ids)} tasks are named; at most {MOST_NAMED} by name, or all")
    found = [await run.ask("GET", "/tasks/{task_id}", task_id=task_id) for task_id in ids]
    left = [each["task_id"] for each in found if each["status"] not in _FINAL]
    if left:
        return _waiting(ids, left, event_no)
    completed = all(each["status"] == State.COMPLETED for each in found)
    return Outcome(answers.tasks(found, _now(run)), 0 if completed else 1)


def _waiting(ids: list[str], left: list[str], event_no: int) -> Outcome:
    topic = f"/stream/tasks/{left[0]}" if len(left) == 1 else "/stream/tasks"
    going_on = following(f"{topic}?last_event_id={event_no}", "task_update")
    stream = {**(going_on.stream or {}), "until": {"task_ids": left, "status": _FINAL}}
    return Outcome(Said([f"{len(left)} of {len(ids)} have not ended"]), stream=stream, data=False)


async def act(run: Run) -> Outcome:
    """cancel, retry, hold, release."""
    action = run.filled.command.path[-1]

    async def one(task_id: str) -> Said:
        return answers.task_acted(await run.ask("POST", f"/tasks/{{task_id}}/{action}", body={}, task_id=task_id))

    return await run.each(await run.task_ids(), one)


async def monitor(run: Run) -> Outcome:
    if run.values["task"] is None:
        return following("/stream/tasks", "task_update")
    return following(f"/stream/tasks/{await _one(run)}", "task_update")


async def metrics(run: Run) -> Outcome:
    return Outcome(answers.task_metrics(await run.ask("GET", "/tasks/statistics")))


async def types(run: Run) -> Outcome:
    return Outcome(answers.task_types((await run.ask("GET", "/tasks/types"))["types"]))


async def export(run: Run) -> Outcome:
    return Outcome(answers.tasks(await run.tasks({}), _now(run)), data=False)


async def submit(run: Run) -> Outcome:
    found = await run.ask("POST", "/tasks", body=_task(run))
    task_id = found["task_id"]
    return output_stream(task_id) if run.values["wait"] else Outcome(Said([task_id], found))


def _task(run: Run) -> Document:
    """The task that the line describes."""
    values, rest = run.values, run.filled.rest
    if values["input"]:
        words = " ".join(values["input"])
        raise _wrong(f"put a command after --, as: submit -- {words}")
    if (rest is None) == (values["task_type"] is None):
        raise _wrong("submit one thing: a command after --, as: submit -- uname -a, or --type TYPE")
    document = document_from(values)
    if values["task_outputs"]:
        document["files"] = {"outputs": values["task_outputs"]}
    if rest is None:
        return {"task_type": values["task_type"], "payload": _payload(values["payload"]), **document}
    if not rest:
        raise _wrong("there is no command after --; write for example: submit -- uname -a")
    if values["payload"] is not None:
        raise _wrong("--payload goes with --type")
    return {"task_type": "command", "payload": {"argv": list(rest)}, **document}


def _payload(text: str | None) -> Any:
    if text is None:
        return {}
    if text.startswith("@"):
        raise _wrong("--payload @FILE works in a shell, with retire-cluster submit; here write the JSON, in quotes")
    value = decode(text.encode("utf-8", "replace"))
    if not isinstance(value, dict):
        raise ClusterError("not_an_object", '--payload: must be a JSON object, as \'{"message": "hello"}\'')
    return value


def _wrong(message: str) -> ClusterError:
    return ClusterError("bad_field", message, field="line")


ACTIONS = {
    "submit": submit,
    "tasks submit": submit,
    "tasks list": list_tasks,
    "tasks query": query,
    "tasks show": show,
    "tasks why": why,
    "tasks result": result,
    "tasks files": files,
    "tasks logs": logs,
    "tasks wait": wait,
    "tasks monitor": monitor,
    "tasks metrics": metrics,
    "tasks types": types,
    "export tasks": export,
    **{f"tasks {name}": act for name in ("cancel", "retry", "hold", "release")},
}
