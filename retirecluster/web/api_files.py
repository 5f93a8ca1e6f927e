"""Handlers of /api/v1/files and of the files of tasks."""

from __future__ import annotations

import re
from typing import Any

from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Field, Integer, Problem, Record, Text
from retirecluster.domain.files import DIGEST
from retirecluster.domain.units import format_instant
from retirecluster.main.file_store import WrongOffsetError
from retirecluster.main.task_files import owner_of
from retirecluster.store.files import INPUT, OUTPUT, StoredFile, TaskFile
from retirecluster.web.answers import Answer, success
from retirecluster.web.api_tasks import task_id_of
from retirecluster.web.calls import Call, Web
from retirecluster.web.downloads import Download
from retirecluster.wire.messages import EPOCH, TASK_ID

ATTEMPT_FIELDS = (
    Field("task_id", TASK_ID, "for devices: whose file it is"),
    Field("epoch", EPOCH, "for devices: of which attempt"),
)
READ_QUERY = Record(ATTEMPT_FIELDS, closed=True)
PUT_QUERY = Record(
    (Field("offset", Integer(), "where the piece begins; without it the body is the whole"), *ATTEMPT_FIELDS),
    closed=True,
)
LIST_QUERY = Record(
    (
        Field("limit", Integer(1, 1000), "how many at most", default=100),
        Field("after", DIGEST, "the last digest of the page before"),
    ),
    closed=True,
)
DOWNLOAD_QUERY = Record(
    (Field("direction", Text(choices=(INPUT, OUTPUT)), "where a name is both: the output, unless told otherwise"),),
    closed=True,
)


async def put(web: Web, call: Call) -> Answer:
    """Take in a file or a piece of one; 201 when it is complete, 202 while it is not, 409 for a wrong offset."""
    digest = _digest(call)
    device = call.request.device
    if device is not None:
        web.files.check_writer(device, call.query.get("task_id"), call.query.get("epoch"))
    data = call.request.content.read()
    offset = call.query.get("offset") or 0
    whole = _whole_length(call, offset + len(data))
    try:
        found = await web.files.store.add(digest, owner_of(device), offset, data, whole)
    except WrongOffsetError as error:
        problem = call.request.problem(error)
        return problem.with_headers((b"Upload-Offset", b"%d" % error.length))
    document = {"sha256": digest, "size_bytes": found.length, "complete": found.complete}
    return success(document, 201 if found.complete else 202).with_headers(*_progress(found.length, found.complete))


def _whole_length(call: Call, end: int) -> int:
    """The length of the whole file: of Upload-Length, or where this piece ends, if it is the first and only one."""
    text = call.header(b"Upload-Length")
    if text is None:
        if call.query.get("offset") is None:
            return end
        raise invalid([Problem("Upload-Length", "goes with ?offset=: the length of the whole file in bytes")])
    if not re.fullmatch(r"\d{1,16}", text):
        raise invalid([Problem("Upload-Length", "must be the length of the whole file in bytes")])
    return int(text)


def _progress(length: int, complete: bool) -> tuple[tuple[bytes, bytes], ...]:
    return (b"Upload-Offset", b"%d" % length), (b"Upload-Complete", b"?1" if complete else b"?0")


async def get(web: Web, call: Call) -> Answer | Download:
    """A file by its content. HEAD of one that is still coming: 204, with how much of it is there."""
    digest = _digest(call)
    device = call.request.device
    if call.request.method == b"HEAD":
        return await _head(web, call, digest)
    if device is not None:
        await web.files.check_reader(device, digest)
        web.files.scheduler.queues.holdings.fetched(device, digest)
    return download(web, digest, digest)


async def _head(web: Web, call: Call, digest: str) -> Answer | Download:
    device = call.request.device
    if device is not None and call.query.get("task_id") is not None:
        web.files.check_writer(device, call.query.get("task_id"), call.query.get("epoch"))
    elif device is not None:
        await web.files.check_reader(device, digest)
    found = await web.files.store.length(digest, owner_of(device))
    if found is None:
        raise ClusterError("not_found", f"there is no file {digest} here")
    if not found.complete:
        return Answer(204, b"").with_headers(*_progress(found.length, False))
    return download(web, digest, digest)


def download(web: Web, digest: str, name: str) -> Download:
    """The answer that sends a content under a name."""
    store = web.files.store
    return Download(digest, name, store.open, store.in_thread, web.cluster.clock, store.gave)


async def delete(web: Web, call: Call) -> Answer:
    """Remove a file that no kept task names."""
    digest = _digest(call)
    await web.files.store.remove(digest)
    return success({"sha256": digest})


async def listing(web: Web, call: Call) -> Answer:
    """Complete files by their digests, page by page, and what all of them take up."""
    limit = call.query["limit"]
    found = await web.files.listed(call.query.get("after") or "", limit)
    store = web.files.store
    return success(
        {
            "files": [_stored_document(each) for each in found],
            "next_after": found[-1].sha256 if len(found) == limit else None,
            "used_bytes": store.used_bytes,
            "max_files_bytes": store.quotas.max_files_bytes,
        }
    )


def _stored_document(each: StoredFile) -> dict[str, Any]:
    return {
        "sha256": each.sha256,
        "size_bytes": each.size_bytes,
        "created_at": format_instant(each.created_at),
        "used_at": format_instant(each.used_at),
        "named": each.named,
    }


async def of_task(web: Web, call: Call) -> Answer:
    """The inputs of a task, and what its attempts left."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    found = await web.files.of_task(task_id)
    inputs = [_input_document(each) for each in found if each.direction == INPUT]
    outputs = [_output_document(each) for each in found if each.direction == OUTPUT]
    return success({"task_id": task_id, "inputs": inputs, "outputs": outputs})


def _input_document(each: TaskFile) -> dict[str, Any]:
    return _document(each) | {"executable": each.executable}


def _output_document(each: TaskFile) -> dict[str, Any]:
    return _document(each) | {"epoch": each.epoch}


def _document(each: TaskFile) -> dict[str, Any]:
    return {"name": each.name, "sha256": each.sha256, "size_bytes": each.size_bytes, "present": each.present}


async def task_file(web: Web, call: Call) -> Download:
    """One file of a task by its name: the output of the newest attempt that left one, else the input."""
    task_id = await task_id_of(web.cluster, call.path["task_id"])
    name, direction = call.path["file_name"], call.query.get("direction")
    # Outputs come after inputs, and newer attempts after older ones.
    found = [each for each in await web.files.of_task(task_id) if each.name == name]
    wanted = [each for each in found if direction in (None, each.direction)]
    if not wanted:
        raise ClusterError(
            "not_found", f"{task_id} has no file of that name; GET /api/v1/tasks/{task_id}/files lists them"
        )
    if not wanted[-1].present:
        raise ClusterError("not_found", f"{task_id} has that file, but its content {wanted[-1].sha256} is lost")
    return download(web, wanted[-1].sha256, name)


def _digest(call: Call) -> str:
    problems: list[Problem] = []
    DIGEST.check(call.path["sha256"], "sha256", problems)
    if problems:
        raise ClusterError("not_found", "the address of a file is its SHA-256: 64 lower-case hexadecimal digits")
    return call.path["sha256"]
