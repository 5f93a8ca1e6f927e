"""Completion in real shells, with a real main behind it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shutil
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SERVER = (
    "import http.server, json\n"
    "DEVICES = [{'device_id': each} for each in ('phone', 'pi 1', 'pi-2')]\n"
    "class H(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        found = {'devices': DEVICES} if 'devices' in self.path else {'tasks': [{'task_id': 'task-1'}]}\n"
    "        body = json.dumps({'data': found}).encode()\n"
    "        self.send_response(200); self.send_header('Content-Length', str(len(body)))\n"
    "        self.end_headers(); self.wfile.write(body)\n"
    "    def log_message(self, *a): pass\n"
    "s = http.server.HTTPServer(('127.0.0.1', 0), H); print(s.server_port, flush=True); s.serve_forever()\n"
)


@pytest.fixture
def shell_environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with `retire-cluster` in the path and a main that it finds."""
    program = tmp_path / "retire-cluster"
    code = "import sys; from retirecluster.client.cli import main; sys.exit(main())"
    program.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    server: Any = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    yield {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "TERM": "dumb",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "RETIRE_CLUSTER_SERVER": f"http://127.0.0.1:{server.stdout.readline().strip()}",
        "RETIRE_CLUSTER_DATA_DIR": str(tmp_path),
    }
    server.kill()
    server.communicate()


def asked(environ: dict[str, str], line: str) -> list[str]:
    """What the program offers for a line."""
    done = subprocess.run(
        ["retire-cluster", "complete", "--", line], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    return [each.split("\t")[0] for each in done.stdout.splitlines()]


def test_what_the_program_offers(shell_environ: dict[str, str]) -> None:
    assert asked(shell_environ, "retire-cluster devi") == ["devices"]
    assert asked(shell_environ, "/usr/bin/retire-cluster devices show p") == ["phone", "'pi 1'", "pi-2"]
    assert asked(shell_environ, "retire-cluster tasks show ") == ["last", "task-1"]
    assert asked(shell_environ, "retire-cluster --server 127.0.0.1:1 devices show ") == []
    assert asked(shell_environ, "retire-cluster up --data-dir ") == ["<files>"]
    assert asked(shell_environ, "retire-cluster completion ") == ["bash", "zsh", "fish"]
    assert asked(shell_environ, "retire-cluster") == asked(shell_environ, "retire-cluster ")
    for line in ("", "retire-cluster 'x", "retire-cluster | \\", "retire-cluster --server"):
        asked(shell_environ, line)


def script(environ: dict[str, str], shell: str, folder: Path) -> Path:
    done = subprocess.run(
        ["retire-cluster", "completion", shell], env=environ, capture_output=True, timeout=60, check=True
    )
    path = folder / f"completion.{shell}"
    path.write_bytes(done.stdout)
    return path


class Terminal:
    """A shell on a terminal of its own: keys go in, what it draws comes out."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environ, cwd=environ["HOME"], start_new_session=True
        )
        os.close(slave)
        self.drawn = ""

    def type(self, keys: str, until: str) -> str:
        """What is drawn from here on until that text is there."""
        self.drawn = ""
        os.write(self.master, keys.encode())
        end_s = time.monotonic() + 60
        while until not in self.drawn:
            assert time.monotonic() < end_s, self.drawn
            if select.select([self.master], [], [], 1)[0]:
                self.drawn += os.read(self.master, 65536).decode("utf-8", "replace")
        return self.drawn

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def needs(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed here; its script is tested where it is")
    return found


@pytest.mark.integration
def test_bash_completes_with_tab(shell_environ: dict[str, str], tmp_path: Path) -> None:
    bash = needs("bash")
    path = script(shell_environ, "bash", tmp_path)
    terminal = Terminal([bash, "--norc", "--noprofile", "-i"], shell_environ)
    try:
        terminal.type(f"PS1='ready> '; source {path}; echo so''urced\n", "sourced")
        terminal.type("retire-cluster devi\t", "retire-cluster devices ")
        terminal.type("dr\tph\t", "drain phone ")
        terminal.type("--format=j\t", "--format=json ")
        terminal.type("--dead\t", "--deadline ")
        terminal.type("\x15retire-cluster tasks list --status fa\t", "--status failed ")
        drawn = terminal.type("\x15retire-cluster tasks sh\tla\t", "tasks show last ")
        assert "Traceback" not in drawn
        terminal.type("\x15retire-cluster backup --output comp\t", "completion.bash ")
    finally:
        terminal.close()


@pytest.mark.integration
def test_zsh_completes_with_tab(shell_environ: dict[str, str], tmp_path: Path) -> None:
    zsh = needs("zsh")
    path = script(shell_environ, "zsh", tmp_path)
    terminal = Terminal([zsh, "-f", "-i"], shell_environ)
    try:
        terminal.type(f"autoload -U compinit; compinit -u; source {path}; echo so''urced\n", "sourced")
        terminal.type("retire-cluster devi\t", "devices ")
        terminal.type("dr\tph\t", "phone ")
        terminal.type("--dead\t", "--deadline ")
        terminal.type("\x15retire-cluster tasks list --status fa\t", "failed ")
        drawn = terminal.type("\x15retire-cluster tasks sh\tla\t", "last ")
        assert "Traceback" not in drawn
        terminal.type("\x15retire-cluster backup --output comp\t", "completion.zsh")
    finally:
        terminal.close()


@pytest.mark.integration
def test_fish_completes(shell_environ: dict[str, str], tmp_path: Path) -> None:
    fish = needs("fish")
    path = script(shell_environ, "fish", tmp_path)
    code = f"source {path}; complete -C 'retire-cluster devices drain ph'"
    done = subprocess.run([fish, "-c", code], env=shell_environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("phone")


@pytest.mark.parametrize("shell", ["bash"])
def test_scripts_have_no_mistake_of_syntax(shell_environ: dict[str, str], tmp_path: Path, shell: str) -> None:
    subprocess.run([needs(shell), "-n", str(script(shell_environ, shell, tmp_path))], check=True, timeout=60)
