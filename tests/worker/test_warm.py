"""Warm processes in a real runner: one after another, nothing of one in the next, and replaced where it has to be."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.worker.runner_client import Report, RunnerClient, alive, gone_within, rss_kib

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
PID = "__import__('os').getpid()"


def start(runner: RunnerClient, source: str, lane: str = "a", **more: Any) -> int:
    return runner.start("python_script", {"source": source} | more.pop("payload", {}), lane=lane, **more)


def script(runner: RunnerClient, source: str, lane: str = "a", **more: Any) -> Report:
    start(runner, source, lane, **more)
    return runner.until_end()[-1]


def evaluate(runner: RunnerClient, expression: str, lane: str = "a", **more: Any) -> Report:
    return runner.run("python_eval", {"expression": expression}, lane=lane, **more)


def pid_of(runner: RunnerClient, lane: str = "a") -> int:
    return int(evaluate(runner, PID, lane)["value"])


def ends(runner: RunnerClient, numbers: list[int]) -> dict[int, Report]:
    """The `end` reports of these jobs, whatever their order."""
    found: dict[int, Report] = {}
    while not found.keys() >= set(numbers):
        report = runner.report()
        if report["e"] in ("end", "returned"):
            found[report["n"]] = report
    return found


def test_one_process_serves_many_tasks_and_each_lane_has_its_own(runner: RunnerClient) -> None:
    first = pid_of(runner)
    assert {pid_of(runner) for _ in range(20)} == {first}
    assert pid_of(runner, "b") not in (first, runner.pid)


def test_every_kind_of_task_that_may_be_warm(runner: RunnerClient) -> None:
    assert runner.run("echo", {"message": ["a"]}, lane="a")["value"] == '["a"]'
    assert runner.run("system_info", {}, lane="a")["value"]["device_id"] == "device-1"
    report = script(runner, "import sys\nprint(sys.argv[1:], input())", payload={"arguments": ["x"], "stdin": "in\n"})
    assert (report["stdout"], report["code"]) == ("['x'] in\n", 0)
    call = {"function": "math:factorial", "arguments": [5]}
    assert runner.run("python_call", call, lane="a")["value"]["repr"] == "120"
    report = runner.run("x", {"a": 1}, lane="a", entry="json:dumps")
    assert report["error"]["kind"] == "exception"  # called with a context, which json.dumps does not take
    assert evaluate(runner, "1/0")["error"]["message"].endswith("ZeroDivisionError: division by zero")


def test_a_report_has_times_and_memory(runner: RunnerClient) -> None:
    report = script(runner, "import time\nt = time.process_time()\nwhile time.process_time() < t + 0.2: pass")
    assert report["cpu"] >= 0.2 and report["wall"] >= 0.2 and report["peak"] > 1 << 20
    assert evaluate(runner, "1")["cpu"] < 0.1


def test_output_belongs_to_the_task_that_wrote_it(runner: RunnerClient) -> None:
    """Through Python, through the descriptor, and through another program; jobs are written ahead."""
    sources = [
        "print('python {0}')",
        "import os\nos.write(1, b'descriptor {0}\\n')",
        "import os\nos.system('echo shell {0}')",
        "import sys\nsys.stdout.write('no line end {0}')",
        "pass",
    ]
    numbers = [start(runner, sources[index % 5].format(index)) for index in range(60)]
    streamed: dict[int, str] = {}
    found: dict[int, Report] = {}
    while len(found) < 60:
        report = runner.report()
        if report["e"] == "output":
            streamed[report["n"]] = streamed.get(report["n"], "") + report["data"]
        elif report["e"] == "end":
            found[report["n"]] = report
    words = ["python {0}\n", "descriptor {0}\n", "shell {0}\n", "no line end {0}", ""]
    expected = {number: words[index % 5].format(index) for index, number in enumerate(numbers)}
    assert {number: report.get("stdout", "") for number, report in found.items()} == expected
    assert streamed == {number: text for number, text in expected.items() if text}
    assert [each["code"] for each in found.values()] == [0] * 60


def test_a_task_leaves_nothing_to_the_next(runner: RunnerClient) -> None:
    look = (
        "import os, sys, signal, json, io\n"
        "mask = os.umask(0); os.umask(mask)\n"
        "names = ('RETIRE_TASK_ID', 'RETIRE_EPOCH')\n"
        "print(json.dumps([os.getcwd(), sorted((k, v) for k, v in os.environ.items() if k not in names), sys.argv,\n"
        "  mask, str(signal.getsignal(10)), signal.getitimer(signal.ITIMER_REAL), os.listdir('.'), sys.path,\n"
        "  sys.getrecursionlimit(), sys.gettrace() is None, str(signal.pthread_sigmask(signal.SIG_BLOCK, [])),\n"
        "  type(sys.stdout).__name__, sys.stdin.read(), sorted(set(globals()) - {'os','sys','signal','json','io'}),\n"
        "  str(print), sys.modules['__main__'].__dict__ is globals()]))\n"
    )
    before = script(runner, look)["stdout"]
    mess = (
        "import os, sys, signal, io, builtins\n"
        "os.makedirs('deep/er'); open('deep/er/file', 'w').write('x'); open('file', 'w').write('y')\n"
        "os.chdir('/'); os.environ['LEFT'] = 'over'; del os.environ['PATH']; os.environ['HOME'] = '/'\n"
        "sys.argv.append('more'); os.umask(0o777); signal.signal(10, lambda *a: None)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1000); sys.path.insert(0, '/nowhere'); sys.setrecursionlimit(500)\n"
        "sys.settrace(lambda *a: None); signal.pthread_sigmask(signal.SIG_BLOCK, [10]); left = 'over'\n"
        "builtins.print = None; os.close(0); sys.stdin.close()\n"
        "sys.stdout = io.StringIO(); sys.stdout.write('nowhere'); sys.stderr = io.StringIO()\n"
    )
    pid = pid_of(runner)
    report = script(runner, mess, payload={"stdin": "for me alone", "environment": {"X": "y"}}, env={"X": "y"})
    assert report["code"] == 0 and "stdout" not in report
    assert script(runner, look)["stdout"] == before
    assert pid_of(runner) == pid


@pytest.mark.parametrize(
    "break_it",
    [
        "os.close(1)",
        "os.dup2(os.open('/dev/null', os.O_WRONLY), 1)",
        "sys.stdout.close()",
        "sys.stdout.detach()",
        "sys.stdout.buffer.close()",
        "sys.stdout.reconfigure(encoding='utf-16')",
        "sys.stdout = sys.__stdout__ = None",
        "del sys.stdout",
        "del os.environ",
        "os.environ = {}",
        "sys.argv = None",
        "sys.path = []",
        "import shutil; shutil.rmtree(os.getcwd())",
        "os.chmod('.', 0)",
        "os.nice(1)",
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10))",
        "sys.modules.pop('__main__')",
        "os.mkdir('locked'); open('locked/x', 'w'); os.chmod('locked', 0)",
        "[open(str(n), 'w').close() for n in range(2000)]",
        "sys.setrecursionlimit(60)",
        "import gc; gc.disable()",
        "import threading; threading.Thread(target=__import__('time').sleep, args=(100,), daemon=True).start()",
        "os.fork() or __import__('time').sleep(100)",
        "os.close(4) if os.path.exists('/proc/self/fd/4') else None",
    ],
)
def test_what_a_task_breaks_is_whole_for_the_next(runner: RunnerClient, break_it: str) -> None:
    script(runner, f"import os, sys\n{break_it}\n")
    report = script(
        runner, "import os, sys\nprint('fine', sys.argv, os.environ['HOME'] == os.getcwd(), os.listdir('.'))"
    )
    assert (report.get("stdout"), report["code"]) == ("fine ['script.py'] True []\n", 0)


def test_a_process_is_replaced_when_its_task_leaves_a_thread_that_prints_later(runner: RunnerClient) -> None:
    pid = pid_of(runner)
    late = (
        "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late')), daemon=True).start()"
    )
    assert "stdout" not in script(runner, late)
    reports = [script(runner, "import time; time.sleep(0.05); print('next')") for _ in range(5)]
    assert [each["stdout"] for each in reports] == ["next\n"] * 5
    assert pid_of(runner) != pid and gone_within([pid], 5)


def test_threads_that_are_not_daemons_are_waited_for(runner: RunnerClient) -> None:
    waiting = "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('end'))).start()"
    assert script(runner, waiting)["stdout"] == "end\n"
    assert script(runner, "print('next')")["stdout"] == "next\n"


def test_children_that_a_task_leaves_are_gone(runner: RunnerClient) -> None:
    leave = (
        "import os, subprocess\n"
        "print(subprocess.Popen(['sleep', '100']).pid)\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        import time; os.write(1, b'%d\\n' % os.getpid()); time.sleep(100)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "import time; time.sleep(0.2)\n"
    )
    pid = pid_of(runner)
    left = [int(word) for word in script(runner, leave)["stdout"].split()]
    assert len(left) == 2
    assert pid_of(runner) != pid
    assert gone_within([pid, *left], 5)


def test_a_double_fork_without_a_session_is_noticed(runner: RunnerClient) -> None:
    leave = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.write(1, b'%d\\n' % os.getpid()); time.sleep(100)\n"
        "    os._exit(0)\n"
        "os.wait(); time.sleep(0.2)\n"
    )
    pid = pid_of(runner)
    left = [int(word) for word in script(runner, leave)["stdout"].split()]
    assert pid_of(runner) != pid and gone_within(left, 5)


def test_a_copy_that_a_task_forks_does_not_go_on_as_a_warm_process(runner: RunnerClient) -> None:
    report = evaluate(runner, "(lambda p: p and __import__('os').waitpid(p, 0)[1])(__import__('os').fork())")
    assert report["value"] == "0"
    assert evaluate(runner, "'one'")["value"] == "one"


def test_leaving_by_force_is_the_end_of_that_task_alone(runner: RunnerClient) -> None:
    numbers = [start(runner, f"import os\nprint({index})\nif {index} == 3: os._exit(5)") for index in range(8)]
    found = ends(runner, numbers)
    assert [found[number]["code"] for number in numbers] == [0, 0, 0, 5, 0, 0, 0, 0]
    assert [found[number].get("stdout") for number in numbers] == [f"{n}\n" if n != 3 else "3\n" for n in range(8)]


def test_a_crash_is_the_end_of_that_task_alone(runner: RunnerClient) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    numbers = [start(runner, crash if index == 2 else f"print({index})") for index in range(6)]
    found = ends(runner, numbers)
    assert found[numbers[2]]["signal"] == signal.SIGSEGV
    assert [found[number].get("stdout") for number in numbers] == ["0\n", "1\n", None, "3\n", "4\n", "5\n"]


def test_leaving_a_script_is_no_end_of_the_process(runner: RunnerClient) -> None:
    pid = pid_of(runner)
    assert script(runner, "import sys; sys.exit(3)")["code"] == 3
    assert evaluate(runner, "exit()")["error"]["kind"] == "exception"
    assert pid_of(runner) == pid


def test_a_timeout_costs_its_task_alone(runner: RunnerClient) -> None:
    pid = pid_of(runner)
    first = start(runner, "while True: pass", timeout=0.3)
    others = [start(runner, f"print({index})", timeout=5) for index in range(5)]
    found = ends(runner, [first, *others])
    assert found[first]["timed_out"] and found[first]["signal"] == signal.SIGTERM
    assert [found[number]["stdout"] for number in others] == [f"{index}\n" for index in range(5)]
    assert pid_of(runner) != pid and gone_within([pid], 5)


def test_a_task_that_survives_sigterm_is_followed_by_a_new_process(runner: RunnerClient) -> None:
    source = "import signal, time\nsignal.signal(15, lambda *a: print('bye', flush=True))\ntime.sleep(0.6)"
    first = start(runner, source, timeout=0.3)
    second = runner.start("python_eval", {"expression": PID}, lane="a")
    found = ends(runner, [first, second])
    assert found[first]["timed_out"] and found[first]["stdout"] == "bye\n"
    assert found[second]["code"] == 0 and alive(int(found[second]["value"]))


def test_cancelling(runner: RunnerClient) -> None:
    numbers = [start(runner, "import time; time.sleep(0.3)" if not index else f"print({index})") for index in range(4)]
    runner.order({"do": "cancel", "n": numbers[2], "grace": 1})
    found = ends(runner, numbers)
    assert found[numbers[2]]["cancelled"] and "stdout" not in found[numbers[2]]
    assert [found[number].get("stdout") for number in numbers] == [None, "1\n", None, "3\n"]
    number = start(runner, "import time; time.sleep(100)")
    after = start(runner, "print('after')")
    while runner.report()["e"] != "started":
        pass
    runner.order({"do": "cancel", "n": number, "grace": 0.0})
    found = ends(runner, [number, after])
    assert found[number]["cancelled"] and found[number]["signal"] == signal.SIGKILL
    assert found[after]["stdout"] == "after\n"
    runner.order({"do": "cancel", "n": 12345})


def test_what_has_not_begun_comes_back_when_asked_for(runner: RunnerClient) -> None:
    numbers = [start(runner, "import time; time.sleep(0.4)" if not index else f"print({index})") for index in range(6)]
    while runner.report()["e"] != "started":
        pass
    runner.order({"do": "recall", "lane": "a"})
    found = ends(runner, numbers)
    assert [found[number]["e"] for number in numbers] == ["end"] + ["returned"] * 5
    runner.order({"do": "recall", "lane": "nobody's"})
    assert evaluate(runner, "1")["value"] == "1"


def test_it_is_replaced_after_so_many_tasks(runner: RunnerClient) -> None:
    numbers = [runner.start("python_eval", {"expression": PID}, lane="a", tasks=4) for _ in range(12)]
    pids = [ends_each["value"] for _, ends_each in sorted(ends(runner, numbers).items())]
    assert len(set(pids)) == 3 and all(pids[index] == pids[index - index % 4] for index in range(12))


def test_long_jobs_and_long_values(runner: RunnerClient) -> None:
    text = "é" * 200_000
    numbers = [runner.start("echo", {"message": [text[: 100_000 * (index % 3)]]}, lane="a") for index in range(9)]
    numbers += [runner.start("python_eval", {"expression": "'x' * 500000"}, lane="a")]
    found = ends(runner, numbers)
    assert [found[number]["code"] for number in numbers] == [0] * 10
    assert found[numbers[-1]]["truncated"] and len(found[numbers[-1]]["value"]) == 96 * 1024
    report = runner.run("python_call", {"function": "builtins:bytes", "arguments": [590_000]}, lane="a")
    assert len(report["value"]["pickle"]) > 780_000
    assert found[numbers[0]]["value"] == '[""]' and found[numbers[1]]["value"].endswith('ééé"]')


def test_it_reports_progress(runner: RunnerClient) -> None:
    told = []
    source = "import os, time\nos.write(int(os.environ['RETIRE_PROGRESS_FD']), b'40 half\\n')\ntime.sleep(0.3)"
    start(runner, source)
    start(runner, 'import os\nos.write(3, b\'{"percent": 7}\\n{"percent": \')')
    start(runner, "import os\nos.write(3, b'50}\\n')")
    for _ in range(3):
        while (report := runner.report())["e"] != "end":
            if report["e"] == "progress":
                told.append((report["n"], report["percent"], report["message"]))
    assert told == [(1, 40.0, "half"), (2, 7, "")]


def test_lines_of_ours_on_the_side_are_no_reports(runner: RunnerClient) -> None:
    source = 'import os\nos.write(3, b\'{"e": "end", "n": 2, "code": 0, "value": "forged"}\\n\')\nprint(\'real\')'
    first, second = start(runner, source), start(runner, "print('mine')")
    found = ends(runner, [first, second])
    assert found[second]["stdout"] == "mine\n" and "value" not in found[second]
    assert found[first]["n"] == first and found[first]["stdout"] == "real\n"


def test_a_task_that_writes_to_the_socket_loses_its_process_and_nothing_else(runner: RunnerClient) -> None:
    source = (
        "import os, stat\n"
        "for name in os.listdir('/proc/self/fd'):\n"
        "    fd = int(name)\n"
        "    try:\n"
        '        if stat.S_ISSOCK(os.fstat(fd).st_mode): os.write(fd, b\'.{"n": 99, "code": 0}\\n\')\n'
        "    except OSError: pass\n"
        "import time; time.sleep(5)\n"
    )
    first, second = start(runner, source), start(runner, "print('mine')")
    found = ends(runner, [first, second])
    assert found[first]["signal"] == signal.SIGKILL
    assert found[second]["stdout"] == "mine\n"


def test_a_limit_is_for_each_task(runner: RunnerClient) -> None:
    burn = "import time\nt = time.process_time()\nwhile time.process_time() < t + 0.7: pass\nprint('done')"
    asked = {"cpu_time_s": 1}
    reports = [script(runner, burn, limits=asked) for _ in range(4)]
    assert [each.get("stdout") for each in reports] == ["done\n"] * 4
    report = script(runner, burn.replace("0.7", "20"), limits=asked)
    assert report["limit"]["name"] == "cpu_time_s"


def test_the_limits_of_its_process(runner: RunnerClient) -> None:
    asked = {"memory_bytes": 256 << 20}
    report = script(runner, "x = 'x' * (1 << 29)", lane="small", limits=asked)
    assert report["code"] == 1 or report.get("limit")
    assert script(runner, "print('next')", lane="small", limits=asked)["stdout"] == "next\n"


def test_printing_for_ever_neither_hangs_nor_fills_the_runner(runner: RunnerClient) -> None:
    report = script(runner, "while True: print('x' * 1000)", timeout=1.0)
    assert report["timed_out"] and report["truncated"]
    assert script(runner, "print('next')")["stdout"] == "next\n"
    assert rss_kib(runner.pid) < 40 * 1024


def test_the_runners_end_is_theirs(tmp_path: Path) -> None:
    runner = RunnerClient(tmp_path / "scratch")
    pids = [pid_of(runner, lane) for lane in ("a", "b")]
    start(runner, "import time; time.sleep(100)")
    os.kill(runner.pid, signal.SIGKILL)
    assert gone_within(pids, 5)
    runner.close()


def test_memory_is_flat_over_many_tasks(runner: RunnerClient) -> None:
    def many(count: int) -> None:
        numbers = [runner.start("python_eval", {"expression": "1"}, lane="a") for _ in range(count)]
        ends(runner, numbers)

    many(500)
    before = rss_kib(pid_of(runner)), rss_kib(runner.pid)
    for _ in range(20):
        many(500)
    assert rss_kib(pid_of(runner)) < before[0] + 1024 and rss_kib(runner.pid) < before[1] + 1024
