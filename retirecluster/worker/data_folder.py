"""The folder that a worker lives in: its lock, its device id, its files."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path
from random import Random

from retirecluster.domain.errors import ClusterError


class DataFolder:
    """A worker's folder. `open` takes the lock, which the kernel frees when the process ends, and `sign` signs it."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().absolute()
        self._lock: int | None = None

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def fences(self) -> Path:
        return self.path / "fences.json"

    @property
    def home(self) -> Path:
        return self.path / "cluster.json"

    @property
    def comfort(self) -> Path:
        return self.path / "comfort.json"

    @property
    def speed(self) -> Path:
        return self.path / "speed.json"

    def open(self) -> None:
        """Make the folder and lock it. Raises ClusterError bad_config when that cannot be."""
        try:
            self.path.mkdir(0o700, parents=True, exist_ok=True)
            fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise ClusterError("bad_config", f"the data folder {self.path} cannot be used: {error.strerror}") from None
        try:
            lock(fd)
        except OSError:
            os.close(fd)
            raise ClusterError(
                "bad_config",
                f"another worker uses the data folder {self.path}; stop it, or give this one its own --data-dir",
            ) from None
        self._lock = fd
        self._write_lock(b"")
        self._remove_halves()

    def _remove_halves(self) -> None:
        """What an earlier life was writing when it was killed. Only now, before anything of this life is written."""
        whole = (self.journal, self.fences, self.home, self.comfort, self.speed, self.path / "device_id")
        for place in (*(each.with_name(f"{each.name}.new") for each in whole), self.path / "benchmark.tmp"):
            with contextlib.suppress(OSError):
                place.unlink()

    def sign(self) -> None:
        """Write the id of this process into the lock, for who wants to stop the worker: once it has its last id, as a
        daemon gets another one when it goes to the background."""
        self._write_lock(b"%d\n" % os.getpid())

    def _write_lock(self, text: bytes) -> None:
        if self._lock is None:
            return
        with contextlib.suppress(OSError):  # a full disk: the lock holds without it
            os.ftruncate(self._lock, 0)
            os.lseek(self._lock, 0, os.SEEK_SET)
            os.write(self._lock, text)

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def device_id(self, hostname: str, random: Random) -> str:
        """The id kept in the folder; made once, from the host's name and four random hexadecimal digits."""
        place = self.path / "device_id"
        try:
            kept = place.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            kept = ""
        if kept:
            return kept
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", hostname).strip("-._")[:100] or "device"
        made = f"{name}-{random.randrange(0x10000):04x}"
        self.keep_device_id(made)
        return made

    def keep_device_id(self, device_id: str) -> None:
        """From now on this device is called so, unless its settings name it."""
        write_whole(self.path / "device_id", device_id + "\n")


def lock(fd: int) -> None:
    """Lock a file for this process alone. Raises OSError where another one has it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        return
    try:
        import fcntl
    except ImportError:  # a system with neither: nothing keeps two workers apart, as its page says
        return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_whole(path: Path, text: str) -> None:
    """Replace a file: after a power cut there is the old text or the new one, never half of either."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """A name that was given is on the disk, where the system can promise that."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(fd)
    except OSError:
        return
    finally:
        os.close(fd)
