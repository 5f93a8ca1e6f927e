"""POST /api/v1/command: every command by every role, what it answers, and what hostile text makes of it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable
from random import Random
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, gatherResults

from retirecluster.domain.access import READ, ROLES, SUBMIT, Caller
from retirecluster.domain.commands.filters import MAX_CHARS
from retirecluster.domain.commands.model import HTTP, ONE, SOME, TERMINAL, Argument, Command
from retirecluster.domain.commands.table import COMMANDS
from retirecluster.domain.commands.words import MAX_LINE
from retirecluster.domain.errors import ERRORS
from retirecluster.render.cells import text_width
from retirecluster.web.api_command import ACTIONS
from tests.web.device import played
from tests.web.http import Http, Response

SERVED = [command for command in COMMANDS if HTTP in command.doors]
WORDS = {
    "device": "pixel-3",
    "task": "task-nosuchtask00",
    "time": "1h",
    "role": "nas",
    "n": "1",
    "name": "x",
    "text": "0" * 64,
}
ESCAPES = [
    "\x1b[2J",
    "\x1b]52;c;aGk=\x07",
    "\x1b]8;;javascript:alert(1)\x07x",
    "\x9b5n",
    "\x1b[6n",
    "\u202eabc",
    "\r\x00",
    "\x7f",
]
SGR = re.compile(r"\x1b\[[0-9;]*m")


class Commands:
    """Lines sent to one main."""

    def __init__(self, http: Http) -> None:
        self.http = http

    async def send(self, line: str, *, token: bool = True, **more: Any) -> Response:
        return await self.http.call("POST", "/api/v1/command", {"line": line, **more}, token=token)

    async def run(self, line: str, **more: Any) -> dict[str, Any]:
        answer = await self.send(line, **more)
        assert answer.status == 200, (line, answer.body)
        found: dict[str, Any] = answer.data
        return found

    async def refused(self, line: str, status: int, **more: Any) -> str:
        """The words of the problem that a line is answered with."""
        answer = await self.send(line, **more)
        assert answer.status == status, (line, answer.status, answer.body)
        detail: str = answer.json["detail"]
        return detail


@pytest.fixture
def commands(http: Http) -> Commands:
    return Commands(http)


def a_line(command: Command) -> str:
    """A line with a word for each argument that has to be there."""

    def word(argument: Argument) -> str:
        return argument.choices[0] if argument.choices else WORDS[argument.kind.name]

    words = [word(each) for each in command.arguments if each.count in (ONE, SOME)]
    yes = ["--yes"] if any("--yes" in each.flags for each in command.options) else []
    rest = ["--", "uname"] if command.rest else []
    return " ".join([command.name, *words, *yes, *rest])


def check_safe(text: str, colour: bool = False) -> None:
    """Nothing in it that a terminal would obey."""
    rest = SGR.sub("", text) if colour else text
    assert all(char.isprintable() or char in "\n\t" for char in rest), ascii(rest)


# -- roles


def test_every_command_of_http_is_done_by_something_and_nothing_else_is() -> None:
    assert ACTIONS.keys() == {command.name for command in SERVED}


@pytest_twisted.ensureDeferred
async def test_every_command_by_every_role(node: Any, commands: Commands) -> None:
    device = await played(node)
    for command in SERVED:
        line = a_line(command)
        answer = await commands.send(line, token=False)
        if command.role != READ:
            assert (answer.status, answer.code) == (401, "unauthorized"), line
            assert "admin.token" in answer.json["detail"] and command.name in answer.json["detail"]
        else:
            assert answer.status in (200, 404), (line, answer.body)
        wrong = await commands.http.call("POST", "/api/v1/command", {"line": line}, token=False, X_API_Key="wrong")
        assert (wrong.status, wrong.code) == (401, "unauthorized"), line
        if command.path[-1] in ("ping", "remove"):
            continue  # the played device does not answer; removing it comes last
        answer = await commands.send(line)
        assert answer.status in (200, 404, 409), (line, answer.body)
        if answer.status == 200:
            found = answer.data
            assert found["command"] == command.name and {"output", "exit_code", "format"} <= found.keys(), line
            check_safe(found["output"])
            assert found["output"] or found["stream"] or command.name == "echo", line
        else:
            assert answer.code in ERRORS
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_no_command_can_do_more_than_its_role(node: Any, commands: Commands) -> None:
    """The role in the table is that of the routes behind it: whoever has it gets through, whoever has less does not."""
    device = await played(node)
    http, shown = commands.http, {}
    for role in ROLES:
        made = (await http.post("/api/v1/tokens", {"name": role, "role": role})).data
        shown[role] = {"token": False, "Authorization": f"Bearer {made['token']}"}
    for command in SERVED:
        task_id = (await http.call("POST", "/api/v1/tasks", {"task_type": "echo"}, **shown[SUBMIT])).data["task_id"]
        document = {"line": a_line(command).replace(WORDS["task"], task_id)}
        for role in ROLES:
            if not Caller(role, "token").may(command.role):
                answer = await http.call("POST", "/api/v1/command", document, **shown[role])
                assert (answer.status, answer.code) == (403, "forbidden"), (command.name, role)
                assert f"needs the role {command.role}" in answer.json["detail"]
        if command.path[-1] not in ("ping", "remove"):
            answer = await http.call("POST", "/api/v1/command", document, **shown[command.role])
            assert answer.status in (200, 404, 409), (command.name, answer.body)
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_request_is_checked_like_every_other(http: Http) -> None:
    for document, status in (
        ({}, 422),
        ({"line": 5}, 422),
        ({"line": "x", "extra": 1}, 422),
        ({"line": "x", "width": 3}, 422),
        ({"line": "x", "format": "xml"}, 422),
        ({"line": "x", "last": {"kind": "planets", "ids": []}}, 422),
        ({"line": "x" * (MAX_LINE + 1)}, 422),
    ):
        answer = await http.call("POST", "/api/v1/command", document, token=False)
        assert answer.status == status and answer.json["errors"], (document, answer.body)
    answer = await http.call("POST", "/api/v1/command", body=b'{"line": "devices"}', Content_Type="text/plain")
    assert answer.status == 415
    answer = await http.call("POST", "/api/v1/command", {"line": "devices"}, token=False, Origin="http://evil.example")
    assert (answer.status, answer.code) == (403, "forbidden")


# -- what commands do


@pytest_twisted.ensureDeferred
async def test_devices_are_listed_chosen_by_row_and_drained(node: Any, commands: Commands) -> None:
    first, second = await played(node, "pixel-3"), await played(node, "pi")
    listed = await commands.run("devices", width=80)
    assert [line.split()[0] for line in listed["output"].splitlines() if "─" not in line] == ["ID", "pi", "pixel-3"]
    assert listed["listed"] == {"kind": "devices", "ids": ["pi", "pixel-3"]}
    assert [each["device_id"] for each in listed["data"]] == ["pi", "pixel-3"]
    drained = await commands.run("device drain 1-2 --deadline 5m", last=listed["listed"])
    assert drained["output"] == "pi  draining\npixel-3  draining\n" and drained["exit_code"] == 0
    assert "the rows 1 to 2" in await commands.refused("devices drain 3", 404, last=listed["listed"])
    assert "there is none here" in await commands.refused("devices drain 1", 422)
    other = {"kind": "tasks", "ids": ["task-1"]}
    assert "listing was of tasks" in await commands.refused("devices drain 1", 422, last=other)
    gone = {"kind": "devices", "ids": ["p"]}
    assert "no longer there" in await commands.refused("devices drain 1", 404, last=gone)
    assert "Add --yes" in await commands.refused("devices undrain all", 409)
    assert (await commands.run("devices undrain all -y"))["output"] == "pi  online\npixel-3  online\n"
    assert "several devices" in await commands.refused("devices show p", 409)
    assert "did you mean pixel-3?" in await commands.refused("devices show pixl-3", 404)
    assert "role nas" in (await commands.run("devices role pix nas"))["output"]
    assert "Add --yes" in await commands.refused("devices remove pi", 409)
    partly = await commands.run("devices release pi pixel-3")
    assert partly["exit_code"] == 5 and partly["output"].count("not done") == 2
    for device in (first, second):
        await device.leave()


@pytest_twisted.ensureDeferred
async def test_tasks_from_submit_to_logs(node: Any, commands: Commands) -> None:
    submitted = await commands.run("tasks submit --name film --tag none -- echo 'a b'")
    task_id = submitted["output"].strip()
    assert submitted["data"] == {"task_id": task_id, "status": "queued"}
    document = (await commands.run("tasks show last -o json"))["data"]
    assert (document["name"], document["task_type"]) == ("film", "command")
    for word in (task_id, task_id[:9], task_id.removeprefix("task-"), "last"):
        assert task_id in (await commands.run(f"task show {word}"))["output"], word
    listed = await commands.run("tasks ls --status queued")
    assert listed["listed"] == {"kind": "tasks", "ids": [task_id]}
    held = await commands.run("tasks hold 1", last=listed["listed"])
    assert held["output"] == f"{task_id} held\n"
    assert "is held" in (await commands.run("tasks why last"))["output"]
    assert "release 1 task? Add --yes" in await commands.refused("tasks release all", 409)
    assert (await commands.run("tasks release all --yes"))["exit_code"] == 0
    waiting = await commands.run("tasks wait all")
    address, _, after = waiting["stream"]["address"].partition("?last_event_id=")
    assert address == f"/stream/tasks/{task_id}" and int(after) > 0
    resumed = await commands.http.stream(waiting["stream"]["address"])
    assert waiting["stream"]["until"]["task_ids"] == [task_id]
    assert (await commands.run("tasks logs -f last"))["stream"]["address"] == f"/stream/tasks/{task_id}/output"
    assert (await commands.run("tasks cancel last"))["output"] == f"{task_id} cancelled\n"
    assert b'"cancelled"' in await resumed.until(b'"cancelled"')
    await resumed.leave()
    assert (await commands.run("tasks wait all"))["output"] == "Nothing to wait for.\n"
    assert (await commands.run("tasks cancel all"))["output"] == "There is nothing to do.\n"
    ended = await commands.run("tasks wait last")
    assert ended["exit_code"] == 1 and "stream" not in ended
    assert (await commands.run("tasks query FILM"))["output"].count("film") == 1
    assert "No tasks" in (await commands.run("tasks query nothing"))["output"]
    assert (await commands.run("tasks result last"))["data"]["status"] == "cancelled"
    typed = await commands.run("""submit --type python_eval --payload '{"expression": "1"}'""")
    assert typed["data"]["status"] == "queued"
    for line, words in (
        ("submit uname -a", "goes after --"),
        ("submit uname", "put a command after --"),
        ("submit", "submit one thing"),
        ("submit --", "no command after --"),
        ("submit --type echo --payload @x", "in a shell"),
        ("submit --type echo --payload '[1]'", "JSON object"),
        ("submit --retries many -- ls", "--retries"),
        ("submit --file x", "no option --file"),
    ):
        answer = await commands.send(line)
        assert answer.status in (400, 422) and words in answer.json["detail"], (line, answer.body)


@pytest_twisted.ensureDeferred
async def test_streams_are_named_and_lead_somewhere(http: Http, commands: Commands) -> None:
    for line in ("monitor devices", "monitor tasks", "monitor events", "devices monitor", "tasks monitor"):
        found = await commands.run(line, token=False)
        assert found["output"] == "" and found["exit_code"] == 0
        await (await http.stream(found["stream"]["address"])).leave()
    metrics = await commands.run("monitor metrics")
    assert metrics["again_s"] == 2.0 and "uptime_s" in metrics["output"]
    assert (await commands.run("devices list --watch 5s"))["again_s"] == 5.0


@pytest_twisted.ensureDeferred
async def test_formats_filters_and_width(node: Any, commands: Commands) -> None:
    device = await played(node, role="storage")
    assert (await commands.run("devices", format="csv"))["output"].startswith("id,status,role")
    assert (await commands.run("devices -o table", format="csv"))["format"] == "table"
    document = json.loads((await commands.run("devices -o json"))["output"])
    assert document[0]["device_id"] == "pixel-3"
    assert (await commands.run("devices -o tsv"))["output"].splitlines()[0].startswith("id\tstatus")
    filtered = await commands.run("devices | grep pixel | cut -f 1,3")
    assert filtered["output"] == "pixel-3  storage\n" and "data" not in filtered and "listed" not in filtered
    assert (await commands.run("devices | wc -l", width=30))["output"] == "2\n"
    assert (await commands.run("echo a 'b  c' | cut -c 3-"))["output"] == "b  c\n"
    assert "\x1b[32monline" in (await commands.run("devices", colour=True))["output"]
    assert "\x1b" not in (await commands.run("devices | grep p", colour=True))["output"]
    assert (await commands.run("export devices"))["output"].startswith("id,")
    assert json.loads((await commands.run("export tasks -o json", format="csv"))["output"]) == []
    for width in (20, 33, 60, 100):
        for line in ("devices -w", "devices show pixel-3", "cluster config", "help tasks submit", "tasks types"):
            for each in (await commands.run(line, width=width))["output"].splitlines():
                assert text_width(each) <= width, (line, width, each)
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_mistakes_name_the_word_what_is_allowed_and_the_nearest(commands: Commands) -> None:
    for line, words in (
        ("devcies", "did you mean devices?"),
        ("tasks lits", "did you mean list?"),
        ("tasks list --staus failed", "did you mean --status?"),
        ("tasks list --status faild", "did you mean failed?"),
        ("devices show", "for example: devices show"),
        ("clear", "the terminal does that itself"),
        ("up", "`retire-cluster up` in a shell"),
        ("tasks list > x", "no redirection"),
        ("tasks list | sh", "nothing else is run"),
        ("devices list; rm", "did you mean list?"),
        ("devices list ; rm", "one command a line"),
        ("echo 'x", "not closed"),
        ("tasks list |", "a filter is missing"),
        ("tasks list | grep -E '(a'", "not closed"),
        ("devices drain x --deadline soon", "is not a duration"),
        ("a\nb", "more than one line"),
    ):
        answer = await commands.send(line)
        assert (answer.status, answer.code) == (422, "bad_field"), (line, answer.body)
        assert words in answer.json["detail"], answer.json["detail"]
        check_safe(answer.json["detail"])
    assert await commands.run("   ") == {"output": "", "exit_code": 0, "format": "table", "command": None}
    assert "drain" in (await commands.run("help devices"))["output"]
    assert "did you mean" in await commands.refused("help devises", 404)


# -- hostile text and costly patterns


@pytest_twisted.ensureDeferred
async def test_nothing_that_a_terminal_obeys_comes_out(node: Any, commands: Commands) -> None:
    device = await played(node)
    submitted = await commands.http.post("/api/v1/tasks", {"task_type": "echo", "payload": {"message": 1}, "name": "x"})
    task = await device.take()
    hostile = "".join(ESCAPES) + "\x1b[31mred"
    device.print(task, 0, hostile)
    await device.finish(task, hostile + "\x1b[1;32mgreen")
    task_id = submitted.data["task_id"]
    for form in ("table", "json", "csv", "tsv"):
        for line in ("tasks show last", "tasks result last", "tasks list", "events", "tasks logs last"):
            check_safe((await commands.run(line, format=form))["output"])
    coloured = (await commands.run(f"tasks logs {task_id}", colour=True))["output"]
    check_safe(coloured, colour=True)
    assert "\x1b[31mred" in coloured and coloured.endswith("\x1b[0m\n")
    plain = (await commands.run(f"tasks logs {task_id}"))["output"]
    assert "\x1b" not in plain and "\\x1b[2J" in plain and "red" in plain
    for escape in ESCAPES:
        for line in (f"devices show '{escape}'", f"tasks show '{escape}'", f"{escape}", f"devices list --{escape}"):
            answer = await commands.send(line)
            assert answer.status in (404, 422), (line, answer.body)
            check_safe(answer.json["detail"])
    await device.leave()


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*b", "(a*)*(a*)*(a*)*x", "([a-z]+)*[0-9]", "(.*.*.*.*.*)x", "a?" * 60 + "a" * 60]
)
@pytest_twisted.ensureDeferred
async def test_a_pattern_cannot_keep_the_main_busy(commands: Commands, pattern: str) -> None:
    word = "a" * 12_000
    # Python's own engine would need years for some of these.
    answer = await commands.send(f"echo {word}! | grep -E '{pattern}'", token=False)
    assert answer.status in (200, 422)


@pytest_twisted.ensureDeferred
async def test_others_are_answered_while_filters_work(commands: Commands) -> None:
    word = "".join(Random(1).choices("ab", k=15_000))
    hard = " | ".join(["grep -v -E '(a|b)*a" + "(a|b)" * 30 + "c'"] * 7)
    answered: list[str] = []

    async def ask(name: str, answer: Awaitable[Response]) -> int:
        status = (await answer).status
        answered.append(name)
        return status

    slow = ask("filters", commands.send(f"echo {word} | {hard}", token=False))
    quick = ask("health", commands.http.call("GET", "/health"))
    found = await gatherResults([Deferred.fromCoroutine(each) for each in (slow, quick)])
    assert answered == ["health", "filters"]
    assert found == [422, 200]  # the budget is that of the line: seven filters do not get seven


@pytest_twisted.ensureDeferred
async def test_long_output_is_cut_and_says_so(node: Any, commands: Commands) -> None:
    device = await played(node)
    await commands.http.post("/api/v1/tasks", {"task_type": "echo", "payload": {"message": 1}})
    task = await device.take()
    await device.finish(task, "x" * 50_000 + "\n" + "line\n" * 5)
    found = await commands.run("tasks logs last")
    assert len(found["output"]) <= MAX_CHARS + 200
    await device.leave()


# -- completion and the table


@pytest_twisted.ensureDeferred
async def test_completion_knows_what_exists(node: Any, http: Http, commands: Commands) -> None:
    device = await played(node)
    task_id = (await commands.run("submit --tag none -- true"))["data"]["task_id"]

    async def offered(line: str, **more: int) -> list[str]:
        query = "".join(f"&{name}={value}" for name, value in more.items())
        answer = await http.get(f"/api/v1/command/complete?line={line.replace(' ', '%20').replace('|', '%7C')}{query}")
        return [each["text"] for each in answer.data["candidates"]]

    assert await offered("dev") == ["devices"]
    assert await offered("devices dr") == ["drain"]
    assert await offered("devices drain ") == ["all", "pixel-3"]
    assert await offered("devices drain pixel-3 --de") == ["--deadline"]
    assert await offered("tasks show ") == ["last", task_id]
    assert await offered("tasks list --status fa") == ["failed"]
    assert "python_eval" in await offered("submit --type py")
    assert await offered("devices role pixel-3 st") == ["storage"]
    assert await offered("devices | gr") == ["grep"]
    assert await offered("devxx", cursor=3) == ["devices"]
    assert await offered("submit -- ls ") == []
    for line in ("%27", "%22a%20", "%00", "|||", "%F0%9F%A6%8A"):
        assert (await http.get(f"/api/v1/command/complete?line={line}")).status == 200
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_table_is_served(http: Http) -> None:
    found = (await http.get("/api/v1/commands")).data
    assert [each["name"] for each in found["commands"]] == [command.name for command in COMMANDS]
    drain = next(each for each in found["commands"] if each["name"] == "devices drain")
    assert drain["role"] == "operator" and TERMINAL in drain["doors"]
    assert {each["name"] for each in found["filters"]} == {"grep", "head", "tail", "sort", "wc", "cut"}


@given(
    line=st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                *"'\"|\\- ",
                "devices",
                "list",
                "all",
                "1-3",
                "--yes",
                "-o",
                "json",
                "grep",
                "-E",
                "(",
                "*",
                "tasks",
                "submit",
                "--",
            ]
        ),
        max_size=8,
    ).map(" ".join)
)
def test_garbage_is_refused_in_words(line: str) -> None:
    from retirecluster.domain.commands.grammar import parse
    from retirecluster.domain.errors import ClusterError

    try:
        parse(line)
    except ClusterError as error:
        assert error.code == "bad_field"
        check_safe(error.message)
