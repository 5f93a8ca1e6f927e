"""Joining a cluster with this device, and leaving it: `worker.json`, and what starts the worker with the device."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, frozen

from retirecluster.client.console import Console
from retirecluster.client.start_files import (
    FOREGROUND,
    SYSTEM,
    TERMUX,
    USER,
    StartFile,
    is_ours,
    worker_command,
    worker_file,
)
from retirecluster.client.twistd import twistd
from retirecluster.config import WORKER, default_data_dir
from retirecluster.domain.errors import ERRORS, ClusterError

SYSTEM_FOLDER = "/var/lib/retirecluster/worker"
CONFIG, RECORD, HOME = "worker.json", "joined.json", "cluster.json"
PROBE_WITHIN_S = 60.0


@frozen
class Plan:
    """What `join` is about to do. `settings` are those that the command line names."""

    folder: Path
    kind: str
    settings: Mapping[str, Any]
    force: bool = False

    @property
    def config(self) -> Path:
        return self.folder / CONFIG


def default_folder(kind: str) -> Path:
    """Where a worker that is started so keeps its files."""
    return Path(SYSTEM_FOLDER if kind == SYSTEM else default_data_dir("worker"))


@define(eq=False)
class Joining:
    """One run of `join` or `leave`. Everything is shown before it is written; a `dry` run writes and starts nothing."""

    console: Console
    environ: Mapping[str, str]
    dry: bool = False

    # Joining

    def join(self, plan: Plan) -> int:
        """Check, write, start; gives the exit code."""
        document = self._document(plan)
        start = None if plan.kind == FOREGROUND else self._start_file(plan)
        text = json.dumps(document, indent=2) + "\n"
        self._check_reach(document)
        self._show(plan.config, text)
        if start is not None:
            self._show(start.path, start.text)
        if self.dry:
            commands = [worker_command(plan.config)] if start is None else [list(each) for each in start.start]
            self.console.lines([f"would run: {' '.join(each)}" for each in commands])
            return 0
        self._write_folder(plan, text, start)
        if start is None:
            return self._run_here(plan)
        self._start(start)
        return 0

    def _document(self, plan: Plan) -> dict[str, Any]:
        """The settings as they will stand in the file: those that are there already stay, unless named anew."""
        before: dict[str, Any] = {}
        if plan.config.exists():
            before = _read_object(plan.config)
        other = before.get("join")
        if other not in (None, plan.settings["join"]) and not self._is_as_written(plan.folder) and not plan.force:
            words = f"{plan.config} joins {other} and was not written by this command; --force replaces that"
            raise ClusterError("conflict", words)
        document = before | dict(plan.settings) | {"data_dir": str(plan.folder)}
        problems = WORKER.problems(document)
        if problems:
            raise ClusterError("bad_config", str(problems[0]), field=problems[0].path)
        return document

    def _start_file(self, plan: Plan) -> StartFile:
        account = self.environ.get("SUDO_USER", "") if plan.kind == SYSTEM else ""
        found = worker_file(plan.kind, plan.config, self.environ, account)
        if found.path.exists() and not is_ours(found.path) and not plan.force:
            words = f"{found.path} exists and was not written by retire-cluster join; --force overwrites it"
            raise ClusterError("conflict", words)
        if plan.kind in (SYSTEM, USER) and not self.dry and shutil.which("systemctl") is None:
            words = "--systemd: there is no systemctl here; leave it out, or use --foreground. Nothing was written"
            raise ClusterError("bad_config", words)
        return found

    def _check_reach(self, document: Mapping[str, Any]) -> None:
        """Ask the worker's own `--test`. Raises ClusterError unreachable."""
        options = ["--join", document["join"], "--data-dir", document["data_dir"], "--test"]
        with tempfile.TemporaryDirectory() as folder:
            log = f"--logfile={folder}/log"
            command = [*twistd(), "-n", "--pidfile=", log, "retire-worker", *options]
            if self.dry:
                return self.console.line(f"would run: {' '.join(command)}")
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_WITHIN_S, check=False)
            except subprocess.TimeoutExpired:
                raise ClusterError("unreachable", f"no answer from {document['join']}") from None
        if done.returncode:
            why = (done.stderr.strip() or "no answer").removeprefix("retire-worker: ")
            codes = [each.code for each in ERRORS.values() if each.exit_code == done.returncode]
            code = "unreachable" if "unreachable" in codes or not codes else codes[0]
            raise ClusterError(code, f"{why}; nothing was written")
        self.console.lines(done.stdout.strip().splitlines())

    def _show(self, path: Path, text: str) -> None:
        self.console.lines([f"--- {path}", *text.splitlines(), ""])

    def _write_folder(self, plan: Plan, text: str, start: StartFile | None) -> None:
        plan.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(plan.config, text, 0o600)
        record = {"config_sha256": _digest(text), "kind": plan.kind, "file": None if start is None else str(start.path)}
        _write(plan.folder / RECORD, json.dumps(record) + "\n", 0o600)
        account = self.environ.get("SUDO_USER")
        if plan.kind == SYSTEM and account:
            for path in (plan.folder, plan.config, plan.folder / RECORD):
                shutil.chown(path, account)
        if start is not None:
            start.path.parent.mkdir(parents=True, exist_ok=True)
            _write(start.path, start.text, 0o700 if plan.kind == TERMUX else 0o644)

    def _run_here(self, plan: Plan) -> int:
        command = worker_command(plan.config)
        self.console.lines([f"running until Ctrl+C: {' '.join(command)}"])
        self.console.err.flush()
        os.execvp(command[0], command)

    def _start(self, start: StartFile) -> None:
        if start.kind == TERMUX:
            # In the background, as Termux:Boot would.
            subprocess.Popen(start.start[0], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        else:
            for command in start.start:
                self._run(command)
        self.console.line(f"joined; {start.path} starts the worker with this device")
        if start.kind == USER:
            self.console.note("It runs while you are logged in. To have it run always: loginctl enable-linger")
        elif start.kind == SYSTEM and not self.environ.get("SUDO_USER"):
            self.console.note("It runs as root: its tasks get users of their own where that can be.")
        elif start.kind == TERMUX:
            self.console.note(
                "Install the Termux:Boot app and open it once; switch battery optimisation off for Termux."
            )

    def _run(self, command: Sequence[str]) -> None:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise ClusterError("bad_config", f"{command[0]}: {error.strerror}") from None
        if done.returncode:
            words = f"{' '.join(command)} failed with status {done.returncode}: {done.stderr.strip()[:500]}"
            raise ClusterError("bad_config", words)

    # Leaving

    def leave(self, folder: Path) -> int:
        """Undo what `join` wrote there, as far as nobody has changed it since; gives the exit code."""
        record_path = folder / RECORD
        if not record_path.exists():
            raise ClusterError("not_found", f"nothing to undo: {record_path} is missing; name the folder by --data-dir")
        record = _read_object(record_path)
        if record.get("file"):
            self._remove_start(folder, record)
        if self._is_as_written(folder):
            self._remove(folder / CONFIG)
        elif (folder / CONFIG).exists():
            self.console.line(f"kept: {folder / CONFIG}, which was changed since")
        for name in (HOME, RECORD):
            self._remove(folder / name)
        self.console.line(f"kept: the rest of {folder}, with the journal and the device's id; remove it if you like")
        return 0

    def _remove_start(self, folder: Path, record: Mapping[str, Any]) -> None:
        path, kind = Path(record["file"]), record.get("kind")
        if path.exists() and not is_ours(path):
            return self.console.line(f"kept: {path}, which is not as this command wrote it")
        if kind == TERMUX:
            self._stop_termux(folder)
        elif kind in (SYSTEM, USER):
            for command in worker_file(str(kind), folder / CONFIG, self.environ).stop if path.exists() else ():
                self.console.line(f"{'would run' if self.dry else 'run'}: {' '.join(command)}")
                if not self.dry:
                    self._run(command)
        self._remove(path)

    def _stop_termux(self, folder: Path) -> None:
        """End the worker that the boot script started, if it is that."""
        try:
            pid = int((folder / "worker.pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return
        if b"retire-worker" in words and os.fsencode(folder / CONFIG) in words:
            self.console.line(f"{'would stop' if self.dry else 'stop'}: process {pid}")
            if not self.dry:
                os.kill(pid, signal.SIGTERM)

    def _remove(self, path: Path) -> None:
        if path.exists():
            self.console.line(f"{'would remove' if self.dry else 'removed'}: {path}")
            if not self.dry:
                path.unlink()

    @staticmethod
    def _is_as_written(folder: Path) -> bool:
        """Whether worker.json is as `join` wrote it."""
        try:
            record = _read_object(folder / RECORD)
            return bool(record.get("config_sha256") == _digest((folder / CONFIG).read_text("utf-8")))
        except (OSError, ClusterError):
            return False


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ClusterError("bad_config", f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ClusterError("bad_config", f"{path} must hold a JSON object such as {{}}")
    return found


def _write(path: Path, text: str, mode: int) -> None:
    """Replace a file: whole, or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        os.chmod(new, mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
