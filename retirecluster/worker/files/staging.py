"""A task's folder on the disk: inputs are put into it, outputs taken from it. Everything here blocks.

Nothing is followed: every part of a name is opened from the folder above it, and links are refused. What is taken are
regular files alone, once no process of the task lives any more.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from retirecluster.domain.fields import shown
from retirecluster.domain.files import MAX_NAME_CHARS, MAX_OUTPUTS, InputFile, is_file_name, matcher
from retirecluster.domain.units import format_bytes

MAX_ENTRIES = 1_000_000
"""More than this is not looked through."""
MAX_SKIPPED = 100
READ_BYTES = 256 * 1024
CAN_STAGE = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY") and hasattr(os, "O_NOFOLLOW")
"""Whether this system can open one thing below another without following a link (Windows cannot)."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_READ = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK


class DamagedError(Exception):
    """What the cache holds is not what it is called."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"{digest} is damaged in the cache")
        self.digest = digest


class OverQuotaError(Exception):
    """A task left more than is kept; the message says what, and what is allowed."""


# -- putting in


def make_folder(folder: Path, inputs: Sequence[InputFile], source: Callable[[str], Path], uid: int | None) -> None:
    """Make a folder and put inputs into it, from where `source` says their contents are.

    `uid` is who owns it all, if not this process's user. Raises DamagedError, OSError.
    """
    os.mkdir(folder, 0o700)
    root = os.open(folder, _FOLDER)
    try:
        for each in inputs:
            _put(root, each, source(each.sha256), uid)
        _own(root, uid)
    finally:
        os.close(root)


def _put(root: int, each: InputFile, source: Path, uid: int | None) -> None:
    *folders, name = each.name.split("/")
    place = _open_below(root, folders, lambda part, at: _make_below(part, at, uid))
    try:
        mode = 0o700 if each.executable else 0o600
        with open(os.open(source, _READ), "rb", buffering=0) as reading:
            writing = os.open(name, _MAKE, mode, dir_fd=place)
            try:
                if _copy(reading, writing) != each.sha256:
                    raise DamagedError(each.sha256)
                _own(writing, uid)
            finally:
                os.close(writing)
    finally:
        os.close(place)


def _make_below(part: str, at: int, uid: int | None) -> None:
    try:
        os.mkdir(part, 0o700, dir_fd=at)
    except FileExistsError:
        return
    made = os.open(part, _FOLDER, dir_fd=at)
    try:
        _own(made, uid)
    finally:
        os.close(made)


def _own(fd: int, uid: int | None) -> None:
    if uid is not None:
        os.fchown(fd, uid, uid)


def _copy(reading: Any, writing: int) -> str:
    digest = sha256()
    while data := reading.read(READ_BYTES):
        digest.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(writing, view) :]
    return digest.hexdigest()


def _open_below(root: int, folders: Sequence[str], before: Callable[[str, int], None] | None = None) -> int:
    """A descriptor of a folder below `root`, reached part by part; the caller closes it."""
    at = os.dup(root)
    for part in folders:
        try:
            if before is not None:
                before(part, at)
            below = os.open(part, _FOLDER, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


# -- taking out


@frozen
class Output:
    """A file that was taken."""

    name: str
    sha256: str
    size_bytes: int


@define
class Collected:
    """What a task left: what was taken, and what was not, each with the reason."""

    outputs: list[Output] = field(factory=list)
    skipped: list[str] = field(factory=list)

    def skip(self, name: str, why: str) -> None:
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(f"{name if is_file_name(name) else shown(name, 200)}: {why}")
        elif len(self.skipped) == MAX_SKIPPED:
            self.skipped.append("and more")


@define
class Collector:
    """Takes what fits patterns from a folder into the cache's folder `target`, under its digest.

    `private` are names that are nobody's output; `sync` has each content on the disk for good before it counts.
    """

    folder: Path
    target: Path
    max_bytes: int
    sync: bool = False
    private: frozenset[str] = frozenset()
    _found: Collected = field(factory=Collected, init=False)
    _total_bytes: int = field(default=0, init=False)

    def collect(self, patterns: Sequence[str]) -> Collected:
        """Take what fits. Raises OverQuotaError before anything was taken, and OSError."""
        wanted = [each for each in self._wanted(patterns) if self._is_whole(*each)]
        if len(wanted) > MAX_OUTPUTS:
            raise OverQuotaError(f"{len(wanted)} files fit its output patterns; at most {MAX_OUTPUTS} are kept")
        total = sum(found.st_size for _, found in wanted)
        if total > self.max_bytes:
            raise OverQuotaError(
                f"the files that fit its output patterns have {format_bytes(total)}; max_output_files_bytes of the "
                f"device allows {format_bytes(self.max_bytes)}"
            )
        root = os.open(self.folder, _FOLDER)
        try:
            for name, found in wanted:
                self._take(root, name, found)
        finally:
            os.close(root)
        return self._found

    def _wanted(self, patterns: Sequence[str]) -> list[tuple[str, os.stat_result]]:
        """Regular files that fit, by name."""
        fits = matcher(patterns)
        regular = []
        for name, found in self._entries():
            if name in self.private or not fits(name):
                continue
            if why := _unfit(name, found):
                self._found.skip(name, why)
            else:
                regular.append((name, found))
        regular.sort(key=lambda each: each[0])
        self._links = _links_among(regular)
        return regular

    _links: dict[tuple[int, int], int] = field(factory=dict, init=False)

    def _is_whole(self, name: str, found: os.stat_result) -> bool:
        """A file that has a name elsewhere, too, may be somebody else's."""
        if found.st_nlink == 1 or self._links[found.st_dev, found.st_ino] == found.st_nlink:
            return True
        self._found.skip(name, "it has a hard link that is not one of the outputs")
        return False

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """Everything in the folder that is no folder, with its name."""
        waiting, count = [""], 0
        root = os.open(self.folder, _FOLDER)
        try:
            while waiting:
                below = waiting.pop()
                for name, found in self._list(root, below):
                    count += 1
                    if count > MAX_ENTRIES:
                        raise OverQuotaError(f"its folder has more than {MAX_ENTRIES} entries: not looked through")
                    if not stat.S_ISDIR(found.st_mode):
                        yield name, found
                    elif len(name) < MAX_NAME_CHARS:
                        waiting.append(name)
        finally:
            os.close(root)

    def _list(self, root: int, below: str) -> list[tuple[str, os.stat_result]]:
        try:
            at = _open_below(root, below.split("/") if below else [])
        except OSError as error:
            self._found.skip(below, f"the folder cannot be opened: {error.strerror}")
            return []
        try:
            prefix = f"{below}/" if below else ""
            with os.scandir(at) as entries:
                return [(prefix + each.name, each.stat(follow_symlinks=False)) for each in entries]
        except OSError as error:
            self._found.skip(below, f"the folder cannot be read: {error.strerror}")
            return []
        finally:
            os.close(at)

    def _take(self, root: int, name: str, expected: os.stat_result) -> None:
        *folders, last = name.split("/")
        try:
            place = _open_below(root, folders)
        except OSError as error:
            return self._found.skip(name, f"its folder cannot be opened: {error.strerror}")
        try:
            fd = os.open(last, _READ, dir_fd=place)
        except OSError as error:
            os.close(place)
            return self._found.skip(name, f"it cannot be read: {error.strerror}")
        try:
            found = os.fstat(fd)
            if (found.st_ino, found.st_dev, found.st_size) != (expected.st_ino, expected.st_dev, expected.st_size):
                return self._found.skip(name, "it changed while it was taken")
            digest = self._move(fd, last, place)
        finally:
            os.close(fd)
            os.close(place)
        self._found.outputs.append(Output(name, digest, expected.st_size))

    def _move(self, fd: int, name: str, place: int) -> str:
        """Move a file that is open into the cache; its digest. On another file system it is copied."""
        digest = sha256()
        while data := os.read(fd, READ_BYTES):
            digest.update(data)
        found = digest.hexdigest()
        target = self.target / found
        if os.fstat(fd).st_nlink > 1:  # its other names are outputs as well
            self._copy_out(fd, target)
            return found
        if os.fstat(fd).st_uid != os.geteuid():
            os.fchown(fd, os.geteuid(), os.getegid())
        os.fchmod(fd, 0o600)
        if self.sync:
            os.fsync(fd)
        try:
            os.rename(name, target, src_dir_fd=place)
        except OSError:
            self._copy_out(fd, target)
        return found

    def _copy_out(self, fd: int, target: Path) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        draft = target.with_name(f"{target.name}.new")
        draft.unlink(missing_ok=True)
        try:
            with open(os.dup(fd), "rb", buffering=0) as reading:
                writing = os.open(draft, _MAKE, 0o600)
                try:
                    _copy(reading, writing)
                    if self.sync:
                        os.fsync(writing)
                finally:
                    os.close(writing)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)


