"""The command line is made of the table, and says what the terminal says: against a real main."""

from __future__ import annotations

import io
import json
import shlex
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from retirecluster.client.cli import build_parser, parse, runs
from retirecluster.client.commands_log import event_line
from retirecluster.client.console import Console
from retirecluster.client.context import Context
from retirecluster.client.task_options import fields_from_options
from retirecluster.domain.commands.grammar import parse as parse_line
from retirecluster.domain.commands.model import CLI, HTTP
from retirecluster.domain.commands.table import COMMANDS
from retirecluster.domain.commands.task_options import document_from
from retirecluster.domain.errors import ClusterError
from tests.support import pause
from tests.web.conftest import http_of
from tests.web.device import played

HERE = [command for command in COMMANDS if CLI in command.doors]


class Line:
    """Command lines against one main. `live`: on a terminal that can redraw, without colours."""

    def __init__(self, node: Any, live: bool = False) -> None:
        self.live = live
        self.http = http_of(node)
        self.out = io.StringIO()
        self.err = io.StringIO()

    def start(self, line: str, width: int | None = None) -> Deferred[int]:
        self.out, self.err = io.StringIO(), io.StringIO()
        environ = {
            "RETIRE_CLUSTER_SERVER": f"http://127.0.0.1:{self.http.port}",
            "RETIRE_CLUSTER_TOKEN": self.http.token,
        }
        console = Console(self.out, self.err, width, live=self.live)
        args = parse(shlex.split(line))
        assert args is not None
        if hasattr(args, "run_now"):
            done: Deferred[int] = Deferred()
            done.callback(args.run_now(console, args))
            return done
        return Deferred.fromCoroutine(args.run(Context(reactor, console, environ), args))

    async def run(self, line: str, width: int | None = None) -> str:
        assert await self.start(line, width) == 0, self.err.getvalue()
        return self.out.getvalue()

    async def over_http(self, line: str, width: int | None = None) -> str:
        """What the terminal gets for the same line."""
        answer = await self.http.post("/api/v1/command", {"line": line, "width": width})
        output: str = answer.data["output"]
        return output


@pytest.fixture
def line(node: Any) -> Line:
    return Line(node)


def test_each_command_of_the_command_line_is_done_by_something_and_nothing_else_is() -> None:
    assert runs().keys() == {command.name for command in HERE}


@pytest.mark.parametrize("command", HERE, ids=lambda each: each.name)
def test_examples_work_in_a_shell_as_in_a_terminal(command: Any) -> None:
    for example in command.examples:
        if "|" in shlex.split(example):
            continue
        args = parse(shlex.split(example))
        assert args is not None and args.verb == command.path[-1]
        if HTTP not in command.doors:
            continue
        found = parse_line(example)
        assert found is not None
        options = {each.key for each in command.options if each.key in found.filled.given}
        options |= {each.name for each in command.arguments}
        assert {name: getattr(args, name) for name in options} == {name: found.filled.values[name] for name in options}


def test_options_of_a_task_mean_the_same_at_both_doors() -> None:
    line = (
        "submit --name x --priority high --timeout 2m --retries 1 --min-cpu-cores 2 --tag a --tag b --gpu "
        "--label team=kitchen --limit memory=1GiB --verify 2 --python 3.11 -- ls"
    )
    args, found = parse(shlex.split(line)), parse_line(line)
    assert args is not None and found is not None
    assert fields_from_options(args) == document_from(found.filled.values) != {}


@pytest.mark.parametrize("command", [each for each in HERE if each.connects], ids=lambda each: each.name)
def test_which_main_may_stand_before_and_after_the_command(command: Any) -> None:
    words = [next(iter(each.choices), "1h") for each in command.arguments if each.count in ("one", "some")]
    words = ["1" if each.kind.name == "n" else word for each, word in zip(command.arguments, words, strict=False)]
    for given in (["--server", "nas", *command.path, *words], [*command.path, *words, "--server", "nas"]):
        args = parse(given)
        assert args is not None and args.server == "nas"


@pytest_twisted.ensureDeferred
async def test_the_command_line_says_what_the_terminal_says(node: Any, line: Line) -> None:
    device = await played(node)
    await line.run("submit --name film --tag none -- true")
    await line.run("devices role pixel-3 storage")
    for each in (
        "devices list --wide",
        "tasks list",
        "tasks list --status queued -o csv",
        "tasks why last",
        "tasks query FILM",
        "tasks query nothing -o tsv",
        "tasks metrics",
        "tasks types",
        "tasks files last -o json",
        "cluster config",
        "signals list -o csv",
        "events --subject task",
        "events --limit 2 -o json",
        "audit --action device.role",
        "export devices",
        "export tasks -o json",
    ):
        for width in (None, 60):
            ours, theirs = await line.run(each, width), await line.over_http(each, width)
            lines = [text for text in theirs.splitlines() if not text.startswith("─")]
            if not ours:
                assert line.err.getvalue().strip().split()[:2] == theirs.split()[:2], each
            elif each.endswith("json"):
                assert _steady(json.loads(ours)) == _steady(json.loads(theirs)), each
            else:
                assert [_words(text) for text in ours.splitlines()] == [_words(text) for text in lines], each
    await device.leave()


_MOVING = ("uptime_s", "last_seen_s", "last_seen_at")


def _steady(documents: Any) -> Any:
    if isinstance(documents, dict):
        return documents
    return [{name: value for name, value in each.items() if name not in _MOVING} for each in documents]


def _words(text: str) -> list[str]:
    return text.split()


@pytest_twisted.ensureDeferred
async def test_help_is_there_in_a_shell_too(line: Line) -> None:
    assert "retire-cluster" in build_parser().format_help()
    assert "drain" in await line.run("help devices")
    assert "--server URL" in await line.run("help devices drain") and "up " in await line.run("help")
    with pytest.raises(ClusterError, match="did you mean devices"):
        await line.run("help devises")


@pytest_twisted.ensureDeferred
async def test_monitors_show_what_happens_until_they_are_stopped(node: Any, line: Line) -> None:
    for words, form in (("monitor tasks", "table"), ("monitor events", "json"), ("tasks monitor", "table")):
        following = line.start(f"{words} -o {form}")
        for _ in range(100):
            await line.http.post("/api/v1/tasks", {"task_type": "echo", "payload": {}, "name": "x"})
            await pause(0.05)
            if "task-" in line.out.getvalue():
                break
        following.cancel()
        with pytest.raises(CancelledError):
            await following
        first = line.out.getvalue().splitlines()[0]
        assert "task-" in first and (json.loads(first)["event"] == "task_update" if form == "json" else True)


def test_events_are_lines_without_anything_that_a_terminal_obeys() -> None:
    said = event_line("task_update", {"at": 0, "event": "queued", "name": "a\x1b[2J\nb"}, "table")
    assert said == "1970-01-01T00:00:00.000Z  queued  name a\\x1b[2J\\nb"


@pytest_twisted.ensureDeferred
async def test_devices_by_all_and_not_by_rows(node: Any, line: Line) -> None:
    first, second = await played(node, "pi"), await played(node, "pixel-3")
    with pytest.raises(ClusterError, match="--yes"):
        await line.run("devices drain all")
    assert await line.run("devices drain all --yes") == "pi  draining\npixel-3  draining\n"
    with pytest.raises(ClusterError, match="there is none here"):
        await line.run("devices undrain 1-2")
    for device in (first, second):
        await device.leave()
