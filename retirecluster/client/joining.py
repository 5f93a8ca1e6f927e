"""Joining a cluster with this device: `worker.json`, what starts the worker with the device, and its first start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve, frozen

from retirecluster.client.console import Console
from retirecluster.client.join_record import CONFIG, HOME, RECORD, JoinRecord, digest, read_object, write_file
from retirecluster.client.local_worker import LocalWorker, until
from retirecluster.client.start_files import (
    FOREGROUND,
    SYSTEM,
    TERMUX,
    USER,
    StartFile,
    run,
    worker_command,
    worker_file,
)
from retirecluster.client.twistd import twistd
from retirecluster.config import WORKER, default_data_dir
from retirecluster.domain.errors import ERRORS, ClusterError
from retirecluster.domain.join_string import is_join_string, read_join_string

SYSTEM_FOLDER = "/var/lib/retirecluster/worker"
AUTO = "auto"
PROBE_WITHIN_S, REGISTERED_WITHIN_S = 60.0, 90.0
ANSWERED = re.compile(r"^main ([A-Za-z0-9][A-Za-z0-9._-]{0,63}) at (\S+) answers:", re.MULTILINE)
"""What the worker's `--test` prints of the main that it has found."""
JOINED = re.compile(r"^joined as ([A-Za-z0-9][A-Za-z0-9._:-]{0,127}) at (\S+?)(;|$)", re.MULTILINE)
"""What it prints when a join string has let this device in."""


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


def default_folders() -> list[Path]:
    """Where `join` without `--data-dir` may have put a worker's files on this device."""
    return list(dict.fromkeys(default_folder(kind) for kind in (SYSTEM, USER)))


