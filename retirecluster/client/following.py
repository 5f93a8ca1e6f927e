"""Waiting for one task with its progress and output shown as they come."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from retirecluster.client.api import ClusterApi, Document
from retirecluster.client.console import Console
from retirecluster.domain.errors import ClusterError
from retirecluster.render.cells import cut, visible
from retirecluster.render.output_text import SafeOutput

FASTEST_POLL_S, SLOWEST_POLL_S = 0.2, 1.0
TAIL_CHARS = 4096
"""How much of what was printed is kept, to find in the result what was not."""
_TIMEOUT_EXIT = 6


class StatusLine:
    """One line on standard error that comes and goes, where that is a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.visible = console.live and console.err.isatty()
        self._drawn = False

    def show(self, text: str) -> None:
        if self.visible:
            width = max(1, (self._console.width or 80) - 1)
            self._console.err.write(f"\r\x1b[K{self._console.style(cut(visible(text), width), 'dim')}")
            self._console.err.flush()
            self._drawn = True

    def erase(self) -> None:
        if self._drawn:
            self._console.err.write("\r\x1b[K")
            self._console.err.flush()
            self._drawn = False


def progress_text(task: Document) -> str:
    """`task-abc123 running on pixel-phone  40%  halfway`, as far as it is known."""
    progress = task.get("progress") or {}
    parts = [f"{task['task_id']} {task['status']}" + (f" on {task['device_id']}" if task.get("device_id") else "")]
    if progress.get("percent") is not None:
        parts.append(f"{progress['percent']:.0f}%")
    reason = progress.get("message") or ("" if task.get("device_id") else task.get("reason"))
    return "  ".join([*parts, *([reason] if reason else [])])


class OutputPrinter:
    """Prints the output of one task, everything once: standard output and error to where they belong.

    While the task runs its output comes in numbered pieces; once it has ended the main keeps the end of it as a
    whole, and what of that was printed already is found by comparing.
    """

    def __init__(self, api: ClusterApi, console: Console, task_id: str, only_printed: bool = False) -> None:
        """`only_printed`: what the task gives as its value is somebody else's to show."""
        self._only_printed = only_printed
        self._api = api
        self._console = console
        self.task_id = task_id
        self._from_seq = 0
        self._epoch = 0
        self._safe = {"stdout": SafeOutput(), "stderr": SafeOutput()}
        self._tails = {"stdout": "", "stderr": ""}
        self.status = StatusLine(console)
        self.printed = False
        self.finished = False

    async def step(self) -> bool:
        """Print what is new; true if there was something."""
        data = await self._api.output(self.task_id, self._from_seq)
        epoch = data.get("epoch") or self._epoch
        if epoch != self._epoch:
            data = await self._start_over(epoch, data)
        if data.get("finished") and not self._only_printed:
            await self._finish()
            return True
        self.finished = bool(data.get("finished"))
        for chunk in data["chunks"]:
            self._write(chunk.get("stream", "stdout"), chunk["data"])
        self._from_seq = data["next_seq"]
        return bool(data["chunks"])

    async def _start_over(self, epoch: int, data: Document) -> Document:
        """The output of a new attempt, from its beginning."""
        if self.printed:
            self._console.note(f"retire-cluster: attempt {epoch} starts over")
        self._epoch = epoch
        self._tails = {"stdout": "", "stderr": ""}
        return await self._api.output(self.task_id, 0) if self._from_seq else data

    async def _finish(self) -> None:
        if self.finished:
            return
        result = await self._api.result(self.task_id)
        # Only now: whoever cancels while the answer is on its way asks again for what was not printed.
        self.finished = True
        for stream, text in (("stdout", result.get("output")), ("stderr", result.get("stderr"))):
            if text is not None:
                self._write_rest(stream, text if isinstance(text, str) else json.dumps(text))

    def _write_rest(self, stream: str, text: str) -> None:
        """Print the end of an output that was perhaps printed in part."""
        tail = self._tails[stream]
        if tail:
            at = text.rfind(tail)
            # Not found: more came since the last look than the main has kept of it.
            text = text[at + len(tail) :] if at >= 0 else text
        if text:
            self._write(stream, text)
        if self._tails[stream] and not self._tails[stream].endswith("\n"):
            self._write(stream, "\n")

    def _write(self, stream: str, text: str) -> None:
        self.status.erase()
        stream = "stderr" if stream == "stderr" else "stdout"
        self._tails[stream] = (self._tails[stream] + text)[-TAIL_CHARS:]
        out = self._console.err if stream == "stderr" else self._console.out
        out.write(self._safe[stream].feed(text) if out.isatty() else text)
        out.flush()
        self.printed = True


async def follow_output(api: ClusterApi, reactor: Any, printer: OutputPrinter) -> None:
    """Print output until the task has ended and all of it is printed."""
    pause_s = FASTEST_POLL_S
    while True:
        found = await printer.step()
        if printer.finished:
            return
        if printer.status.visible:
            printer.status.show(progress_text(await api.task(printer.task_id)))
        pause_s = FASTEST_POLL_S if found else min(pause_s * 1.5, SLOWEST_POLL_S)
        await deferLater(reactor, pause_s)


async def wait_with_output(
    api: ClusterApi,
    reactor: Any,
    console: Console,
    task_id: str,
    timeout_s: float | None = None,
    only_printed: bool = False,
) -> Document:
    """Wait for the end of a task, printing its output meanwhile; the task document."""
    printer = OutputPrinter(api, console, task_id, only_printed)
    following = Deferred.fromCoroutine(follow_output(api, reactor, printer))
    # Output is a courtesy here: the end of the task is what is waited for, and it is asked for separately.
    following.addErrback(lambda failure: failure.trap(ClusterError, CancelledError) and None)
    try:
        task = await api.wait(task_id, timeout_s)
    finally:
        following.cancel()
        await following
        printer.status.erase()
    await printer.step()
    return task


async def exit_code_of(api: ClusterApi, console: Console, task: Document) -> int:
    """The exit code for a task that has ended: 0, its own (1 to 125), or 1; 6 where time ran out. Says why."""
    if task["status"] == "completed":
        return 0
    result = await api.result(task["task_id"])
    error = result.get("error") or {}
    why = task.get("reason") or (error.get("message") if isinstance(error, dict) else str(error)) or ""
    console.note(f"retire-cluster: {task['task_id']} {task['status']}" + (f": {why}" if why else ""))
    kind = error.get("kind") if isinstance(error, dict) else None
    if task["status"] == "expired" or kind == "timeout" or str(why).startswith("timeout"):
        return _TIMEOUT_EXIT
    code = result.get("exit_code")
    return code if isinstance(code, int) and 0 < code <= 125 else 1
