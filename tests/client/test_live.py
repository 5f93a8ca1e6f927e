"""What is redrawn in place, seen through a terminal of a few lines of code."""

from __future__ import annotations

import io
import re

from twisted.internet.task import Clock

from retirecluster.client.console import Console
from retirecluster.client.demo_progress import DemoProgress
from retirecluster.client.live import LiveLines
from retirecluster.client.tracking import TaskTracker


def screen(written: str) -> list[str]:
    """The lines that a terminal shows after that was written to it."""
    lines, row = [""], 0
    for token in re.split(r"(\x1b\[[?0-9;]*[A-Za-z]|\r|\n)", written):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token.startswith("\x1b[") and token.endswith("A"):
            row -= int(token[2:-1])
        elif token == "\x1b[J":
            lines[row:] = [""]
        elif not token.startswith(("\x1b", "\r")):
            lines[row] += token
    return lines


def test_drawing_replaces_what_was_drawn() -> None:
    out = io.StringIO()
    live = LiveLines(Console(out, out, width=20, colour=True, live=True))
    out.write("before\n")
    live.draw(["one ━━╌╌", "two"])
    live.draw(["three", "four", "a line that is far too long"])
    live.draw(["five"])
    live.finish()
    out.write("after\n")
    assert screen(out.getvalue()) == ["before", "five", "after", ""]
    live.draw(["x" * 30])
    assert screen(out.getvalue())[-2] == "x" * 18 + "…"
    live.erase()
    assert screen(out.getvalue()) == ["before", "five", "after", ""]
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h")


def test_without_a_terminal_nothing_is_drawn() -> None:
    out = io.StringIO()
    live = LiveLines(Console(out, out))
    live.draw(["x"])
    live.finish()
    live.erase()
    assert out.getvalue() == ""


def tracker() -> TaskTracker:
    found = TaskTracker(None, None, ["a", "b", "c", "d"])  # type: ignore[arg-type]
    found.note({"task_id": "a", "status": "running", "device_id": "phone"})
    found.note({"task_id": "a", "status": "completed", "device_id": None})
    found.note({"task_id": "b", "status": "running", "device_id": "pi"})
    found.note({"task_id": "c", "status": "assigned", "device_id": "pi"})
    return found


def test_the_demo_shows_each_device() -> None:
    clock, out = Clock(), io.StringIO()
    progress = DemoProgress(Console(out, out, width=100, live=True), tracker(), ["phone", "pi"], clock)
    clock.advance(2)
    total, phone, pi = progress.lines()
    assert total.split()[-6:] == ["1", "of", "4", "done", "2.0", "s"]
    assert phone.split()[-2:] == ["1", "done"]
    assert pi.split()[-4:] == ["0", "done", "1", "running"]


def test_the_demo_says_plain_lines_now_and_then() -> None:
    clock, out = Clock(), io.StringIO()
    found = tracker()
    progress = DemoProgress(Console(out, out), found, ["phone", "pi"], clock)
    for _ in range(30):
        clock.advance(0.1)
        progress.show()
    assert out.getvalue() == "  1 of 4 done after 2.0 s (phone 1, pi 0)\n"
    for task_id in "bcd":
        found.note({"task_id": task_id, "status": "failed", "device_id": "pi"})
    progress.show()
    assert out.getvalue().endswith("  4 of 4 done after 3.0 s (phone 1, pi 3)\n")


def test_a_final_state_stays_whatever_comes_late() -> None:
    found = tracker()
    found.note({"task_id": "a", "status": "running", "device_id": "pi"})
    assert (found.seen["a"].status, found.seen["a"].device_id) == ("completed", "phone")
    found.note({"task_id": "d", "status": "cancelled", "device_id": None})
    found.note({"task_id": "d", "status": "cancelled", "device_id": "pi"})
    assert (found.seen["d"].status, found.seen["d"].device_id) == ("cancelled", "pi")