@define(eq=False)
class Joining:
    """One run of `join`. Everything is shown before it is written; a `dry` run writes and starts nothing."""

    console: Console
    environ: Mapping[str, str]
    dry: bool = False
    within_s: float = REGISTERED_WITHIN_S

    def join(self, plan: Plan) -> int:
        """Check, write, start; gives the exit code."""
        earlier = JoinRecord.load(plan.folder)
        before = read_object(plan.config) if plan.config.exists() else {}
        if is_join_string(plan.settings["join"]):
            plan = self._let_in(plan, before, earlier)
        document = self._document(plan, before, earlier)
        start = None if plan.kind == FOREGROUND else self._start_file(plan, earlier)
        text = json.dumps(document, indent=2) + "\n"
        home = self._check_reach(document)
        self._show(plan.config, text)
        if start is not None:
            self._show(start.path, start.text)
        if self.dry:
            commands = [worker_command(plan.config)] if start is None else [list(each) for each in start.start]
            self.console.lines([f"would run: {' '.join(each)}" for each in commands])
            return 0
        # What is as the owner wrote it stays the owner's, also where this join says the same.
        new = {name: value for name, value in document.items() if name not in before or before[name] != value}
        record = _record(plan.kind, start, earlier, earlier.still_set(document) | new)
        self._write_folder(plan, {CONFIG: text, RECORD: record.text()} | home)
        if start is None:
            return self._run_here(plan)
        start.path.parent.mkdir(parents=True, exist_ok=True)
        write_file(start.path, start.text, 0o700 if plan.kind == TERMUX else 0o644)
        self._start(start, plan.folder)
        return 0

    def _let_in(self, plan: Plan, before: Mapping[str, Any], earlier: JoinRecord) -> Plan:
        """Use up the join string: this device has its key then, and the plan an address. Raises ClusterError."""
        text = plan.settings["join"]
        found = read_join_string(text)
        document = self._document(_at(plan, found.hosts[0], found.port), before, earlier)
        if plan.kind != FOREGROUND:
            self._start_file(plan, earlier)  # what is in the way is better found before the string is used up
        options = ["--data-dir", str(plan.folder), "--test"]
        if document.get("device_id"):
            options += ["--device-id", document["device_id"]]
        if self.dry:
            self.console.line(f"would join by the join string at {', '.join(found.hosts)}, port {found.port}")
            return _at(plan, found.hosts[0], found.port)
        # By a variable: what is on a command line, everybody on this machine can read.
        done = self._ask_worker(options, {"RETIRE_CLUSTER_JOIN": text})
        joined = JOINED.search(done.stdout)
        if done.returncode or joined is None:
            raise _probe_failed(done)
        self.console.lines(done.stdout.strip().splitlines())
        self._hand_over(plan)
        settings = {**plan.settings, "join": joined[2]}
        if document.get("device_id"):
            settings["device_id"] = joined[1]
        return evolve(plan, settings=settings)

    def _hand_over(self, plan: Plan) -> None:
        """Give the keys to whom the worker will run as."""
        account = self.environ.get("SUDO_USER")
        if plan.kind == SYSTEM and account:
            keys = plan.folder / "tls"
            for path in (plan.folder, plan.folder / "device_id", keys, *keys.iterdir()):
                shutil.chown(path, account)

    @staticmethod
    def _document(plan: Plan, before: Mapping[str, Any], earlier: JoinRecord) -> dict[str, Any]:
        """The settings as they will stand in the file: those that are there already stay, unless named anew."""
        other = before.get("join")
        if other not in (None, plan.settings["join"], earlier.settings.get("join")) and not plan.force:
            words = f"{plan.config} joins {other} and was not written by this command; --force replaces that"
            raise ClusterError("conflict", words)
        document = dict(before) | dict(plan.settings) | {"data_dir": str(plan.folder)}
        problems = WORKER.problems(document)
        if problems:
            raise ClusterError("bad_config", str(problems[0]), field=problems[0].path)
        return document

    def _start_file(self, plan: Plan, earlier: JoinRecord) -> StartFile:
        account = self.environ.get("SUDO_USER", "") if plan.kind == SYSTEM else ""
        found = worker_file(plan.kind, plan.config, self.environ, account)
        if earlier.file not in (None, found.path) and earlier.wrote(earlier.file):
            words = f"{earlier.file} starts a worker on {plan.folder} already; first: retire-cluster leave"
            raise ClusterError("conflict", words)
        if found.path.exists() and not earlier.wrote(found.path) and not plan.force:
            words = f"{found.path} exists and is not as retire-cluster join wrote it for {plan.folder}"
            raise ClusterError("conflict", f"{words}; --force overwrites it")
        if plan.kind in (SYSTEM, USER) and not self.dry and shutil.which("systemctl") is None:
            words = "--systemd: there is no systemctl here; leave it out, or use --foreground. Nothing was written"
            raise ClusterError("bad_config", words)
        return found

    def _check_reach(self, document: Mapping[str, Any]) -> dict[str, str]:
        """Ask the worker's own `--test`. Gives the file that keeps the worker to the main that was found, where the
        owner names none. Raises ClusterError unreachable."""
        options = ["--join", document["join"], "--data-dir", document["data_dir"], "--test"]
        if self.dry:
            command = [*twistd(), "-n", "--pidfile=", "retire-worker", *options]
            self.console.line(f"would run: {' '.join(command)}")
            return {}
        done = self._ask_worker(options, {})
        if done.returncode:
            raise _probe_failed(done)
        self.console.lines(done.stdout.strip().splitlines())
        found = ANSWERED.search(done.stdout)
        if document["join"] != AUTO or found is None:
            return {}
        return {HOME: json.dumps({"cluster_id": found[1], "address": found[2]}) + "\n"}

    def _ask_worker(self, options: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run the worker's `--test`. Raises ClusterError unreachable."""
        with tempfile.TemporaryDirectory() as folder:
            command = [*twistd(), "-n", "--pidfile=", f"--logfile={folder}/log", "retire-worker", *options]
            within_s, environ = PROBE_WITHIN_S, {**os.environ, **variables}
            try:
                return subprocess.run(
                    command, capture_output=True, text=True, timeout=within_s, check=False, env=environ
                )
            except subprocess.TimeoutExpired:
                raise ClusterError("unreachable", f"no answer from the main within {within_s:g} s") from None

    def _show(self, path: Path, text: str) -> None:
        self.console.lines([f"--- {path}", *text.splitlines(), ""])

    def _write_folder(self, plan: Plan, texts: Mapping[str, str]) -> None:
        plan.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, text in texts.items():
            write_file(plan.folder / name, text, 0o600)
        account = self.environ.get("SUDO_USER")
        if plan.kind == SYSTEM and account:
            for path in (plan.folder, *(plan.folder / name for name in texts)):
                shutil.chown(path, account)

    def _run_here(self, plan: Plan) -> int:
        command = worker_command(plan.config)
        self.console.lines([f"running until Ctrl+C: {' '.join(command)}"])
        self.console.err.flush()
        os.execvp(command[0], command)

    def _start(self, start: StartFile, folder: Path) -> None:
        """Start the worker, instead of one that runs already, and wait until the main has let it in."""
        worker = LocalWorker(folder)
        if start.kind == TERMUX and not worker.end():
            words = f"a worker still runs on {folder}, process {worker.pid or '(not known)'}: end it, and join again"
            raise ClusterError("conflict", f"{words}. It has the settings of before; the new ones are written")
        before = worker.registration
        ended = _in_background(start) if start.kind == TERMUX else _by_commands(start)
        self.console.note("waiting until the main lets the worker in")
        until(lambda: worker.registration != before or ended(), self.within_s)
        if worker.registration == before:
            what = "ended at once" if ended() else f"was not let in within {self.within_s:g} s and goes on trying"
            words = f"the worker was started and {what}; see {start.log}. To undo this: retire-cluster leave"
            raise ClusterError("unreachable", words)
        self.console.line(f"joined; {start.path} starts the worker with this device")
        self._hint(start)

    def _hint(self, start: StartFile) -> None:
        if start.kind == USER:
            self.console.note("It runs while you are logged in. To have it run always: loginctl enable-linger")
        elif start.kind == SYSTEM and not self.environ.get("SUDO_USER"):
            self.console.note("It runs as root: its tasks get users of their own where that can be.")
        elif start.kind == TERMUX:
            self.console.note(
                "Install the Termux:Boot app and open it once; switch battery optimisation off for Termux."
            )


def _at(plan: Plan, host: str, port: int) -> Plan:
    """The plan with an address in place of a join string."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return evolve(plan, settings={**plan.settings, "join": where})


def _record(kind: str, start: StartFile | None, earlier: JoinRecord, settings: Mapping[str, Any]) -> JoinRecord:
    """What is to be noted down. A worker in the foreground changes nothing about what starts it with the device."""
    if start is not None:
        return JoinRecord(kind, start.path, digest(start.text), settings)
    return evolve(earlier, kind=earlier.kind if earlier.file else kind, settings=settings)


def _probe_failed(done: subprocess.CompletedProcess[str]) -> ClusterError:
    why = (done.stderr.strip() or "no answer").removeprefix("retire-worker: ")
    codes = [each.code for each in ERRORS.values() if each.exit_code == done.returncode]
    code = "unreachable" if "unreachable" in codes or not codes else codes[0]
    return ClusterError(code, f"{why}; nothing was written")


def _in_background(start: StartFile) -> Callable[[], bool]:
    """Start the boot script as Termux:Boot would; what it says before its log is open goes there, too."""
    with open(start.log, "ab") as log:
        try:
            process = subprocess.Popen(
                start.start[0], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            raise ClusterError("bad_config", f"{start.path} cannot be run: {error.strerror}") from None
    return lambda: process.poll() is not None


def _by_commands(start: StartFile) -> Callable[[], bool]:
    for command in start.start:
        run(command)
    return lambda: False