def _unfit(name: str, found: os.stat_result) -> str:
    """Why an entry is not taken; empty if it is."""
    mode = found.st_mode
    if stat.S_ISLNK(mode):
        return "it is a link"
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        return f"it is {kinds.get(stat.S_IFMT(mode), 'no regular file')}"
    return "" if is_file_name(name) else "such a name is not kept"


def _links_among(files: Sequence[tuple[str, os.stat_result]]) -> dict[tuple[int, int], int]:
    """How many of these names each file has that has several."""
    links: dict[tuple[int, int], int] = {}
    for _, found in files:
        if found.st_nlink > 1:
            key = (found.st_dev, found.st_ino)
            links[key] = links.get(key, 0) + 1
    return links


# -- the end


def remove_folder(folder: Path) -> None:
    """Remove a task's folder, whatever it did to it."""

    def unlock(function: object, name: str, _: object) -> None:
        for each in (os.path.dirname(name), name):
            with suppress(OSError):
                if os.path.commonpath([each, folder]) == str(folder) and not os.path.islink(each):
                    os.chmod(each, 0o700)

    try:
        shutil.rmtree(folder, onerror=unlock)
        # What was locked at the first pass is open now.
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # nested deeper than Python goes
        subprocess.run(["rm", "-rf", "--", str(folder)], check=False, stderr=subprocess.DEVNULL)
    except OSError:
        return
