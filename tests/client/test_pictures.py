"""What monitors draw on a terminal that can redraw, against a real main."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError

from retirecluster.main.pulse import STEP_S
from retirecluster.render.cells import text_width
from tests.client.test_table import Line
from tests.support import pause
from tests.web.device import played

PAGE = "\x1b[H\x1b[2J"
WIDTH = 90


async def page_of(line: Line, command: str, *until: str) -> list[str]:
    """The lines of the first page that has all of these words."""
    following = line.start(f"{command} --watch 100ms", WIDTH)
    page = ""
    for _ in range(400):
        page = line.out.getvalue().split(PAGE)[-1]
        if all(each in page for each in until):
            break
        await pause(0.05)
    following.cancel()
    with pytest.raises(CancelledError):
        await following
    assert all(each in page for each in until), page
    return page.splitlines()


@pytest_twisted.ensureDeferred
async def test_devices_are_a_grid(node: Any) -> None:
    device = await played(node, "pi")
    for command in ("monitor devices", "devices monitor"):
        lines = await page_of(Line(node, live=True), command, "● pi")
        assert any(each.startswith("devices ") and "1 online" in each for each in lines)
        assert all(text_width(each) <= WIDTH for each in lines)
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_tasks_have_bars_of_progress(node: Any) -> None:
    device = await played(node, "pi")
    line = Line(node, live=True)
    await line.http.post("/api/v1/tasks", {"task_type": "echo", "payload": {}, "name": "film"})
    task = await device.take()
    device.say("task_progress", {"task_id": task["task_id"], "epoch": task["epoch"], "percent": 50, "message": "half"})
    lines = await page_of(line, "tasks monitor", "━╌", "half")
    assert any("film" in each and "━━━━━━╌╌╌╌╌╌ 50%" in each for each in lines), lines
    await device.finish(task)
    await page_of(line, "monitor tasks", "Nothing runs.")
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_figures_have_a_course(node: Any) -> None:
    pulse, scheduler, moment = node.rooms.heartbeat.pulse, node.rooms.scheduler, node.rooms.cluster.moment
    for ago in (3, 2, 1):
        now = moment()
        pulse.beat(scheduler.ledger, type(now)(now.mono_s - ago * STEP_S, now.wall_s - ago * STEP_S))
    lines = await page_of(Line(node, live=True), "monitor metrics", "waiting", "at most 0")
    assert any(each.startswith("completed") and "▁▁" in each for each in lines), lines


@pytest_twisted.ensureDeferred
async def test_status_has_gauges_at_both_doors(node: Any) -> None:
    device = await played(node, "pi")
    line = Line(node)
    for said in (await line.run("cluster status"), await line.over_http("cluster status")):
        assert "load" in said and "╌╌╌╌   0%" in said
    await device.leave()
