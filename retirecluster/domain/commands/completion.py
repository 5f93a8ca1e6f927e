"""What may stand at the cursor of an unfinished line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from retirecluster.domain.commands.filter_table import FILTERS
from retirecluster.domain.commands.grammar import group_of, top_names, with_general
from retirecluster.domain.commands.model import ANY, CLI, SOME, TERMINAL, Command, Option
from retirecluster.domain.commands.selectors import ALL, LAST
from retirecluster.domain.commands.table import COMMANDS, CONNECTION_OPTIONS, FORMAT_OPTIONS, GROUPS
from retirecluster.domain.commands.words import Word, quoted, scan

MAX_CANDIDATES = 200
ROLES = ("worker", "compute", "mobile", "storage", "nas")
Lookups = Mapping[str, Sequence[str]]
"""Names that exist now: ids of `devices` and `tasks`, task `types`, `signals`. What is not there is not offered."""


@frozen
class Candidate:
    """A word that fits, and what it means."""

    text: str
    doc: str = ""


@frozen
class Completion:
    """`candidates` stand in place of what is between `start` and `end` of the line.

    `lookup` is the list that the candidates come from, if it is one of `Lookups` (or `files`: the shell knows).
    """

    start: int
    end: int
    candidates: tuple[Candidate, ...] = ()
    lookup: str = ""


@frozen
class _Slot:
    """What the word at the cursor may be: these, or names of a list."""

    candidates: tuple[Candidate, ...] = ()
    lookup: str = ""


def complete(line: str, cursor: int, lookups: Lookups, door: str = TERMINAL) -> Completion:
    """The candidates for the word that ends at the cursor (a place in `line`), in order."""
    cursor = max(0, min(cursor, len(line)))
    stages = scan(line[:cursor]).stages
    words = list(stages[-1])
    typed = words.pop() if words and words[-1].end == cursor else Word("", cursor, cursor)
    slot, attached = _slot(words, typed, len(stages) > 1, door)
    prefix = typed.text[len(attached) :]
    names = [*slot.candidates, *(Candidate(name) for name in _named(slot.lookup, lookups))]
    fitting = [each for each in names if each.text.startswith(prefix)][:MAX_CANDIDATES]
    found = tuple(Candidate(quoted(attached + each.text), each.doc) for each in fitting)
    return Completion(typed.start, cursor, found, slot.lookup)


def _named(lookup: str, lookups: Lookups) -> Iterable[str]:
    if lookup == "roles":
        return ROLES
    if lookup == "off":
        return ("off",)
    return lookups.get(lookup, ())


def _slot(words: list[Word], typed: Word, is_filter: bool, door: str) -> tuple[_Slot, str]:
    """What may stand there, and what of the typed word is settled: `--format=`."""
    if is_filter:
        if not words:
            return _Slot(tuple(Candidate(each.path[0], each.summary) for each in FILTERS)), ""
        found = next((each for each in FILTERS if each.path[0] == words[0].text), None)
        return (_Slot(), "") if found is None else _inside(found, words[1:], typed)
    words = _without_general(words) if door == CLI else words
    if not words:
        general = _flags((*FORMAT_OPTIONS, *CONNECTION_OPTIONS)) if door == CLI and typed.text[:1] == "-" else ()
        return _Slot((*_top(door), *general)), ""
    group = group_of(words[0].text)
    if group is None:
        command = next((each for each in _at(door) if len(each.path) == 1 and _is(each, words[0].text)), None)
        return (_Slot(), "") if command is None else _arguments(command, words[1:], typed, door)
    inside = [each for each in _at(door) if each.path[0] == group.name]
    if len(words) == 1 and typed.text[:1] != "-":
        return _Slot(tuple(Candidate(each.path[1], each.summary) for each in inside)), ""
    second = words[1].text if len(words) > 1 else ""
    command = next((each for each in inside if _is(each, second)), None)
    if command is not None:
        return _arguments(command, words[2:], typed, door)
    default = next((each for each in inside if each.path[1] == group.default), None)
    if default is None or (second and not second.startswith("-")):
        return _Slot(), ""
    return _arguments(default, words[1:], typed, door)


def _at(door: str) -> list[Command]:
    return [command for command in COMMANDS if door in command.doors]


def _is(command: Command, name: str) -> bool:
    return name in (command.path[-1], *command.aliases)


def _top(door: str) -> tuple[Candidate, ...]:
    summaries = {command.path[0]: command.summary for command in _at(door)} | {
        group.name: group.summary for group in GROUPS
    }
    return tuple(Candidate(name, summaries[name]) for name in top_names(door))


def _without_general(words: list[Word]) -> list[Word]:
    """The words of a command line without the options before the command."""
    options = {flag: option for option in (*FORMAT_OPTIONS, *CONNECTION_OPTIONS) for flag in option.flags}
    at = 0
    while at < len(words) and words[at].text.startswith("-"):
        option = options.get(words[at].text)
        at += 2 if option is not None and option.alone is None else 1
    return words[at:]


def _arguments(command: Command, words: Sequence[Word], typed: Word, door: str) -> tuple[_Slot, str]:
    if command.path == ("help",):
        return _about_commands(words, door), ""
    return _inside(with_general(command, door), words, typed)


def _about_commands(words: Sequence[Word], door: str) -> _Slot:
    if not words:
        return _Slot(_top(door))
    inside = [each for each in _at(door) if len(words) == 1 and len(each.path) == 2 and each.path[0] == words[0].text]
    return _Slot(tuple(Candidate(each.path[1], each.summary) for each in inside))


def _inside(command: Command, words: Sequence[Word], typed: Word) -> tuple[_Slot, str]:
    """What may stand after the name of a command."""
    places, waiting = 0, None
    for word in words:
        if word.text == "--":
            return _Slot(), ""
        if waiting is not None:
            waiting = None
        elif word.bare and word.text.startswith("-"):
            waiting = _waiting_for_value(command, word.text)
        else:
            places += 1
    if waiting is not None:
        return _of_option(waiting), ""
    if typed.bare and typed.text.startswith("-"):
        return _option_slot(command, words, typed.text)
    return _place(command, places), ""


def _waiting_for_value(command: Command, text: str) -> Option | None:
    option = next((each for each in command.options if text in each.flags), None)
    return None if option is None or option.is_flag or option.alone is not None else option


def _option_slot(command: Command, words: Sequence[Word], text: str) -> tuple[_Slot, str]:
    flag, equals, _ = text.partition("=")
    option = next((each for each in command.options if flag in each.flags), None)
    if equals:
        return (_Slot(), "") if option is None or option.is_flag else (_of_option(option), flag + "=")
    given = {word.text.partition("=")[0] for word in words}
    left = (each for each in command.options if each.repeated or given.isdisjoint(each.flags))
    return _Slot(_flags(left)), ""


def _flags(options: Iterable[Option]) -> tuple[Candidate, ...]:
    return tuple(Candidate(max(each.flags, key=len), each.doc) for each in options)


def _of_option(option: Option) -> _Slot:
    if option.choices:
        return _Slot(tuple(map(Candidate, option.choices)))
    return _Slot(lookup=option.kind.lookup if option.kind else "")


def _place(command: Command, places: int) -> _Slot:
    arguments = command.arguments
    if not arguments or (places >= len(arguments) and arguments[-1].count not in (SOME, ANY)):
        return _Slot()
    argument = arguments[min(places, len(arguments) - 1)]
    if argument.choices:
        return _Slot(tuple(map(Candidate, argument.choices)))
    words: tuple[Candidate, ...] = ()
    if argument.kind.lookup == "tasks":
        words = (Candidate(LAST, "the newest task"),)
    if argument.count == SOME and argument.kind.lookup in ("tasks", "devices"):
        words += (Candidate(ALL, f"all {argument.kind.lookup}"),)
    return _Slot(words, argument.kind.lookup)
