"""Files on this side: which ones a submitter means, and where those of a task are put. Nothing here talks to a main."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.files import MAX_INPUTS, folders_of, is_file_name

READ_BYTES = 1024 * 1024


def local_inputs(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Inputs of a task as `{"name", "path", "executable"?}`, from PATH or PATH=NAME each. A folder is all in it.

    Raises ClusterError bad_field.
    """
    found = [each for text in texts for each in _inputs_of(text)]
    if len(found) > MAX_INPUTS:
        raise ClusterError("bad_field", f"--input: there are {len(found)} files; a task brings at most {MAX_INPUTS}")
    return found


def _inputs_of(text: str) -> list[dict[str, Any]]:
    path, name = Path(text), ""
    if not path.exists() and "=" in text:
        given, _, name = text.rpartition("=")
        path = Path(given)
    if not path.exists():
        raise ClusterError("bad_field", f"--input: there is no file or folder {str(path)!r}")
    name = name.replace(os.sep, "/").strip("/") or path.resolve().name
    if path.is_dir():
        found = [_input(each, f"{name}/{each.relative_to(path).as_posix()}") for each in _files_below(path)]
        if not found:
            raise ClusterError("bad_field", f"--input: the folder {str(path)!r} has no files")
        return found
    if not path.is_file():
        raise ClusterError("bad_field", f"--input: {str(path)!r} is no regular file")
    return [_input(path, name)]


def _input(path: Path, name: str) -> dict[str, Any]:
    if not is_file_name(name):
        raise ClusterError("bad_field", f"--input: {name!r} is no name for a file; give it one, as {str(path)!r}=NAME")
    runs = os.access(path, os.X_OK)
    return {"name": name, "path": str(path)} | ({"executable": True} if runs else {})


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular files below a folder, in order. Links in it are a mistake: what they lead to may be anything."""
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted([*names, *(each for each in folders if os.path.islink(os.path.join(below, each)))]):
            path = Path(below, name)
            if path.is_symlink():
                raise ClusterError("bad_field", f"--input: {str(path)!r} is a link: name what it leads to by itself")
            if path.is_file():
                yield path


def digest_of(path: Path) -> tuple[str, int]:
    """The SHA-256 of a file and its size in bytes."""
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
            size += len(data)
    return digest.hexdigest(), size


def place_for(folder: Path, name: str) -> Path:
    """Where a task's file of that name goes below a folder; the folders that it needs are made.

    Raises ClusterError for a name that is none, or that leads through a link: nothing is written outside of `folder`.
    """
    if not is_file_name(name):
        raise ClusterError("bad_field", f"{name!a} is no name for a file, and is not written")
    folder.mkdir(parents=True, exist_ok=True)
    for each in folders_of(name):
        below = folder / each
        if below.is_symlink():
            raise ClusterError("conflict", f"{below} is a link: nothing is written through it")
        if below.exists() and not below.is_dir():
            raise ClusterError("conflict", f"{below} is a file, and a folder of that name is needed")
        below.mkdir(exist_ok=True)
    return folder / name


def is_same(path: Path, sha256_hex: str, size_bytes: int) -> bool:
    """Whether what is at `path` is that content already."""
    with suppress(OSError):
        if path.is_symlink() or not path.is_file() or path.stat().st_size != size_bytes:
            return False
        return digest_of(path)[0] == sha256_hex
    return False


def put_in_place(draft: Path, target: Path, *, force: bool) -> None:
    """Give a finished file its name. Raises ClusterError conflict if there is one, unless `force`."""
    if force:
        if target.is_dir() and not target.is_symlink():
            raise ClusterError("conflict", f"{target} is a folder")
        draft.replace(target)
        return
    try:
        os.link(draft, target)
    except FileExistsError:
        raise exists(target) from None
    except OSError:  # a file system without hard links
        if target.exists() or target.is_symlink():
            raise exists(target) from None
        draft.replace(target)
        return
    draft.unlink()


def exists(target: Path) -> ClusterError:
    """The error for a file that is in the way."""
    return ClusterError("conflict", f"{target} is there already: --force replaces it, -o DIR names another folder")
