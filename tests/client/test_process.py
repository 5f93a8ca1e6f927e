"""The command as a process: signals, pipes, colours, and how long --help takes to import."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

COMMAND = [
    sys.executable,
    "-W",
    "error",
    "-c",
    "import sys; from retirecluster.client.cli import main; sys.exit(main())",
]


def environ(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RETIRE_CLUSTER_")}
    return kept | {"XDG_DATA_HOME": "/nonexistent"} | more


def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, timeout=60, env=environ(**more), check=False
    )


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_help_needs_neither_twisted_nor_treq() -> None:
    code = (
        "import sys; from retirecluster.client.cli import build_parser; build_parser().format_help(); "
        "print([name for name in ('twisted', 'treq', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_the_commands() -> None:
    done = run("--help")
    assert done.returncode == 0
    for word in ("submit", "tasks", "devices", "cluster", "up", "demo", "init", "exit codes"):
        assert word in done.stdout
    assert run().stdout == done.stdout


def test_errors_are_one_line_on_stderr() -> None:
    done = run("tasks", "list", "--server", "127.0.0.1:1")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("retire-cluster: error: cannot reach the main node at http://127.0.0.1:1")
    assert done.stderr.count("\n") == 1
    assert run("version").stdout.startswith("retire-cluster ")


def test_a_mistake_of_ours_is_exit_code_70_and_no_failed_task() -> None:
    code = (
        "import sys; from retirecluster.client import cli; cli.parse = lambda words: words.nothing; "
        "sys.exit(cli.main(['version']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 70 and "Traceback" in done.stderr and "mistake in this program" in done.stderr


def test_a_folder_that_cannot_be_made_is_an_error_of_one_line() -> None:
    done = run("up", "--data-dir", "/proc/nowhere", "--workers", "0")
    assert done.returncode == 2 and "Traceback" not in done.stderr and "/proc/nowhere" in done.stderr


def test_ctrl_c_is_exit_code_130_without_a_traceback(silent_server: str) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [*COMMAND, "tasks", "list", "--server", silent_server],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ(),
        )
        time.sleep(1.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (code, "", "")


def test_a_closed_pipe_is_no_news() -> None:
    process = subprocess.Popen(
        [*COMMAND, "submit", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ()
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=20) in (0, 141)


def on_a_terminal(*words: str, **more: str) -> str:
    """What a command writes where standard output is a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL, env=environ(COLUMNS="80", **more)
    )
    os.close(theirs)
    text = b""
    while select.select([ours], [], [], 20)[0]:
        try:
            data = os.read(ours, 65536)
        except OSError:
            break
        text += data
    os.close(ours)
    process.wait(timeout=20)
    return text.decode()


@pytest.fixture
def small_server() -> Iterator[str]:
    """A process that answers every request with one device."""
    code = (
        "import http.server, json\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        body = json.dumps({'data': {'devices': [{'device_id': 'phone', 'status': 'online'}]}}).encode()\n"
        "        self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
        "        self.end_headers(); self.wfile.write(body)\n"
        "    def log_message(self, *a): pass\n"
        "s = http.server.HTTPServer(('127.0.0.1', 0), H); print(s.server_port, flush=True); s.serve_forever()\n"
    )
    process: Any = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.kill()
    process.communicate()


def test_colours_and_rules_are_for_terminals_that_want_them(small_server: str) -> None:
    words = ("devices", "list", "--server", small_server)
    coloured = on_a_terminal(*words, TERM="xterm")
    assert "\x1b[32monline" in coloured and "───" in coloured
    assert "\x1b" not in on_a_terminal(*words, TERM="xterm", NO_COLOR="1")
    assert "\x1b" not in on_a_terminal(*words, TERM="dumb")
    piped = run(*words).stdout
    assert "\x1b" not in piped and "─" not in piped and "phone" in piped


def test_watching_redraws_on_a_terminal_and_stops_at_ctrl_c(small_server: str) -> None:
    process = subprocess.Popen(
        [*COMMAND, "devices", "list", "--watch", "100ms", "--server", small_server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ(),
    )
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert out.count("phone") >= 2
