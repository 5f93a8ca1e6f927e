"""The command line against a fake main: what it prints, where, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from retirecluster.render.cells import text_width
from tests.client.fake_main import FakeMain

PHONE = {
    "device_id": "phone",
    "status": "online",
    "role": "mobile",
    "platform": "android",
    "cpu_usage": 25.5,
    "memory_usage": 40.0,
    "running": 1,
    "slots": 2,
    "uptime_s": 90.0,
    "tags": ["battery", "usb"],
    "reason": "",
    "metrics": {"temperature": 31.5, "load_average": [0.1, 0.2, 0.3], "battery": {"level": 80, "charging": True}},
}


@ensureDeferred
async def test_submit_prints_the_id_and_sends_what_the_options_say(retire_cluster: Any, fake: FakeMain) -> None:
    line = (
        "submit --name x --priority high --timeout 2m --retries 1 --min-cpu-cores 2 --min-memory-gb 0.5 "
        "--platform linux --role nas --tag a --tag b --device phone --label team=kitchen --label n=1 "
        "--delivery at_most_once --on-disconnect stop --deadline 1h --key k1 -- ls -l --color=auto -- x"
    )
    ran = await retire_cluster(*shlex.split(line))
    assert (ran.code, ran.out, ran.err) == (0, "task-0001\n", "")
    assert json.loads(fake.requests[-1][3]) == {
        "task_type": "command",
        "payload": {"argv": ["ls", "-l", "--color=auto", "--", "x"]},
        "name": "x",
        "priority": "high",
        "timeout": 120.0,
        "max_retries": 1,
        "labels": {"team": "kitchen", "n": "1"},
        "delivery": "at_most_once",
        "on_disconnect": "stop",
        "deadline_s": 3600.0,
        "idempotency_key": "k1",
        "requirements": {
            "min_cpu_cores": 2.0,
            "min_memory_gb": 0.5,
            "platform": "linux",
            "role": "nas",
            "tags": ["a", "b"],
            "device": "phone",
        },
    }


@ensureDeferred
async def test_submit_takes_types_files_and_lines(
    retire_cluster: Any, fake: FakeMain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await retire_cluster("submit", "--type", "echo", "--payload", '{"message": 1}')).code == 0
    assert fake.tasks["task-0001"]["submitted"] == {"task_type": "echo", "payload": {"message": 1}}
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"task_type": "echo", "name": "own"}, {"task_type": "echo"}]))
    ran = await retire_cluster("submit", "--file", str(path), "--name", "given", "-o", "json")
    assert [each["task_id"] for each in json.loads(ran.out)] == ["task-0002", "task-0003"]
    assert [fake.tasks[f"task-000{n}"]["name"] for n in (2, 3)] == ["own", "given"]
    path.write_text(json.dumps([{"task_type": "echo"}, {"task_type": "sleep", "payload": {}}]))
    ran = await retire_cluster("submit", "--file", str(path))
    assert ran.code == 2 and ran.err.startswith("[1].payload.duration_s") and len(fake.tasks) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO('{"task_type": "echo"}\n\n{"task_type": "system_info"}\n'))
    assert (await retire_cluster("submit", "-")).out == "task-0004\ntask-0005\n"


@pytest.mark.parametrize(
    "words",
    [
        ["submit"],
        ["submit", "--type", "echo", "--", "ls"],
        ["submit", "--"],
        ["submit", "uname"],
        ["submit", "uname", "-a"],
        ["submit", "--type", "echo", "--payload", "[1]"],
        ["submit", "--type", "echo", "--payload", "{"],
        ["submit", "--type", "echo", "--payload", "@/does/not/exist"],
        ["submit", "--payload", "{}", "--file", "x"],
        ["submit", "--file", "/does/not/exist"],
        ["submit", "--retries", "many", "--", "ls"],
        ["submit", "--timeout", "soon", "--", "ls"],
        ["submit", "--priority", "top", "--", "ls"],
        ["submit", "--label", "x", "--", "ls"],
        ["tasks", "list", "--", "ls"],
        ["tasks", "list", "--format", "yaml"],
        ["tasks", "lits"],
        ["nonsense"],
        ["tasks", "show"],
        ["tasks", "list", "--server", "ftp://x"],
        ["tasks", "list", "--server", "nas:port"],
        ["tasks", "list", "--token", "two words"],
    ],
)
@ensureDeferred
async def test_wrong_usage_is_exit_code_2_and_one_line(retire_cluster: Any, fake: FakeMain, words: list[str]) -> None:
    ran = await retire_cluster(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err and "\n" not in ran.err
    assert not fake.tasks


@ensureDeferred
async def test_mistakes_name_the_nearest_thing_that_exists(retire_cluster: Any) -> None:
    assert "did you mean tasks?" in (await retire_cluster("tsks")).err
    assert "did you mean drain?" in (await retire_cluster("devices", "drian", "x")).err
    assert "did you mean --format?" in (await retire_cluster("tasks", "list", "--fromat", "csv")).err
    assert "submit -- uname -a" in (await retire_cluster("submit", "uname", "x")).err.replace("uname x", "uname -a")


@ensureDeferred
async def test_waiting_prints_the_output_and_exits_as_the_task_did(retire_cluster: Any, fake: FakeMain) -> None:
    outcomes = [
        ({"output": "hello\n"}, 0, "hello\n"),
        ({"output": "no newline"}, 0, "no newline\n"),
        ({"status": "failed", "output": "x\n", "stderr": "oh\n", "exit_code": 3}, 3, "x\n"),
        ({"status": "failed", "exit_code": None, "error": {"kind": "refused", "message": "no"}}, 1, ""),
        ({"status": "failed", "exit_code": -9, "error": {"kind": "timeout", "message": "timeout"}}, 6, ""),
        ({"status": "cancelled"}, 1, ""),
        ({"status": "expired"}, 6, ""),
    ]
    for outcome, code, out in outcomes:
        payload = json.dumps({"message": {"outcome": outcome}})
        ran = await retire_cluster("submit", "--wait", "--type", "echo", "--payload", payload)
        assert (ran.code, ran.out) == (code, out), outcome
        assert bool(ran.err) == (code != 0)


@ensureDeferred
async def test_output_that_came_while_it_ran_is_not_printed_twice(retire_cluster: Any, fake: FakeMain) -> None:
    task = fake.add({"payload": {"message": {"outcome": {"output": "one\ntwo\nthree\n", "stderr": "warn\n"}}}})
    pieces = [("stdout", "one\n"), ("stderr", "warn\n"), ("stdout", "two\n")]
    task["chunks"] = [{"seq": n, "stream": stream, "data": data} for n, (stream, data) in enumerate(pieces)]
    fake.ends_after_gets = 3
    ran = await retire_cluster("tasks", "logs", "-f", task["task_id"])
    assert (ran.code, ran.out, ran.err) == (0, "one\ntwo\nthree\n", "warn\n")
    assert (await retire_cluster("task", "logs", "last")).out == "one\ntwo\nthree\n"


@ensureDeferred
async def test_waiting_for_many_counts_them(retire_cluster: Any, fake: FakeMain, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    failing = {"task_type": "echo", "payload": {"message": {"outcome": {"status": "failed"}}}}
    path.write_text(json.dumps([{"task_type": "echo"}, failing, {"task_type": "echo"}]))
    ran = await retire_cluster("submit", "--wait", "--file", str(path))
    assert (ran.code, ran.out) == (1, "2 completed, 1 failed\n")


@ensureDeferred
async def test_lists_come_in_every_format(retire_cluster: Any, fake: FakeMain) -> None:
    fake.add({"task_type": "echo", "name": 'a "b", c\td\\ \x1b[31m'})
    fake.add({"task_type": "sleep", "name": "日本"})
    ran = await retire_cluster("tasks", "ls", "--format", "json")
    assert [each["task_id"] for each in json.loads(ran.out)] == ["task-0002", "task-0001"]
    rows = list(csv.DictReader(io.StringIO((await retire_cluster("tasks", "list", "-o", "csv")).out)))
    assert [row["name"] for row in rows] == ["日本", 'a "b", c\td\\ \x1b[31m']
    header, *lines = (await retire_cluster("tasks", "list", "-o", "tsv")).out.splitlines()
    assert header.split("\t")[0] == "id" and lines[1].split("\t")[1] == 'a "b", c\\td\\\\ \x1b[31m'
    table = (await retire_cluster("tasks", "list")).out
    assert "\x1b" not in table and "\\x1b[31m" in table
    for width in (5, 20, 40, 80):
        ran = await retire_cluster("tasks", "list", width=width)
        assert max(text_width(line) for line in ran.out.splitlines()) <= width


@ensureDeferred
async def test_an_empty_list_is_a_note_and_not_output(retire_cluster: Any) -> None:
    ran = await retire_cluster("tasks")
    assert (ran.code, ran.out) == (0, "") and "retire-cluster submit" in ran.err
    ran = await retire_cluster("tasks", "list", "-o", "csv")
    assert len(ran.out.splitlines()) == 1


@ensureDeferred
async def test_the_limit_is_said_when_it_cuts(retire_cluster: Any, fake: FakeMain) -> None:
    for _ in range(7):
        fake.add({})
    ran = await retire_cluster("tasks", "list", "--limit", "5")
    assert len(ran.out.splitlines()) == 6 and "--limit 0" in ran.err
    assert len((await retire_cluster("tasks", "list", "--limit", "0")).out.splitlines()) == 8


@ensureDeferred
async def test_tasks_are_chosen_by_id_prefix_last_and_all(retire_cluster: Any, fake: FakeMain) -> None:
    fake.ends_after_gets = 1000
    for _ in range(12):
        fake.add({})
    for selector, task_id in (("task-0003", "task-0003"), ("last", "task-0012"), ("0007", "task-0007")):
        ran = await retire_cluster("tasks", "show", selector)
        assert ran.code == 0 and task_id in ran.out
    ran = await retire_cluster("tasks", "show", "task-001")
    assert ran.code == 5 and "task-0012" in ran.err and "task-0010" in ran.err
    assert (await retire_cluster("tasks", "show", "zzz")).code == 5
    assert (await retire_cluster("tasks", "show", "all")).code == 5
    ran = await retire_cluster("tasks", "cancel", "task-0001", "last")
    assert ran.out == "task-0001 cancelled\ntask-0012 cancelled\n"
    assert (await retire_cluster("tasks", "cancel", "all")).code == 5
    ran = await retire_cluster("tasks", "cancel", "all", "--yes")
    assert len(ran.out.splitlines()) == 10
    ran = await retire_cluster("tasks", "cancel", "all", "--yes")
    assert (ran.code, ran.out) == (0, "")


@ensureDeferred
async def test_acting_on_tasks(retire_cluster: Any, fake: FakeMain) -> None:
    fake.ends_after_gets = 1000
    fake.add({})
    for action, status in (("hold", "held"), ("release", "queued"), ("cancel", "cancelled"), ("retry", "queued")):
        assert (await retire_cluster("tasks", action, "last")).out == f"task-0001 {status}\n"
    assert json.loads((await retire_cluster("tasks", "hold", "last", "-o", "json")).out)["status"] == "held"


PLACEMENT = {
    "epoch": 1,
    "strategy": "fastest_finish",
    "weights": {"speed": 1, "heat": 1},
    "candidates": [
        {"device_id": "phone", "score": 2.1, "factors": {"speed": 2.2, "heat": 0.9}},
        {"device_id": "pi", "score": 0.5, "factors": {"speed": 0.5, "heat": 1.0}},
    ],
    "others": 0,
    "why": "phone was ahead of pi by speed (2.2 against 0.5)",
    "waited_s": 0.0,
}
"""As the main shows it."""


@ensureDeferred
async def test_show_result_why_wait_and_types(retire_cluster: Any, fake: FakeMain) -> None:
    fake.add({"name": "mine"})
    ran = await retire_cluster("tasks", "why", "last")
    assert "no device fits" in ran.out and "role is mobile, not nas" in ran.out and "Add a device" in ran.out
    assert json.loads((await retire_cluster("tasks", "why", "last", "-o", "json")).out)["hint"]
    ran = await retire_cluster("tasks", "wait", "last")
    assert ran.code == 0 and "completed" in ran.out
    ran = await retire_cluster("tasks", "show", "last")
    assert "attempt 1  on phone, completed" in ran.out and "time       2s" in ran.out
    fake.tasks["task-0001"]["placement"] = PLACEMENT
    lines = (await retire_cluster("tasks", "show", "last")).out.splitlines()
    assert lines[-4] == "placed by fastest_finish: phone was ahead of pi by speed (2.2 against 0.5)"
    assert [line.split() for line in lines[-3:]] == [
        ["DEVICE", "SCORE", "FACTORS"],
        ["phone", "2.1", "speed", "2.2,", "heat", "0.9"],
        ["pi", "0.5", "speed", "0.5"],
    ]
    ran = await retire_cluster("tasks", "result", "last")
    assert "exit code       0" in ran.out
    assert "echo" in (await retire_cluster("tasks", "types")).out
    assert (await retire_cluster("tasks", "wait", "all")).code == 0


@ensureDeferred
async def test_devices(retire_cluster: Any, fake: FakeMain) -> None:
    assert "retire-worker --join" in (await retire_cluster("devices")).err
    fake.devices = [PHONE, PHONE | {"device_id": "pi", "status": "offline", "cpu_usage": None, "metrics": None}]
    header, phone, pi = (await retire_cluster("devices", "list")).out.splitlines()
    assert header.split() == ["ID", "STATUS", "ROLE", "CPU", "MEM", "TASKS", "UPTIME", "REASON"]
    assert phone.split() == ["phone", "online", "mobile", "26%", "40%", "1/2", "1m30s", "-"]
    assert pi.split()[3] == "-"
    assert "battery, usb" in (await retire_cluster("devices", "ls", "--wide")).out
    rows = list(csv.DictReader(io.StringIO((await retire_cluster("device", "list", "-o", "csv")).out)))
    assert (rows[0]["cpu"], rows[0]["tags"], rows[1]["cpu"]) == ("25.5", "battery usb", "")
    assert "load average  0.10, 0.20, 0.30" in (await retire_cluster("devices", "show", "ph")).out
    assert (await retire_cluster("devices", "drain", "phone", "pi")).out == "phone  drained\npi  drained\n"
    assert (await retire_cluster("devices", "ping", "phone")).out == "phone  answered in 1.2 ms\n"
    assert (await retire_cluster("devices", "role", "phone", "nas")).out == "phone  role nas\n"
    assert json.loads(fake.requests[-1][3]) == {"role": "nas"}
    assert (await retire_cluster("devices", "show", "p")).code == 5
    ran = await retire_cluster("devices", "show", "toaster")
    assert ran.code == 5 and "phone, pi" in ran.err
    assert (await retire_cluster("devices", "remove", "pi")).code == 5
    assert (await retire_cluster("devices", "rm", "pi", "-y")).out == "pi  removed\n"
    assert [each["device_id"] for each in fake.devices] == ["phone"]


@ensureDeferred
async def test_the_cluster(retire_cluster: Any) -> None:
    ran = await retire_cluster("cluster", "status")
    assert "uptime   1m1s" in ran.out and "1 online, 1 offline" in ran.out
    assert (await retire_cluster("cluster", "health")).code == 0
    assert json.loads((await retire_cluster("cluster", "-o", "json")).out)["state"] == "running"
    rows = list(csv.DictReader(io.StringIO((await retire_cluster("cluster", "config", "-o", "csv")).out)))
    assert rows[0]["state"] == "running"


@ensureDeferred
async def test_tokens_are_found_and_missed(retire_cluster: Any, fake: FakeMain, tmp_path: Path) -> None:
    ran = await retire_cluster("submit", "--", "ls", token=None)
    assert ran.code == 3 and "--data-dir" in ran.err
    (tmp_path / "admin.token").write_text("secret-token\n")
    assert (await retire_cluster("submit", "--", "ls", token=None)).code == 0
    assert (await retire_cluster("submit", "--token", "wrong", "--", "ls")).code == 3
    path = tmp_path / "other"
    assert (await retire_cluster("submit", "--token-file", str(path), "--", "ls")).code == 2
    path.write_text("secret-token")
    assert (await retire_cluster("submit", "--token-file", str(path), "--", "ls", token=None)).code == 0


@ensureDeferred
async def test_options_may_stand_before_the_command(retire_cluster: Any, fake: FakeMain) -> None:
    fake.add({})
    assert json.loads((await retire_cluster("--format", "json", "tasks", "list")).out)
    assert json.loads((await retire_cluster("tasks", "--format", "json", "list")).out)
    assert (await retire_cluster("--server", "127.0.0.1:1", "tasks")).code == 4


@ensureDeferred
async def test_init_writes_the_defaults_once(retire_cluster: Any, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "config.json"
    assert (await retire_cluster("init", "main", "--path", str(path))).code == 0
    assert json.loads(path.read_text())["web_port"] == 5000
    path.write_text("{}")
    assert (await retire_cluster("init", "main", "--path", str(path))).code == 5
    assert path.read_text() == "{}"
    assert (await retire_cluster("init", "worker", "--path", str(path), "--force")).code == 0
    assert "join" in json.loads(path.read_text())
