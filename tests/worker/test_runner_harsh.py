"""Tasks that misbehave, in a real runner: none of them may hang it, outlive its end, or fill its memory."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from tests.worker.runner_client import RunnerClient, gone_within, rss_kib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")


def pids_in(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdigit()]


def output_until(runner: RunnerClient, lines: int = 1) -> str:
    """What a task has printed, once it has printed so many lines."""
    text = ""
    while text.count("\n") < lines:
        report = runner.report()
        assert report["e"] != "end", report
        text += report.get("data", "")
    return text


def test_a_busy_loop_ends_at_its_timeout(runner: RunnerClient) -> None:
    begin = time.monotonic()
    report = runner.script("while True: pass", timeout=0.3)
    assert report["timed_out"] and report["signal"] == signal.SIGTERM
    assert 0.25 < time.monotonic() - begin < 2.0


def test_a_task_that_ignores_sigterm_is_killed_after_the_grace(runner: RunnerClient) -> None:
    source = "import signal\nsignal.signal(15, signal.SIG_IGN)\nprint('deaf', flush=True)\nwhile True: signal.pause()"
    number = runner.start("python_script", {"source": source})
    output_until(runner)
    begin = time.monotonic()
    runner.order({"do": "cancel", "n": number, "grace": 0.3})
    report = runner.until_end()[-1]
    assert report["cancelled"] and report["signal"] == signal.SIGKILL
    assert 0.25 < time.monotonic() - begin < 2.0


def test_a_stopped_task_is_killed_too(runner: RunnerClient) -> None:
    report = runner.script("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", timeout=0.2)
    assert report["timed_out"]


def test_a_task_that_cleans_up_at_sigterm_is_heard(runner: RunnerClient) -> None:
    source = (
        "import signal, sys\n"
        "signal.signal(15, lambda *a: (print('bye', flush=True), sys.exit(9)))\n"
        "while True: signal.pause()"
    )
    report = runner.script(source, timeout=0.3)
    assert (report["stdout"], report["code"], report["timed_out"]) == ("bye\n", 9, True)


DAEMON = """
import os, sys, time
if os.fork() == 0:
    {setsid}
    if os.fork() == 0:
        import signal
        signal.signal(15, signal.SIG_IGN)
        print(os.getpid(), flush=True)
        time.sleep(100)
    os._exit(0)
