"""Names and digests of the files that tasks bring and leave, and what a task says about them.

A name is relative to the task's folder, with `/` between its parts, and means the same on every system: no
absolute names, no `.` or `..`, nothing that a shell, a terminal or Windows would take for something else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any
from unicodedata import normalize

from attrs import frozen

from retirecluster.domain.fields import Boolean, Field, Integer, ListOf, Problem, Record, Text, shown

MAX_NAME_CHARS = 1024
MAX_PART_BYTES = 255
"""The longest name of one file on the file systems in use (ext4, f2fs, APFS)."""
MAX_INPUTS = 1000
MAX_OUTPUTS = 1000
MAX_GLOBS = 64
MAX_PIECE_BYTES = 8 * 1024 * 1024
"""The most that one upload request carries."""
_PART = r'(?!\.{1,2}(?:/|$))[^/\\:*?"<>|\x00-\x1f\x7f]+'
_GLOB_PART = r'(?!\.{1,2}(?:/|$))[^/\\:"<>|\x00-\x1f\x7f]+'
FILE_NAME = Text(
    MAX_NAME_CHARS,
    1,
    pattern=f"{_PART}(?:/{_PART})*",
    pattern_doc='a relative file name such as photos/1.jpg, without . or .. parts and none of \\ : * ? " < > |',
)
GLOB = Text(
    MAX_NAME_CHARS,
    1,
    pattern=f"{_GLOB_PART}(?:/{_GLOB_PART})*",
    pattern_doc="a relative pattern such as *.png or out/**, without . or .. parts",
)
DIGEST = Text(64, 64, pattern="[0-9a-f]{64}", pattern_doc="a SHA-256 as 64 lower-case hexadecimal digits")
INPUT = Record(
    (
        Field("name", FILE_NAME, "where the task finds it, in its folder", required=True),
        Field("sha256", DIGEST, "its content, uploaded before", required=True),
        Field("executable", Boolean(), "may be run as a program", nullable=True),
    ),
    closed=True,
)
FILE_FIELDS = Record(
    (
        Field("inputs", ListOf(INPUT, MAX_INPUTS), "files that are put into its folder before it starts"),
        Field("outputs", ListOf(GLOB, MAX_GLOBS), "what is kept of its folder after it; ** stands for any folders"),
    ),
    closed=True,
)
ARTIFACT = Record(
    (
        Field("name", FILE_NAME, "where it was in the task's folder", required=True),
        Field("sha256", DIGEST, "its content, uploaded before", required=True),
        Field("size_bytes", Integer(0, 2**50), required=True),
    )
)
FILE_NAME_CHECK = Record((Field("name", FILE_NAME, required=True),))
DEVICE_NAMES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in "123456789¹²³")]
)
"""What Windows takes for devices, with any ending."""


@frozen
class InputFile:
    """One file that a task starts with."""

    name: str
    sha256: str
    executable: bool = False


def inputs_of(files: Mapping[str, Any]) -> list[InputFile]:
    """The inputs in a checked `files` object."""
    return [InputFile(each["name"], each["sha256"], bool(each.get("executable"))) for each in files.get("inputs") or ()]


def file_problems(files: Mapping[str, Any], path: str) -> list[Problem]:
    """What is wrong with a `files` object beyond its fields: names that are not for files, or in each other's way."""
    problems: list[Problem] = []
    names = [each["name"] for each in files.get("inputs") or ()]
    taken: dict[str, str] = {}
    for index, name in enumerate(names):
        where = f"{path}.inputs[{index}].name"
        if problem := name_problem(name):
            problems.append(Problem(where, problem))
        before = taken.get(_folded(name))
        taken[_folded(name)] = name
        if before is not None:
            how = "is there twice" if before == name else f"is the same as {shown(before)} on some systems"
            problems.append(Problem(where, f"{how}: {shown(name)}"))
    folders = {_folded(folder) for name in names for folder in folders_of(name)}
    problems += [
        Problem(f"{path}.inputs", f"{shown(taken[each])} is a file and a folder at once")
        for each in sorted(folders & taken.keys())
    ]
    return problems


def _folded(name: str) -> str:
    """What a file system that ignores case, or composes letters, takes a name for."""
    return normalize("NFC", name).casefold()


def folders_of(name: str) -> Iterable[str]:
    """Every folder that a name needs, the outermost first: `a/b/c` needs `a` and `a/b`."""
    parts = name.split("/")[:-1]
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def name_problem(name: str) -> str:
    """Why a text that fits `FILE_NAME`'s pattern is no name on every system all the same; empty if it is one."""
    for part in name.split("/"):
        if len(part.encode("utf-8", "surrogatepass")) > MAX_PART_BYTES:
            return f"each part may have {MAX_PART_BYTES} bytes: {shown(name)}"
        if part[-1:] in (".", " "):
            return f"no part may end in a dot or a space: {shown(name)}"
        if part.partition(".")[0].rstrip().lower() in DEVICE_NAMES:
            return f"{shown(part)} means a device on Windows"
    return ""


def is_file_name(name: object) -> bool:
    """Whether a name that a device reports may be used as one."""
    return not FILE_NAME_CHECK.problems({"name": name}) and isinstance(name, str) and not name_problem(name)


def artifact_problems(artifacts: Iterable[Any]) -> list[Problem]:
    """What is wrong with the files that a device reports: their fields, their names, a name that stands twice."""
    problems: list[Problem] = []
    taken: set[str] = set()
    for index, each in enumerate(artifacts):
        where = f"artifacts[{index}]"
        found = ARTIFACT.problems(each, where)
        problems += found
        if found:
            continue
        if problem := name_problem(each["name"]):
            problems.append(Problem(f"{where}.name", problem))
        if each["name"] in taken:
            problems.append(Problem(f"{where}.name", f"is there twice: {shown(each['name'])}"))
        taken.add(each["name"])
    return problems


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Tells whether a name fits one of some patterns.

    `*`, `?` and `[a-z]` stand for characters of one part, also in names that begin with a dot; a part `**` stands
    for any number of folders, none included, and at the end for everything below. Matching takes time in
    proportion to pattern times name, whatever stands in them.
    """
    compiled = [_compiled(pattern) for pattern in patterns]
    return lambda name: any(_fits(pattern, name.split("/")) for pattern in compiled)


_Part = re.Pattern[str] | None
"""One part of a pattern; None for `**`."""


def _compiled(pattern: str) -> list[_Part]:
    parts: list[_Part] = []
    for part in pattern.split("/"):
        if part != "**":
            parts.append(re.compile(translate(part)))
        elif not parts or parts[-1] is not None:  # two in a row say no more than one
            parts.append(None)
    if parts[-1] is None:
        parts.append(re.compile("(?s:.+)"))  # folders alone are no files
    return parts


def _fits(pattern: list[_Part], name: list[str]) -> bool:
    """Compare part by part; after a mismatch the last `**` takes one part more."""
    at = place = 0
    star, resume = -1, 0
    while place < len(name):
        part = pattern[at] if at < len(pattern) else None
        if at < len(pattern) and part is None:
            star, resume = at, place
            at += 1
        elif part is not None and part.fullmatch(name[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            resume += 1
            at, place = star + 1, resume
        else:
            return False
    return at == len(pattern)
