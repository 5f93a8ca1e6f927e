"""What the built-in task types do, in a real runner."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.worker.runner_client import RunnerClient, rss_kib


def test_echo_gives_text_back_as_it_is_and_the_rest_as_json(runner: RunnerClient) -> None:
    assert runner.run("echo", {"message": "grüß dich"})["value"] == "grüß dich"
    assert json.loads(runner.run("echo", {"message": [1, {"a": None}]})["value"]) == [1, {"a": None}]
    assert runner.run("echo", {})["value"] == ""


def test_sleep_reports_progress(runner: RunnerClient) -> None:
    runner.start("sleep", {"seconds": 0.1})
    reports = runner.until_end()
    assert [each["percent"] for each in reports if each["e"] == "progress"] == [100.0]
    assert reports[-1]["value"] == "slept 0.1 s"


def test_system_info_tells_what_it_can(runner: RunnerClient) -> None:
    facts = runner.run("system_info", {})["value"]
    assert facts["device_id"] == "device-1"
    assert facts["python_version"].startswith("3.")
    assert facts["memory_total"] > 0


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("sum(range(100000))", "4999950000"),
        ("'text'", "text"),
        ("['a', 1]", "['a', 1]"),
        (" x * y ", "42"),
        ("__import__('math').floor(2.5)", "2"),
        ("'\\ud800'", "\\ud800"),
    ],
)
def test_python_eval_gives_text_as_it_is_and_the_repr_of_the_rest(
    runner: RunnerClient, expression: str, value: str
) -> None:
    report = runner.run("python_eval", {"expression": expression, "environment": {"x": 6, "y": 7}})
    assert (report["value"], report["code"]) == (value, 0)


def test_an_exception_in_an_expression_is_told_with_its_last_lines(runner: RunnerClient) -> None:
    error = runner.run("python_eval", {"expression": "1/0"})["error"]
    assert (error["kind"], error["retryable"]) == ("exception", True)
    assert error["message"].endswith("ZeroDivisionError: division by zero")
    assert "retirecluster" not in error["message"]


def test_a_syntax_error_is_not_worth_another_attempt(runner: RunnerClient) -> None:
    assert runner.run("python_eval", {"expression": "1 +"})["error"]["retryable"] is False
    report = runner.script("def (")
    assert report["error"]["retryable"] is False
    assert "SyntaxError" in report["stderr"]


def test_a_script_runs_as_main_with_arguments_and_input(runner: RunnerClient) -> None:
    source = (
        "import sys, os\n"
        "assert __name__ == '__main__' and sys.modules['__main__'].x is x if 'x' in dir() else True\n"
        "print(sys.argv[1:], sys.stdin.read(), os.environ['COLOUR'])\n"
        "os.system('echo from the shell')\n"
        "exit(3)\n"
    )
    report = runner.script(source, payload={"arguments": ["a b", "ü"], "stdin": "zwölf\n"}, env={"COLOUR": "rot"})
    assert report["stdout"] == "['a b', 'ü'] zwölf\n rot\nfrom the shell\n"
    assert report["code"] == 3


def test_an_exception_in_a_script_shows_a_traceback_with_its_lines(runner: RunnerClient) -> None:
    report = runner.script("def f():\n    raise ValueError('no')\nf()\n")
    assert report["code"] == 1
    assert "    raise ValueError('no')" in report["stderr"]
    assert report["stderr"].endswith("ValueError: no\n")
    assert "runner" not in report["stderr"]


def test_leaving_a_script_with_a_message(runner: RunnerClient) -> None:
    report = runner.script("import sys; sys.exit('that is all')")
    assert (report["code"], report["stderr"]) == (1, "that is all\n")


def test_threads_and_exit_handlers_of_a_script_are_waited_for(runner: RunnerClient) -> None:
    source = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'handler')\n"
        "threading.Thread(target=lambda: (time.sleep(0.2), print('thread'))).start()\n"
    )
    assert runner.script(source)["stdout"] == "thread\nhandler\n"


def test_a_task_sees_its_own_environment_and_nothing_of_the_worker(runner: RunnerClient) -> None:
    report = runner.script("import os, json; print(json.dumps([dict(os.environ), os.getcwd(), os.listdir('.')]))")
    environment, folder, files = json.loads(report["stdout"])
    assert environment["HOME"] == environment["TMPDIR"] == environment["RETIRE_SCRATCH"] == folder
    assert environment["RETIRE_EPOCH"] == "7"
    assert environment["RETIRE_DEVICE_ID"] == "device-1"
    assert files == []
    known = {"PATH", "LANG", "HOME", "TMPDIR"}
    assert {name for name in environment if name not in known and not name.startswith("RETIRE_")} <= {"LC_CTYPE"}


def test_a_task_has_no_other_files_open(runner: RunnerClient) -> None:
    runner.start("sleep", {"seconds": 1})
    report = runner.script("import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])")
    assert report["stdout"] == "[0, 1, 2, 3]\n"
    runner.until_end(1)


def test_limits_hold(runner: RunnerClient) -> None:
    source = (
        "import resource as r\n"
        "print([r.getrlimit(x)[0] for x in (r.RLIMIT_CORE, r.RLIMIT_NOFILE, r.RLIMIT_FSIZE, r.RLIMIT_AS)])"
    )
    asked = {"memory_bytes": 1 << 30, "open_files": 64, "file_size_bytes": 4096}
    assert runner.script(source, limits=asked)["stdout"] == f"[0, 64, 4096, {1 << 30}]\n"
    assert runner.script("x = 'x' * (1 << 31)", limits=asked)["stderr"].endswith("MemoryError\n")


def test_a_command_runs_a_program(runner: RunnerClient) -> None:
    report = runner.run("command", {"argv": ["sh", "-c", "cat; echo $0 >&2; exit 4"], "stdin": "in"})
    assert (report["stdout"], report["stderr"], report["code"]) == ("in", "sh\n", 4)
    assert runner.run("command", {"command": "printf '%s-' 'a b' c"})["stdout"] == "a b-c-"
    assert runner.run("command", {"argv": "echo $HOME; echo two", "shell": True})["stdout"].endswith("two\n")


def test_a_program_that_is_not_there_is_not_worth_another_attempt(runner: RunnerClient) -> None:
    error = runner.run("command", {"argv": ["no-such-program-anywhere"]})["error"]
    assert (error["kind"], error["retryable"]) == ("exec", False)
    assert "no-such-program-anywhere" in error["message"]
    assert runner.run("command", {"command": "echo 'open"})["error"]["kind"] == "payload"


def test_a_script_reports_progress_through_its_descriptor(runner: RunnerClient) -> None:
    source = (
        "import os, json, time\n"
        "fd = int(os.environ['RETIRE_PROGRESS_FD'])\n"
        'os.write(fd, b\'{"percent": 40, "message": "so far"}\\n\')\n'
        "time.sleep(0.3)\n"
        "os.write(fd, b'not json\\n[1]\\n{\"percent\": 400}\\n')\n"
    )
    runner.start("python_script", {"source": source})
    told = [(each["percent"], each["message"]) for each in runner.until_end() if each["e"] == "progress"]
    assert told == [(40, "so far"), (None, "")]


def test_a_task_type_of_another_package(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "my_tasks.py").write_text(
        "def double(payload, context):\n"
        "    context.report_progress(50, 'half')\n"
        "    return {'doubled': payload['number'] * 2, 'task': context.task_id, 'epoch': context.epoch}\n"
        "def odd(payload, context):\n"
        "    return {1, 2}\n"
    )
    client = RunnerClient(tmp_path / "scratch", str(tmp_path / "pack"))
    try:
        report = client.run("double", {"number": 21}, entry="my_tasks:double")
        assert report["value"] == {"doubled": 42, "task": "task-1", "epoch": 7}
        error = client.run("odd", {}, entry="my_tasks:odd")["error"]
        assert (error["kind"], error["retryable"]) == ("result", False)
        assert client.run("gone", {}, entry="no_module:run")["error"]["kind"] == "exception"
    finally:
        client.close()


def test_usage_is_reported(runner: RunnerClient) -> None:
    report = runner.script(
        "x = bytearray(50 << 20)\nimport time\nt = time.process_time()\nwhile time.process_time() < t + 0.2: pass"
    )
    assert report["peak"] > 50 << 20
    assert report["cpu"] >= 0.2
    assert report["wall"] >= 0.2


def test_scratch_folders_do_not_leak_between_tasks(runner: RunnerClient) -> None:
    runner.script("import os; os.makedirs('a/b'); open('a/b/file', 'w').write('secret'); os.chmod('a', 0)")
    for _ in range(3):
        assert runner.script("import os; print(os.listdir('.'))")["stdout"] == "[]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_runner_is_small(runner: RunnerClient) -> None:
    for _ in range(20):
        runner.run("python_eval", {"expression": "1"})
    assert rss_kib(runner.pid) < 15 * 1024
