"""The real input of the demo: text files of a folder, cut into parts that each fit a task."""

from __future__ import annotations

import json
import os
import sysconfig
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import KIB, MIB

PART_BYTES = 150 * KIB
PART_CHARS = 500_000
"""The longest standard input of a task, as JSON: half of what a task may be, for text that JSON makes longer."""
INPUT_BYTES = 10 * MIB
_DEFAULT_SUFFIXES = frozenset({".py", ".txt"})
_LEFT_OUT = frozenset({"__pycache__", "site-packages", "node_modules"})


@frozen
class Piece:
    """A text, or one of several that a long one was cut into. `piece` counts from 0; `cost` is characters as JSON."""

    name: str
    piece: int
    text: str = field(repr=False)
    size_bytes: int
    cost: int

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "piece": self.piece, "text": self.text}


@define
class Part:
    """The pieces of one task."""

    pieces: list[Piece] = field(factory=list)
    size_bytes: int = 0
    cost: int = 0

    def has_room_for(self, piece: Piece) -> bool:
        if not self.pieces:
            return True
        return self.size_bytes + piece.size_bytes <= PART_BYTES and self.cost + piece.cost <= PART_CHARS

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece)
        self.size_bytes += piece.size_bytes
        self.cost += piece.cost

    def texts(self) -> list[dict[str, Any]]:
        return [piece.document() for piece in self.pieces]


@define
class Input:
    """What was found in a folder. `left_out` counts files that are not UTF-8 text; `capped`: there were more."""

    folder: Path
    parts: list[Part] = field(factory=list)
    files: int = 0
    size_bytes: int = 0
    left_out: int = 0
    capped: bool = False


def read_input(folder: str | None, limit_bytes: int = INPUT_BYTES) -> Input:
    """The text files of a folder, or of Python's standard library as it lies here. ClusterError if there are none."""
    root = Path(folder or sysconfig.get_paths()["stdlib"])
    if not root.is_dir():
        raise ClusterError("not_found", f"--input: {root} is not a folder")
    found = Input(root)
    for path in _files(root, None if folder else _DEFAULT_SUFFIXES):
        text = _text(path)
        if text is None:
            found.left_out += 1
            continue
        if found.size_bytes + len(text.encode("utf-8")) > limit_bytes:
            found.capped = True
            break
        _add(found, path.relative_to(root).as_posix(), text)
    if not found.files:
        raise ClusterError("not_found", f"--input: there is no text file of at most {limit_bytes} bytes in {root}")
    return found


def _files(root: Path, suffixes: frozenset[str] | None) -> Iterator[Path]:
    """Regular files below the folder in a fixed order, without hidden ones, links, and what others installed."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(each for each in folders if each not in _LEFT_OUT and not each.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            wanted = suffixes is None or path.suffix in suffixes
            if wanted and not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _text(path: Path) -> str | None:
    """The file as text; None if it is none, empty, or not ours to read."""
    try:
        if path.stat().st_size > INPUT_BYTES:
            return None
        text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if text and "\0" not in text else None


def _add(found: Input, name: str, text: str) -> None:
    found.files += 1
    for number, piece_text in enumerate(_pieces(text)):
        size_bytes = len(piece_text.encode("utf-8"))
        piece = Piece(name, number, piece_text, size_bytes, _cost(piece_text))
        found.size_bytes += size_bytes
        if not found.parts or not found.parts[-1].has_room_for(piece):
            found.parts.append(Part())
        found.parts[-1].add(piece)


def _cost(text: str) -> int:
    """Characters of the text in a task document. It is encoded twice: in the script's input, and that as a string."""
    return len(json.dumps(json.dumps(text))) + 100


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces that each fit a part, cut between lines where possible, else between words."""
    if len(text) <= PART_BYTES and len(text.encode("utf-8")) <= PART_BYTES and _cost(text) <= PART_CHARS:
        yield text
        return
    # At most 4 bytes and 14 JSON characters each, so this many characters always fit.
    limit = min(PART_BYTES // 4, PART_CHARS // 14)
    while len(text) > limit:
        at = max(text.rfind("\n", 0, limit), 0) or max(text.rfind(" ", 0, limit), 0) or limit - 1
        yield text[: at + 1]
        text = text[at + 1 :]
    if text:
        yield text


def task_document(part: Part, number: int, source: str, requirements: dict[str, Any], job: str) -> dict[str, Any]:
    """The task that indexes one part: the text travels inside, nothing assumes a shared file system."""
    return {
        "task_type": "python_script",
        "name": f"word index, part {number + 1}",
        "payload": {"source": source, "stdin": json.dumps({"texts": part.texts()})},
        "requirements": requirements,
        "labels": {"job": job},
        "timeout": 120,
    }


def script_source() -> str:
    """The text of the script that the tasks run."""
    return resources.files("retirecluster.client").joinpath("word_index.py").read_text("utf-8")