os.wait()
{rest}
"""


@pytest.mark.parametrize("setsid", ["os.setsid()", "pass"])
def test_a_double_fork_that_holds_the_pipes_hangs_nothing_and_does_not_live_on(
    runner: RunnerClient, setsid: str
) -> None:
    begin = time.monotonic()
    report = runner.script(DAEMON.format(setsid=setsid, rest="time.sleep(0.2)"))
    assert report["code"] == 0
    assert time.monotonic() - begin < 5.0
    pids = pids_in(report["stdout"])
    assert len(pids) == 1 and gone_within(pids, 1.0)


def test_a_double_fork_dies_with_its_task_at_the_timeout(runner: RunnerClient) -> None:
    report = runner.script(DAEMON.format(setsid="os.setsid()", rest="time.sleep(100)"), timeout=0.5)
    assert report["timed_out"] and gone_within(pids_in(report["stdout"]), 1.0)


def test_the_daemon_of_one_task_does_not_take_another_task_with_it(runner: RunnerClient) -> None:
    other = runner.start("sleep", {"seconds": 0.8})
    runner.script(DAEMON.format(setsid="os.setsid()", rest=""))
    report = runner.until_end(other)[-1]
    assert report["code"] == 0


def test_background_processes_of_a_shell_die_with_it(runner: RunnerClient) -> None:
    report = runner.run("command", {"argv": "sleep 100 & echo $!", "shell": True})
    assert report["code"] == 0
    assert gone_within(pids_in(report["stdout"]), 1.0)


def test_closing_its_output_does_not_end_a_task(runner: RunnerClient) -> None:
    report = runner.script("import os, time\nfor fd in (0, 1, 2, 3): os.close(fd)\ntime.sleep(0.3)\nos._exit(5)")
    assert report["code"] == 5 and report["wall"] >= 0.3


def test_a_fork_inside_a_task_reports_once(runner: RunnerClient) -> None:
    report = runner.script(
        "import os\nprint('a', flush=True)\nos.fork()\nprint('b', flush=True)\nimport time; time.sleep(0.2)"
    )
    assert report["code"] == 0
    assert sorted(report["stdout"].split()) == ["a", "b", "b"]
    assert runner.run("python_eval", {"expression": "__import__('os').fork() and 'parent'"})["value"] == "parent"


def test_printing_what_looks_like_the_protocol_is_only_output(runner: RunnerClient) -> None:
    line = '{"e":"end","n":1,"code":0,"value":"forged"}'
    report = runner.script(f"import sys\nprint({line!r})\nsys.stdout.flush()\nsys.exit(6)")
    assert (report["stdout"], report["code"]) == (line + "\n", 6)
    assert "value" not in report


def test_a_flood_on_the_side_channel_is_bounded(runner: RunnerClient) -> None:
    source = (
        "import os\n"
        "for _ in range(64): os.write(3, b'x' * 65536)\n"
        "for _ in range(20000): os.write(3, b'{\"percent\":1}\\n')"
    )
    runner.start("python_script", {"source": source})
    reports = runner.until_end()
    assert reports[-1]["code"] == 0 and len(reports) < 50
    assert rss_kib(runner.pid) < 24 * 1024


def test_output_for_ever_leaves_the_memory_flat_even_when_nobody_reads(runner: RunnerClient) -> None:
    number = runner.start("command", {"argv": ["yes", "so it goes on and on"]})
    time.sleep(0.5)
    first = rss_kib(runner.pid)
    time.sleep(1.0)  # nothing is read here: the runner has to hold the task back
    second = rss_kib(runner.pid)
    assert second - first < 512 and second < 20 * 1024
    streamed = 0
    while streamed < 7 * 1024 * 1024:
        streamed += len(runner.report().get("data", ""))
    time.sleep(0.3)  # and goes on, beyond what is streamed
    runner.order({"do": "cancel", "n": number, "grace": 0})
    reports = runner.until_end()
    streamed += sum(len(each.get("data", "")) for each in reports)
    assert streamed <= 9 * 1024 * 1024
    assert reports[-1]["truncated"] and len(reports[-1]["stdout"]) <= 96 * 1024
    assert rss_kib(runner.pid) < 24 * 1024


def test_a_flood_does_not_starve_the_others(runner: RunnerClient) -> None:
    flood = runner.start("command", {"argv": ["yes"]})
    begin = time.monotonic()
    quick = runner.start("python_eval", {"expression": "1 + 1"})
    assert runner.until_end(quick)[-1]["value"] == "2"
    assert time.monotonic() - begin < 5.0
    runner.order({"do": "cancel", "n": flood, "grace": 0})
    runner.until_end(flood)


def test_a_long_value_keeps_its_end(runner: RunnerClient) -> None:
    report = runner.run("python_eval", {"expression": "'a' * 1000000 + 'z'"})
    assert report["truncated"] and report["value"].endswith("az") and len(report["value"]) == 96 * 1024


def test_tasks_die_with_the_channel(runner: RunnerClient) -> None:
    source = (
        "import os, time, signal\n"
        "signal.signal(15, signal.SIG_IGN)\n"
        "os.fork()\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(100)"
    )
    runner.start("python_script", {"source": source})
    pids = pids_in(output_until(runner, 2))
    assert runner.process.stdin is not None
    runner.process.stdin.close()
    assert gone_within([*pids, runner.pid], 1.0)


def test_signals_do_not_end_the_runner(runner: RunnerClient) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(runner.pid, number)
    assert runner.run("python_eval", {"expression": "1"})["value"] == "1"


def test_a_missing_fork_is_an_error_for_that_task_alone(runner: RunnerClient) -> None:
    """A task that eats all processes it may have: the others go on."""
    report = runner.run("command", {"argv": ["sh", "-c", "ulimit -u 1 2>/dev/null; sleep 0.1 & wait; exit 0"]})
    assert report["e"] == "end"
    assert runner.run("echo", {"message": "still here"})["value"] == "still here"
