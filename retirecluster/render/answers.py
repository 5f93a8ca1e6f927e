"""What each command shows, as a view: from the documents of the API, for every door that has commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from retirecluster.render.columns import (
    AUDIT_COLUMNS,
    CANDIDATE_COLUMNS,
    DEVICE_COLUMNS,
    DEVICE_COLUMNS_WIDE,
    EVENT_COLUMNS,
    FILE_COLUMNS,
    SIGNAL_COLUMNS,
    STATS_COLUMNS,
    TASK_FILE_COLUMNS,
    TYPE_COLUMNS,
    TYPE_STATISTICS_COLUMNS,
    WHY_COLUMNS,
    Document,
    progress_columns,
    task_columns,
)
from retirecluster.render.documents import device_pairs, flat_pairs, result_pairs, status_pairs, task_pairs
from retirecluster.render.figures import sparkline
from retirecluster.render.views import Grid, One, Parts, Rows, Said, View

NO_DEVICES = "No devices yet. On a device: retire-cluster join auto, or twistd -n retire-worker --join MAIN:8080"
NO_TASKS = "No tasks. Submit one: retire-cluster submit -- uname -a"
NO_SIGNALS = "No signals. Set one: retire-cluster signals set tariff 0.21 --ttl 1h"


def devices(documents: Sequence[Document], wide: bool = False) -> Rows:
    """`devices list`."""
    columns = DEVICE_COLUMNS_WIDE if wide else DEVICE_COLUMNS
    return Rows(columns, documents, NO_DEVICES, "device_id", DEVICE_COLUMNS_WIDE)


def device_grid(status: Document, documents: Sequence[Document]) -> Parts:
    """`monitor devices` on a terminal: the load of all, and each device with its own."""
    wanted = ("devices", "load", "processors", "memory")
    rows = devices(documents)
    return Parts([One(status, [pair for pair in status_pairs(status) if pair[0] in wanted]), Grid(rows)], status, rows)


def task_progress(status: Document, documents: Sequence[Document], now: datetime) -> Parts:
    """`monitor tasks` on a terminal: how many there are, and how far those that run are."""
    rows = Rows(progress_columns(now), documents, "Nothing runs.", "task_id")
    wanted = ("tasks", "load", "throughput", "oldest waiting")
    return Parts([One(status, [pair for pair in status_pairs(status) if pair[0] in wanted]), rows], status, rows)


SPARK_CELLS = 60
_COURSES = (
    ("completed_per_s", "completed", "{:.3g}/s"),
    ("failed_per_s", "failed", "{:.3g}/s"),
    ("waiting", "waiting", "{}"),
    ("running", "running", "{}"),
    ("mean_wait_s", "waited", "{:.3g} s"),
)


def metrics_course(metrics: Document, history: Document) -> Parts:
    """`monitor metrics` on a terminal: the course of the last hour, and the figures as they are."""
    points, figures = history["points"], flat(metrics)
    return Parts([One(history, _courses(points, _COURSES))] * bool(points) + [figures], metrics, figures)


def _courses(points: Sequence[Document], courses: Sequence[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """A line for each course: what it is, how it went, the last value, and the greatest."""
    pairs = list[tuple[str, str]]()
    for name, title, form in courses:
        values = [point.get(name) for point in points]
        known = [value for value in values if value is not None]
        if known:
            line = sparkline(values, SPARK_CELLS)
            pairs.append((title, f"{line}  {form.format(known[-1])}, at most {form.format(max(known))}"))
    return pairs


def device(document: Document) -> One:
    """`devices show`."""
    return One(document, device_pairs(document))


def device_stats(found: Document) -> Rows:
    """`devices stats`."""
    return Rows(STATS_COLUMNS, found["points"], f"{found['device_id']} has reported nothing lately.")


def device_acted(device_id: str, answer: Document, status: str = "") -> Said:
    """What came of something that was done to a device."""
    round_trip_ms = answer.get("round_trip_ms")
    said = "done" if round_trip_ms is None else f"answered in {round_trip_ms:.1f} ms"
    return Said([f"{device_id}  {status or answer.get('status') or said}"], answer)


def task_acted(answer: Document) -> Said:
    """What came of something that was done to a task."""
    return Said([f"{answer.get('task_id', '')} {answer.get('status') or 'done'}"], answer)


def together(said: Sequence[Said]) -> Said:
    """Several of them; one document stays itself."""
    documents = [each.document for each in said]
    return Said([line for each in said for line in each.lines], documents[0] if len(documents) == 1 else documents)


def tasks(documents: Sequence[Document], now: datetime) -> Rows:
    """`tasks list`."""
    return Rows(task_columns(now), documents, NO_TASKS, "task_id")


def task(document: Document, now: datetime) -> View:
    """`tasks show`."""
    one = One(document, task_pairs(document, now))
    placement = document.get("placement")
    return Parts([one, _placement(placement)], document, one) if placement else one


def _placement(placement: Document) -> Parts:
    """Why the last attempt is where it is, and the scores of the devices that could have had it."""
    said = Said([f"placed by {placement['strategy']}: {placement['why']}"])
    scored = Rows(CANDIDATE_COLUMNS, [each for each in placement["candidates"] if each["score"] is not None])
    return Parts([said, scored] if scored.documents else [said], placement, scored, gap=False)


def result(document: Document) -> One:
    """`tasks result`."""
    return One(document, [("status", str(document["status"])), *result_pairs(document)])


def why(answer: Document) -> Parts:
    """`tasks why`."""
    reason = f": {answer['reason']}" if answer["reason"] else ""
    parts: list[View] = [Said([f"{answer['task_id']} is {answer['status']}{reason}"])]
    rows = Rows(WHY_COLUMNS, answer.get("devices") or [])
    parts += [rows] if rows.documents else []
    parts += [Said([answer["hint"]])] if answer.get("hint") else []
    return Parts(parts, answer, rows)


def task_types(listed: Sequence[Document]) -> Rows:
    """`tasks types`."""
    return Rows(TYPE_COLUMNS, listed)


def task_metrics(found: Document) -> Parts:
    """`tasks metrics`."""
    rows = Rows(TYPE_STATISTICS_COLUMNS, found.get("types") or [], "No task has been submitted yet.")
    states = [f"{number} {state}" for state, number in (found.get("states") or {}).items() if number]
    return Parts([rows, Said([", ".join(states) or "no tasks"])], found, rows)


def task_files(task_id: str, found: Document) -> Rows:
    """`tasks files`."""
    listed = [{"direction": name, **each} for name in ("input", "output") for each in found[f"{name}s"]]
    return Rows(TASK_FILE_COLUMNS, listed, f"{task_id} has no files.")


def cluster_status(status: Document) -> One:
    """`cluster status`."""
    return One(status, status_pairs(status))


def flat(document: Mapping[str, Any]) -> One:
    """A document of figures or settings: every value under its dotted name."""
    return One(document, flat_pairs(document))


def join_token(made: Document) -> Said:
    """`join-token`: what to type on the device."""
    return Said([made["command"], f"for one device, until {made['expires_at']}"], made)


def authority(found: Document) -> One:
    """`ca show`: what pins the authority, and who has a certificate of it."""
    pairs = [("authority", found["ca_sha256"]), ("main", found["main_sha256"]), ("file", found["file"])]
    devices = [(each["device_id"], f"{each['status']}, since {each['issued_at']}") for each in found["certificates"]]
    return One(found, [*pairs, *devices])


def files(documents: Sequence[Document]) -> Rows:
    """`files list`."""
    return Rows(FILE_COLUMNS, documents, "The main holds no files.")


def signals(documents: Sequence[Document]) -> Rows:
    """`signals list`."""
    return Rows(SIGNAL_COLUMNS, documents, NO_SIGNALS)


def events(documents: Sequence[Document]) -> Rows:
    """`events`."""
    return Rows(EVENT_COLUMNS, documents, "Nothing has happened yet.")


def audit(documents: Sequence[Document]) -> Rows:
    """`audit`."""
    return Rows(AUDIT_COLUMNS, documents, "Nothing was written down yet.")


def matching(documents: Sequence[Document], text: str) -> list[Document]:
    """The tasks with a text in what people know them by; all for an empty one."""
    folded = text.casefold()
    names = ("task_id", "name", "task_type", "device_id", "reason")
    return [each for each in documents if any(folded in str(each.get(name) or "").casefold() for name in names)]
