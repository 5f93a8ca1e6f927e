"""grep, head, tail, sort, wc and cut: from lines to lines.

What they may cost is bounded: by the output that they are given (`MAX_CHARS`), and for patterns by their own bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retirecluster.domain.commands.grammar import Filled
from retirecluster.domain.commands.patterns import Budget, pattern
from retirecluster.domain.errors import ClusterError

MAX_CHARS = 1_000_000
"""Characters of output that are filtered and shown; the rest is cut, and a line says so."""
SHORTEST_CUT = 1000
"""A line is shown in part where that much of it fits; else it is left out."""
MAX_COLUMN = 10_000
GREP = "grep"
MAX_RANGES = 50
_NUMBER = re.compile(r"\s*([+-]?\d{1,18}(?:\.\d{0,18})?)")
_RANGE = re.compile(r"(\d{1,5})?(-)?(\d{1,5})?")
Lines = list[str]


def filtered(lines: Sequence[str], filters: Sequence[Filled]) -> Lines:
    """The lines after all filters. Raises ClusterError (bad_field) for a pattern or a list that is not one."""
    found, budget = list(lines), Budget()
    for each in filters:
        name = each.command.path[0]
        found = _grep(found, each.values, budget) if name == GREP else _FILTERS[name](found, each.values)
    return found


def bounded(lines: Sequence[str]) -> Lines:
    """The lines as far as they are shown."""
    left, kept = MAX_CHARS, list[str]()
    for number, line in enumerate(lines):
        if len(line) >= left:
            some = len(lines) - number
            kept += [line[: left - 1] + "…"] if left > SHORTEST_CUT else []
            kept.append(f"… {some} more line{'s' * (some != 1)} are not shown; ask for less, or use retire-cluster")
            break
        left -= len(line) + 1
        kept.append(line)
    return kept


def _grep(lines: Lines, values: Mapping[str, Any], budget: Budget) -> Lines:
    text, invert = values["text"], values["invert"]
    is_in: Callable[[str], bool]
    if values["pattern"]:
        is_in = pattern(text, values["ignore_case"], budget).is_in
    elif values["ignore_case"]:
        folded = text.casefold()
        is_in = lambda line: folded in line.casefold()  # noqa: E731
    else:
        is_in = lambda line: text in line  # noqa: E731
    found = [(number, line) for number, line in enumerate(lines, 1) if is_in(line) != invert]
    if values["count"]:
        return [str(len(found))]
    return [f"{number}:{line}" for number, line in found] if values["number"] else [line for _, line in found]


def _head(lines: Lines, values: Mapping[str, Any]) -> Lines:
    return lines[: max(0, values["count"])]


def _tail(lines: Lines, values: Mapping[str, Any]) -> Lines:
    count = max(0, values["count"])
    return lines[-count:] if count else []


def _sort(lines: Lines, values: Mapping[str, Any]) -> Lines:
    key = values["key"]
    if key is not None and not 1 <= key <= MAX_COLUMN:
        raise ClusterError("bad_field", f"sort: -k is 1 to {MAX_COLUMN}, not {key}", field="line")

    def word(line: str) -> str:
        if key is None:
            return line
        words = line.split(maxsplit=key)
        return words[key - 1] if len(words) >= key else ""

    def number(line: str) -> float:
        found = _NUMBER.match(word(line))
        return float(found[1]) if found else float("-inf")

    ordered = sorted(lines, key=number if values["numeric"] else word, reverse=values["reverse"])
    return list(dict.fromkeys(ordered)) if values["unique"] else ordered


def _wc(lines: Lines, values: Mapping[str, Any]) -> Lines:
    counts = {
        "lines": len(lines),
        "words": sum(len(line.split()) for line in lines),
        "characters": sum(len(line) + 1 for line in lines),
    }
    wanted = [name for name in counts if values[name]] or list(counts)
    return [" ".join(str(counts[name]) for name in wanted)]


def _cut(lines: Lines, values: Mapping[str, Any]) -> Lines:
    if values["characters"] is not None:
        chosen = _columns(values["characters"])
        return ["".join(line[start:end] for start, end in chosen) for line in lines]
    if values["fields"] is None:
        raise ClusterError("bad_field", "cut: say which with -f LIST or -c LIST, as: cut -f 1,3", field="line")
    chosen = _columns(values["fields"])
    delimiter = values["delimiter"]
    if delimiter == "":
        raise ClusterError("bad_field", "cut: -d is at least one character", field="line")
    joined = "  " if delimiter is None else delimiter
    return [joined.join(_fields(line.split(delimiter), chosen)) for line in lines]


def _fields(parts: list[str], chosen: Sequence[tuple[int, int]]) -> Lines:
    return [part for start, end in chosen for part in parts[start:end]]


def _columns(text: str) -> list[tuple[int, int]]:
    """Slices for `1`, `1,3`, `2-4`, `3-`, `-2`; in order, none twice."""
    chosen = []
    if text.count(",") > MAX_RANGES:
        raise _bad_list(text)
    for part in text.split(","):
        found = _RANGE.fullmatch(part)
        if found is None or not (found[1] or found[3]):
            raise _bad_list(text)
        start = int(found[1] or 1)
        end = int(found[3]) if found[3] else MAX_COLUMN if found[2] else start
        if not 1 <= start <= end <= MAX_COLUMN:
            raise _bad_list(text)
        chosen.append((start - 1, end))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(chosen):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _bad_list(text: str) -> ClusterError:
    what = ascii(text) if len(text) <= 40 else ascii(text[:40]) + "..."
    return ClusterError("bad_field", f"cut: {what} is not a list of columns, as 1, 1,3 or 2-4", field="line")


_FILTERS: dict[str, Callable[[Lines, Mapping[str, Any]], Lines]] = {
    "head": _head,
    "tail": _tail,
    "sort": _sort,
    "wc": _wc,
    "cut": _cut,
}
