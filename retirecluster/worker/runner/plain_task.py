"""One attempt of the plain runner: its process, the threads that read what it says, and the one that waits for it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time

from retirecluster.worker.runner import limits
from retirecluster.worker.runner.behaviours import command_argv
from retirecluster.worker.runner.output import TAIL_BYTES, Stream, complete_report, send_chunks
from retirecluster.worker.runner.side import SideChannel
from retirecluster.worker.runner.trees import CREATION_FLAGS, KILL, OWN_SESSION, TERMINATE, end_tree

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from retirecluster.worker.runner.output import Say

TICK_S = 0.05
SIDE_BYTES = 2 * limits.SIDE_LINE_BYTES
"""What is read of the side file at once."""
MOST_SIDE_BYTES = 64 * 1024 * 1024
HELD_S = 1.0
"""How long output is waited for that a process somewhere else may hold open."""
CHILD = os.path.join(os.path.dirname(__file__), "plain_child.py")


class Place:
    """What one attempt has on the disk: a folder, and beside it its job, its standard input, its side file."""

    def __init__(self, mine: str, job: dict[str, Any], packages: list[str]) -> None:
        base = os.path.join(mine, str(job["n"]))
        self._own = job.get("folder") is None
        self.folder: str = job.get("folder") or base
        self.side, self._job, self._stdin = f"{base}.side", f"{base}.job", f"{base}.in"
        self._packages = packages

    def open(self, job: dict[str, Any]) -> tuple[list[str] | str, str]:
        """Make everything; what is to be run, and the file that is its standard input. Raises OSError, ValueError."""
        if self._own:
            os.mkdir(self.folder, 0o700)
        payload = dict(job["payload"])
        text = payload.pop("stdin", None) if job["type"] in ("command", "python_script") else None
        for path, data in ((self.side, ""), (self._stdin, text or "")):
            with open(path, "w", encoding="utf-8", errors="replace", newline="") as file:
                file.write(data)
        if job["type"] == "command" and not job.get("entry"):
            return _command(payload), self._stdin
        with open(self._job, "w", encoding="utf-8") as file:
            json.dump({**job, "payload": payload}, file)
        flags = ["-I", "-S", "-X", "utf8"]
        return [sys.executable, *flags, CHILD, self._job, self.side, *self._packages], self._stdin

    def variables(self) -> dict[str, str]:
        """What the task is told of it."""
        found = dict.fromkeys(("HOME", "TMPDIR", "RETIRE_SCRATCH"), self.folder)
        if sys.platform == "win32":
            found |= dict.fromkeys(("USERPROFILE", "TEMP", "TMP"), self.folder)
        return found | {"RETIRE_PROGRESS_FILE": self.side}

    def close(self) -> None:
        """Remove it; what another program still has open stays until the runner ends."""
        if self._own:
            shutil.rmtree(self.folder, ignore_errors=True)
        for path in (self.side, self._job, self._stdin):
            try:
                os.unlink(path)
            except OSError:
                continue


def _command(payload: dict[str, Any]) -> list[str] | str:
    text = payload.get("command")
    if sys.platform == "win32" and payload.get("shell") and isinstance(text, str):
        return f'{os.environ.get("COMSPEC", "cmd.exe")} /d /s /c "{text}"'
    return command_argv(payload)


class PlainTask:
    """`say` sends a message to the worker, from any thread; `over` is called once the end has been said."""

    def __init__(self, job: dict[str, Any], place: Place, say: Say, over: Callable[[PlainTask], None]) -> None:
        self.number: int = job["n"]
        self.lane: str | None = job.get("lane")
        self._job = job
        self._place = place
        self._say = say
        self._over = over
        self._lock = threading.RLock()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._streams = {name: Stream(name, TAIL_BYTES[name]) for name in TAIL_BYTES}
        self._streamed_bytes = self._seq = self._side_at = 0
        self._allowed_bytes: int = (job.get("limits") or {}).get("output_bytes", limits.STREAM_BYTES)
        self._side = SideChannel()
        self._said: dict[str, Any] = {}
        self._progress: dict[str, Any] | None = None
        self._progress_at = time.monotonic() - limits.PROGRESS_S
        self._deadline: float | None = None
        self._kill_at: float | None = None
        self._timed_out = self._cancelled = False

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(seconds)

    def cancel(self, grace_s: float) -> None:
        """End it, because somebody wants that."""
        with self._lock:
            if not self._timed_out:
                self._cancelled = True
                self._stop(grace_s)

    def _stop(self, grace_s: float) -> None:
        now, self._deadline = time.monotonic(), None
        first, self._kill_at = self._kill_at is None, min(self._kill_at or now + grace_s, now + grace_s)
        if first and grace_s > 0 and self._process is not None and self._process.poll() is None:
            end_tree(self._process.pid, TERMINATE)

    # Its life

    def _live(self) -> None:
        try:
            self._begin()
        except (OSError, ValueError) as error:
            self._say(self._cannot(error))
        else:
            self._watch()
        self._place.close()
        self._over(self)

    def _begin(self) -> None:
        words, stdin = self._place.open(self._job)
        variables = {**os.environ, **self._place.variables(), **self._job["env"]}
        variables.pop("RETIRE_PROGRESS_FD", None)
        with open(stdin, "rb") as file:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                words,
                stdin=file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._place.folder,
                env=variables,
                start_new_session=OWN_SESSION,
                creationflags=CREATION_FLAGS,
            )
        with self._lock:
            self._process = process
            self._began_at = time.monotonic()
            self._deadline = None if self._cancelled else self._began_at + self._job["timeout"]
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, name), daemon=True)
            for pipe, name in ((process.stdout, "stdout"), (process.stderr, "stderr"))
        ]
        for each in self._readers:
            each.start()
        self._say({"e": "started", "n": self.number, "pid": process.pid})

    def _cannot(self, error: OSError | ValueError) -> dict[str, Any]:
        what = self._job["payload"].get("argv") or self._job["payload"].get("command") or self._job["type"]
        name = what[0] if isinstance(what, list) else what
        scarce = isinstance(error, OSError) and error.errno in limits.SCARCE
        kind = "fork" if scarce else "exec" if isinstance(error, OSError) else "payload"
        message = f"{name!r} cannot be run: {getattr(error, 'strerror', None) or error}"
        told = {"kind": kind, "message": message[: limits.ERROR_CHARS], "retryable": scarce}
        return {"e": "end", "n": self.number, "code": 127, "error": told}

    def _watch(self) -> None:
        assert self._process is not None
        while True:
            try:
                code = self._process.wait(TICK_S)
                break
            except subprocess.TimeoutExpired:
                with self._lock:
                    self._tick(time.monotonic())
        wall_s = time.monotonic() - self._began_at
        end_tree(self._process.pid, KILL)  # what it left behind in its group
        for each in self._readers:
            each.join(HELD_S)
        with self._lock:
            while self._read_side() and self._side_at < MOST_SIDE_BYTES:
                continue
            self._tell_progress(time.monotonic(), final=True)
            for stream in self._streams.values():
                self._send_chunks(stream, final=True)
            self._say(self._report(code, wall_s))

    def _tick(self, now: float) -> None:
        """What is due: the timeout, the kill after the grace, waiting output, progress."""
        assert self._process is not None
        if self._deadline is not None and now >= self._deadline:
            self._timed_out = True
            self._stop(self._job.get("grace", limits.GRACE_S))
        if self._kill_at is not None and now >= self._kill_at:
            end_tree(self._process.pid, KILL)
        self._read_side()
        self._tell_progress(now)
        for stream in self._streams.values():
            if stream.waiting_since is not None and now - stream.waiting_since >= limits.FLUSH_S:
                self._send_chunks(stream)

    # What it says

    def _read(self, pipe: Any, name: str) -> None:
        """One pipe to its end. While the worker takes nothing, nothing is read, and the task waits in its `write`."""
        stream = self._streams[name]
        with pipe:
            while data := os.read(pipe.fileno(), limits.READ_BYTES):
                with self._lock:
                    streaming = self._streamed_bytes < self._allowed_bytes
                    self._streamed_bytes += len(data)
                    stream.feed(data, time.monotonic(), streaming)
                    if stream.full:
                        self._send_chunks(stream)
                if not streaming:
                    time.sleep(limits.TURN_S * len(data) / limits.TURN_BYTES)

    def _send_chunks(self, stream: Stream, final: bool = False) -> None:
        self._seq = send_chunks(stream, self.number, self._seq, self._say, final)

    def _read_side(self) -> bool:
        """Take what is new in the side file; False where there is nothing."""
        try:
            with open(self._place.side, "rb") as file:
                file.seek(self._side_at)
                data = file.read(SIDE_BYTES)
        except OSError:
            return False
        self._side_at += len(data)
        for told in self._side.feed(data):
            self._progress = told.pop("progress", None) or self._progress
            self._said.update(told)
        return bool(data)

    def _tell_progress(self, now: float, final: bool = False) -> None:
        if self._progress is not None and (final or now - self._progress_at >= limits.PROGRESS_S):
            self._say({"e": "progress", "n": self.number, **self._progress})
            self._progress, self._progress_at = None, now

    def _report(self, code: int, wall_s: float) -> dict[str, Any]:
        ended = {"code": code, "signal": None} if code >= 0 else {"code": None, "signal": -code}
        report: dict[str, Any] = {"e": "end", "n": self.number, **ended, "wall": round(wall_s, 6), **self._said}
        complete_report(report, self._streams, self._timed_out, self._cancelled)
        return report
