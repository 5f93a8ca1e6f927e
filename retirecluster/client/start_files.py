"""What starts a daemon with its device: systemd units and Termux's boot script, made from packaged templates."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from attrs import frozen

from retirecluster.client.twistd import twistd
from retirecluster.domain.errors import ClusterError

MARK = "Written by retire-cluster join; retire-cluster leave removes it."
EXAMPLE_MARK = "To be adapted by hand; retire-cluster join writes one that fits the device."
UNIT = "retire-worker.service"
SYSTEM, USER, TERMUX, FOREGROUND = "systemd", "systemd for a user", "termux", "foreground"
TERMUX_SHELL = "/data/data/com.termux/files/usr/bin/sh"
_AFTER_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"


@frozen
class StartFile:
    """One file and where it goes. The commands `start` follow its writing: they replace a worker that runs already.
    `log` says where the worker's words are to be found."""

    kind: str
    path: Path
    text: str
    start: tuple[tuple[str, ...], ...]
    log: str


def kind_here(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """What starts programs with this device; foreground where nothing that is known does."""
    if "com.termux" in environ.get("PREFIX", ""):
        return TERMUX
    if (root / "run/systemd/system").is_dir():
        return SYSTEM if is_root() else USER
    return FOREGROUND


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def worker_command(config: Path, *more: str) -> list[str]:
    """How to run the worker with the Python that runs this. The lock in its data folder stands for a pid file."""
    return [*twistd(), "-n", "--pidfile=", *more, "retire-worker", "--config", str(config)]


def worker_file(kind: str, config: Path, environ: Mapping[str, str], account: str = "") -> StartFile:
    """The file that starts a worker with its device. `account`: the user that a system unit runs as."""
    if kind == TERMUX:
        return _boot_script(config, environ)
    if kind == SYSTEM:
        return _unit(Path("/etc/systemd/system"), (), worker_command(config), account)
    base = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return _unit(base / "systemd" / "user", ("--user",), worker_command(config), "")


def _unit(folder: Path, option: tuple[str, ...], command: Sequence[str], account: str) -> StartFile:
    text = unit_text(UNIT, command, system=not option, account=account)
    systemctl = ("systemctl", *option)
    # Not "enable --now": that leaves a worker alone that runs with the settings of before.
    start = ((*systemctl, "daemon-reload"), (*systemctl, "enable", UNIT), (*systemctl, "restart", UNIT))
    log = " ".join(("journalctl", *option, "-u", UNIT))
    return StartFile(USER if option else SYSTEM, folder / UNIT, text, start, log)


def stop_commands(kind: str) -> tuple[tuple[str, ...], ...]:
    """What stops a unit's worker, and has it start no more."""
    option = ("--user",) if kind == USER else ()
    return (("systemctl", *option, "disable", "--now", UNIT),)


def run(command: Sequence[str]) -> None:
    """Run a command. Raises ClusterError bad_config with what it said if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClusterError("bad_config", f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        words = f"{' '.join(command)} failed with status {done.returncode}: {done.stderr.strip()[:500]}"
        raise ClusterError("bad_config", words)


def unit_text(name: str, command: Sequence[str], *, system: bool, account: str = "", mark: str = MARK) -> str:
    """A unit of systemd from its template."""
    return filled(
        name,
        mark=mark,
        # The manager of a user's units knows nothing of the network; the worker tries until it is there.
        after=_AFTER_NETWORK if system else "",
        account=f"User={account}\n" if account else "",
        command=" ".join(unit_word(each) for each in command),
        target="multi-user.target" if system else "default.target",
    )


def _boot_script(config: Path, environ: Mapping[str, str]) -> StartFile:
    home = Path(environ.get("HOME") or Path.home())
    path, log = home / ".termux" / "boot" / "retire-worker", config.with_name("worker.log")
    shell = str(Path(environ["PREFIX"]) / "bin" / "sh") if environ.get("PREFIX") else TERMUX_SHELL
    text = boot_text(shell, worker_command(config, f"--logfile={log}"))
    return StartFile(TERMUX, path, text, ((str(path),),), str(log))


def boot_text(shell: str, command: Sequence[str], mark: str = MARK) -> str:
    """The boot script of Termux from its template."""
    return filled("retire-worker.sh", mark=mark, shell=shell, command=shlex.join(command))


def filled(name: str, **values: str) -> str:
    """A packaged template with its places filled."""
    template = (files("retirecluster.client.deploy") / name).read_text("utf-8")
    return Template(template).substitute(values)


def unit_word(word: str) -> str:
    """One word of ExecStart, such that systemd reads it as it is. Raises ClusterError for what it cannot take."""
    if not word.isprintable():
        raise ClusterError("bad_config", f"{word!r} has characters that systemd cannot take; choose another folder")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or not word or any(each in " ;'" for each in word) else word


def is_ours(path: Path) -> bool:
    """Whether a file was written by `join`, here or elsewhere, and whether or not it was changed since."""
    try:
        return MARK in path.read_text("utf-8", errors="replace")
    except OSError:
        return False
