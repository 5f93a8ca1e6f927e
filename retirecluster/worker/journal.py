"""The journal: what survives a crash of the worker. One JSON object a line, appended.

`accepted` (an attempt waits here), `started` (its process is about to run), `process` (and that is its number),
`result` (how it ended; kept until the main has it), `gone` (nothing more to remember). A line is a plain
`write`, which a kill -9 cannot undo; only attempts that must never run twice are also synced to the disk.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field, frozen

from retirecluster.worker.data_folder import sync_folder

T = TypeVar("T")
Key = tuple[str, int]
"""An attempt: task id and epoch."""
InThread = Callable[[Callable[[], T]], Awaitable[T]]
"""Runs a blocking function elsewhere."""

_DRAFT = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | getattr(os, "O_BINARY", 0)
COMPACT_ABOVE_BYTES = 1024 * 1024
ACCEPTED, STARTED, PROCESS, RESULT, GONE = "accepted", "started", "process", "result", "gone"


@frozen
class Remembered:
    """What the journal knows of one attempt. `process` is the process id, `began_s` its start after boot."""

    state: str
    result: dict[str, Any] | None = None
    process: int | None = None
    began_s: float | None = None


def replay(data: bytes) -> dict[Key, Remembered]:
    """The attempts that lines add up to. A torn line, as a power cut leaves one, counts as not written."""
    found: dict[Key, Remembered] = {}
    for line in data.split(b"\n"):
        try:
            record = json.loads(line)
            key, state = (record["task"], record["epoch"]), record["is"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(key[0], str) and type(key[1]) is int:
            _apply(found, key, state, record)
    return found


def _apply(found: dict[Key, Remembered], key: Key, state: str, record: dict[str, Any]) -> None:
    before = found.get(key)
    if state == GONE:
        found.pop(key, None)
    elif state == RESULT and isinstance(record.get("result"), dict):
        found[key] = Remembered(RESULT, record["result"])
    elif before is not None and before.state == RESULT:
        return
    elif state == PROCESS:
        pid, began_s = record.get("pid"), record.get("began_s")
        if type(pid) is int and pid > 0 and type(began_s) in (int, float):
            found[key] = Remembered(STARTED, None, pid, began_s)
        else:
            found[key] = Remembered(STARTED)
    elif state == STARTED or (state == ACCEPTED and before is None):
        found[key] = Remembered(state)


def after_restart(found: dict[Key, Remembered]) -> dict[Key, Remembered]:
    """What still matters in a new life: attempts that were only accepted never ran and are forgotten."""
    return {key: each for key, each in found.items() if each.state != ACCEPTED}


def _line(key: Key, state: str, **more: Any) -> bytes:
    record = {"is": state, "task": key[0], "epoch": key[1], **more}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


@define
class Journal:
    """The file. `live` keeps the lines of attempts that are not gone, for rewriting.

    Each method that records something raises OSError where the disk does not take it.
    """

    path: Path
    in_thread: InThread[None]
    _fd: int = field(default=-1, init=False)
    _size_bytes: int = field(default=0, init=False)
    _live: dict[Key, list[bytes]] = field(factory=dict, init=False)
    _live_bytes: int = field(default=0, init=False)
    _torn: bool = field(default=False, init=False)

    def open(self) -> dict[Key, Remembered]:
        """Read what an earlier life left, rewrite the file with only that, and return it."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        found = after_restart(replay(data))
        for key, each in found.items():
            self._keep(
                key, _line(key, RESULT, result=each.result) if each.state == RESULT else _started_line(key, each)
            )
        self._rewrite()
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def accepted(self, key: Key) -> None:
        self._append(key, _line(key, ACCEPTED))

    def started(self, key: Key) -> None:
        self._append(key, _line(key, STARTED))

    def process(self, key: Key, pid: int, began_s: float) -> None:
        self._append(key, _line(key, PROCESS, pid=pid, began_s=round(began_s, 2)))

    def result(self, key: Key, data: dict[str, Any]) -> None:
        self._drop(key)
        self._append(key, _line(key, RESULT, result=data))

    def gone(self, key: Key) -> None:
        if key not in self._live:
            return
        self._drop(key)
        self._write(_line(key, GONE))
        if self._size_bytes > COMPACT_ABOVE_BYTES and self._size_bytes > 4 * self._live_bytes:
            self._rewrite()

    async def sync(self) -> None:
        """Return once everything written so far is on the disk. The waiting is done in a thread."""
        fd = os.dup(self._fd)

        def work() -> None:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

        await self.in_thread(work)

    def _append(self, key: Key, line: bytes) -> None:
        self._keep(key, line)
        self._write(line)

    def _keep(self, key: Key, line: bytes) -> None:
        self._live.setdefault(key, []).append(line)
        self._live_bytes += len(line)

    def _drop(self, key: Key) -> None:
        self._live_bytes -= sum(map(len, self._live.pop(key, ())))

    def _write(self, line: bytes) -> None:
        if self._fd < 0:
            return
        # What a full disk left of the line before must not swallow this one.
        line = b"\n" + line if self._torn else line
        self._torn = True
        _write_all(self._fd, [line])
        self._torn = False
        self._size_bytes += len(line)

    def _rewrite(self) -> None:
        """Write what is alive to a new file and put it in the old one's place: rare, so done at once and synced."""
        temporary = self.path.with_name(self.path.name + ".new")
        fd = os.open(temporary, _DRAFT, 0o600)
        try:
            _write_all(fd, [line for lines in self._live.values() for line in lines])
            os.fsync(fd)
            if sys.platform == "win32":  # what is open there keeps its name
                os.close(fd)
                self.close()
                os.replace(temporary, self.path)
                fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_BINARY)
            else:
                os.replace(temporary, self.path)
            sync_folder(self.path.parent)
        except OSError:
            os.close(fd)
            raise
        self.close()
        self._fd = fd
        self._size_bytes = self._live_bytes


def _started_line(key: Key, each: Remembered) -> bytes:
    if each.process is None or each.began_s is None:
        return _line(key, STARTED)
    return _line(key, PROCESS, pid=each.process, began_s=each.began_s)


def _write_all(fd: int, lines: Iterable[bytes]) -> None:
    for line in lines:
        view = memoryview(line)
        while view:
            view = view[os.write(fd, view) :]
