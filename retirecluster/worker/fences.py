"""The isolation levels of this device: what each needs here, whether it is reached, and how its runner is started.

A level is proved, not assumed: a runner with that fence is started, tries what a task must not do, and says what held.
What was proved is kept until the next boot.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from attrs import field, frozen
from twisted.logger import Logger

from retirecluster import __version__
from retirecluster.worker.cgroup_tree import CgroupTree
from retirecluster.worker.data_folder import write_whole
from retirecluster.worker.leftovers import kill_marked
from retirecluster.worker.places import DEVICES, SYSTEM, readable_places, system_files
from retirecluster.worker.runner_process import RunnerSettings, package_places

PLAIN, FENCED, NAMESPACES = 1, 2, 3
PROOF_WITHIN_S = 10.0
FREE_USERS = range(60578, 61184, 2)
"""Numbers that no distribution gives to anybody (systemd's table of user ids); each worker takes two."""
OWN_PLACE = Path("/var/tmp")


@frozen
class Fence:
    """One level: where its tasks' folders are, and as which user they run, if not the worker's."""

    level: int
    folder: Path
    uid: int | None = None


@frozen
class Proof:
    """What was found out: the strongest level that holds, its layers, and why those above do not hold."""

    level: int
    layers: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(factory=dict)

    def why_not(self, level: int) -> str:
        """Why a level is not reached, in one line."""
        reasons = [f"level {above}: {why}" for above, why in sorted(self.missing.items()) if int(above) <= level]
        return f"isolation level {level} is not reached on this device; " + ("; ".join(reasons) or "it was not tried")

    def document(self) -> dict[str, Any]:
        """As it is announced and kept."""
        return {"level": self.level, "layers": list(self.layers), "missing": dict(self.missing)}


@frozen
class Fences:
    """All levels of one worker. `data` is its own folder, which no fenced task may read."""

    data: Path
    scratch: Path
    variables: Mapping[str, str]
    tree: CgroupTree = field(factory=CgroupTree)
    log: ClassVar[Logger] = Logger()

    def fence(self, level: int) -> Fence:
        """How that level is set up here; its folder need not be there yet."""
        if level < FENCED or not hasattr(os, "geteuid") or os.geteuid() != 0 or not python_is_public():
            return Fence(level, self.scratch)
        first = FREE_USERS[zlib.crc32(str(self.data).encode()) % len(FREE_USERS)]
        # The folder of a user who may not enter the worker's own: it is nowhere below that.
        return Fence(level, OWN_PLACE / f"retirecluster-{first}" / f"level-{level}", first + level - FENCED)

    def owner_of(self, level: int) -> int | None:
        """The user that a level's tasks run as; None: the worker's own."""
        return self.fence(level).uid

    def folder_of(self, level: int) -> Path:
        """Where folders for a level's tasks can be made. Raises OSError where it cannot be prepared."""
        fence = self.fence(level)
        if fence.uid is None:
            fence.folder.mkdir(0o700, parents=True, exist_ok=True)
        else:
            _make_own_place(fence.folder, fence.uid)
        return fence.folder

    def runner(self, level: int, more: Mapping[str, Any] | None = None) -> RunnerSettings:
        """What to start for a level. Raises OSError."""
        fence = self.fence(level)
        folder = self.folder_of(level)
        settings: dict[str, Any] = {"level": level, **(more or {})}
        try:
            settings["groups"] = self.tree.for_level(level, fence.uid)
        except OSError as error:
            self.log.warn("no control groups at level {number}: {why}", number=level, why=str(error))
        if level >= FENCED:
            hidden = (self.data, *([] if fence.uid is None else [OWN_PLACE]))
            # Root may read all of /etc. Where its tasks are root too, they are shown what is harmless.
            system = [*system_files(), "/proc", "/sys", "/run"] if fence.uid is None and os.geteuid() == 0 else SYSTEM
            readable = readable_places(hidden, package_places(), sys.executable, system)
            settings |= {"root": str(folder), "readable": readable, "devices": list(DEVICES), "uid": fence.uid}
        if level >= NAMESPACES:
            inside = readable_places(hidden, package_places(), sys.executable, system_files())
            settings["readable"] = [*inside, "/proc", "/dev"]
            groups = settings.get("groups", {}).get("bases", {})
            settings["wrapper"] = namespaces(inside, [str(folder), *groups.values()])
        name, value = self._marker(level)
        return RunnerSettings(str(folder), {**self.variables, name: value, "LD_BIND_NOW": "1"}, settings)

    def _marker(self, level: int) -> tuple[str, str]:
        """A variable that everything that comes from this level's runner has in its environment."""
        return "RETIRE_RUNNER", f"{zlib.crc32(str(self.data).encode()):08x}-{level}"

    def kill_rest(self, level: int) -> None:
        """The runner of this level is gone: end everything that came from it, whatever it did to get away."""
        self.tree.kill(level)
        kill_marked("=".join(self._marker(level)))

    def kill_leftovers(self) -> None:
        """The same for all levels, for what an earlier life of this worker may have left."""
        for level in range(NAMESPACES + 1):
            self.kill_rest(level)
        self.tree.clear()

    def tidy(self) -> None:
        """The runners are gone: remove the folders and groups of their levels, where nothing is left in them."""
        self.tree.remove()
        for fence in (self.fence(FENCED), self.fence(NAMESPACES)):
            if fence.uid is not None:
                with contextlib.suppress(OSError):
                    fence.folder.rmdir()
                    fence.folder.parent.rmdir()

    # Proofs

    def prove(self) -> Proof:
        """Try the strongest level, which has the layers of those below it; then the next. Takes 0.1 to 0.3 s."""
        if not hasattr(os, "fork"):
            return Proof(0, (), {"1": f"processes cannot be forked, nor limited as there, on {sys.platform}"})
        plain = ("rlimits", "own session")
        missing: dict[str, str] = {}
        if not sys.platform.startswith(("linux", "android")):
            return Proof(PLAIN, plain, {str(FENCED): f"Landlock and seccomp are not on {sys.platform}"})
        for level in (NAMESPACES, FENCED):
            said = self._try(level)
            if "why" not in said:
                return Proof(level, (*plain, *said["layers"]), missing)
            missing[str(level)] = said["why"]
        return Proof(PLAIN, plain, missing)

    def _try(self, level: int) -> dict[str, Any]:
        outside = {name: _namespace(name) for name in ("net", "pid", "ipc", "uts")}
        more = {"prove": {"hidden": str(self.data), "namespaces": outside if level >= NAMESPACES else {}}}
        try:
            command = self.runner(level, more).command()
            ran = subprocess.run(command, env=dict(self.variables), stdin=subprocess.DEVNULL, capture_output=True,
                                 timeout=PROOF_WITHIN_S, check=False)  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return {"why": str(error)[:500]}
        try:
            said = json.loads(ran.stdout.decode("utf-8", "replace").splitlines()[-1])
        except (ValueError, IndexError):
            words = ran.stderr.decode("utf-8", "replace").strip().splitlines()
            return {"why": words[-1][:500] if words else f"its runner ended with status {ran.returncode}"}
        return said if isinstance(said, dict) else {"why": "its runner said nothing"}

    def cached(self, place: Path) -> Proof:
        """The proof kept in the data folder; made anew after a boot, or when something that matters has changed."""
        key = self._key()
        try:
            kept = json.loads(place.read_text("utf-8"))
            if kept["key"] == key:
                return Proof(kept["level"], tuple(kept["layers"]), kept["missing"])
        except (OSError, ValueError, KeyError, TypeError):
            pass
        proof = self.prove()
        with contextlib.suppress(OSError):
            write_whole(place, json.dumps({"key": key, **proof.document()}) + "\n")
        return proof

    def _key(self) -> list[Any]:
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        except OSError:
            boot = ""
        user = os.geteuid() if hasattr(os, "geteuid") else 0
        return [boot, __version__, sys.version, sys.executable, user, shutil.which("bwrap"), package_places()]


def namespaces(readable: list[str], writable: list[str]) -> list[str]:
    """The bubblewrap command around a runner: its own namespaces, no network, and of the disk only what it needs.

    Control groups keep their places: a runner in a namespace of groups could not use those beside its own.

    Raises FileNotFoundError where bubblewrap is not installed.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise FileNotFoundError("bubblewrap (bwrap) is not installed")
    command = [bwrap, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    command += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--proc", "/proc", "--dev", "/dev"]
    for path in readable:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        else:
            command += ["--ro-bind", path, path]
    for path in dict.fromkeys(writable):
        command += ["--bind", path, path]
    return [*command, "--chdir", "/", "--"]


@cache
def python_is_public() -> bool:
    """Whether other users may run this Python with this package: one in root's home folder they may not."""
    needed = (os.path.realpath(sys.executable), os.__file__, str(Path(__file__).parents[1]))
    return all(_is_public(Path(each)) for each in needed)


def _is_public(place: Path) -> bool:
    try:
        above = all(each.stat().st_mode & 0o001 for each in place.resolve().parents)
        return above and bool(place.stat().st_mode & 0o004)
    except OSError:
        return False


def _namespace(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{name}")
    except OSError:
        return ""


def _make_own_place(folder: Path, uid: int) -> None:
    """A folder for another user, in one that everybody may pass and nobody but root may change."""
    for place, mode, owner in ((folder.parent, 0o711, 0), (folder, 0o700, uid)):
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, mode)
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Somebody else may have made it first: it becomes ours, and what is in it is of no use to him.
            os.fchown(fd, owner, owner)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
