"""From a line to a command with its values, and to the filters after it.

This is the grammar of the terminal and of POST /api/v1/command. `retire-cluster` is given words by a shell and reads
them by the same table (client/parsing.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from attrs import define, evolve, field, frozen

from retirecluster.domain.commands.filter_table import FILTERS
from retirecluster.domain.commands.model import ANY, HTTP, MAYBE, ONE, SOME, Argument, Command, Group, Option
from retirecluster.domain.commands.table import COMMANDS, GROUPS, general_options
from retirecluster.domain.commands.words import Word, split
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import nearest, shown

_NUMBER = re.compile(r"-\d+(\.\d+)?")
MAX_WORDS = 2000


@frozen
class Filled:
    """A command with its values: of arguments and options by name, defaults filled in.

    `given` are the names that stood in the line; `rest` is what stood after `--`, None without one.
    """

    command: Command
    values: dict[str, Any]
    given: frozenset[str] = frozenset()
    rest: tuple[str, ...] | None = None


@frozen
class Parsed:
    """A whole line."""

    filled: Filled
    filters: tuple[Filled, ...] = ()


def parse(line: str, door: str = HTTP) -> Parsed | None:
    """What a line asks for; None for an empty one. Raises ClusterError (bad_field) that says what is allowed."""
    first, *others = split(line)
    if not first:
        return None
    if len(first) > MAX_WORDS:
        raise _wrong(f"the line has {len(first)} words; at most {MAX_WORDS} are read")
    command, words = find(first, door)
    return Parsed(fill(with_general(command, door), words), tuple(_filter(each) for each in others))


def with_general(command: Command, door: str) -> Command:
    """The command as it stands at a door, with the options that all commands of its kind have there."""
    at_door = command.at(door)
    return evolve(at_door, options=(*at_door.options, *general_options(command, door)))


def find(words: Sequence[Word], door: str) -> tuple[Command, Sequence[Word]]:
    """The command that words begin with, and the words after its name."""
    name = words[0].text
    group = group_of(name)
    if group is not None:
        return _in_group(group, words, door)
    for command in COMMANDS:
        if len(command.path) == 1 and name in (command.path[0], *command.aliases):
            _check_door(command, door)
            return command, words[1:]
    raise _unknown(name, top_names(door), "there is no command", "`help` lists them")


def group_of(name: str) -> Group | None:
    """The group of that name or alias."""
    return next((group for group in GROUPS if name in (group.name, *group.aliases)), None)


def _in_group(group: Group, words: Sequence[Word], door: str) -> tuple[Command, Sequence[Word]]:
    inside = [command for command in COMMANDS if command.path[0] == group.name]
    second = words[1] if len(words) > 1 else None
    if second is not None and not (second.bare and second.text.startswith("-")):
        for command in inside:
            if second.text in (command.path[1], *command.aliases):
                _check_door(command, door)
                return command, words[2:]
        known = [command.path[1] for command in inside if door in command.doors]
        raise _unknown(second.text, known, f"{group.name} has no command", f"there are {', '.join(known)}")
    default = next((each for each in inside if group.default and each.path[1] == group.default), None)
    if default is None:
        known = [command.path[1] for command in inside if door in command.doors]
        raise _wrong(f"{group.name} what? There are {', '.join(known)}")
    return default, words[1:]


def top_names(door: str) -> list[str]:
    """First words of commands at a door, in the order of the table."""
    return list(dict.fromkeys(command.path[0] for command in COMMANDS if door in command.doors))


def _check_door(command: Command, door: str) -> None:
    if door in command.doors:
        return
    if command.doors == frozenset({"terminal"}):
        where = "the terminal does that itself; it is not asked of the main"
    else:
        where = f"it works on the machine where it is typed: run `retire-cluster {command.name}` in a shell"
    raise _wrong(f"{command.name} is not for this door: {where}")


def _filter(words: Sequence[Word]) -> Filled:
    name = words[0].text
    for each in FILTERS:
        if name == each.path[0]:
            return fill(each, words[1:])
    names = [each.path[0] for each in FILTERS]
    raise _unknown(name, names, "there is no filter", f"after | there are {', '.join(names)}; nothing else is run")


# -- values


def fill(command: Command, words: Sequence[Word]) -> Filled:
    """The values that words give to a command's arguments and options. Raises ClusterError."""
    return _Filling(command, list(words)).fill()


@define
class _Filling:
    command: Command
    words: list[Word]
    values: dict[str, Any] = field(factory=dict)
    places: list[str] = field(factory=list)
    rest: tuple[str, ...] | None = None

    def fill(self) -> Filled:
        while self.words:
            word = self.words.pop(0)
            if word.text == "--" and word.bare:
                self._after_dashes()
            elif word.bare and word.text.startswith("-") and len(word.text) > 1 and not self._is_negative(word.text):
                self._option(word.text)
            else:
                self.places.append(word.text)
        given = frozenset(self.values)
        self._arguments()
        self._defaults()
        return Filled(self.command, self.values, given, self.rest)

    def _is_negative(self, text: str) -> bool:
        """Whether it is a number for an argument, and not `-5` for `-n 5`."""
        return bool(_NUMBER.fullmatch(text)) and self._by_flag("-n") is None

    def _after_dashes(self) -> None:
        remaining = tuple(word.text for word in self.words)
        self.words.clear()
        if self.command.rest:
            self.rest = remaining
        else:
            self.places += remaining

    # options

    def _by_flag(self, flag: str) -> Option | None:
        return next((each for each in self.command.options if flag in each.flags), None)

    def _option(self, text: str) -> None:
        flag, equals, attached = text.partition("=")
        option = self._by_flag(flag)
        if option is not None:
            self._take(option, flag, attached if equals else None)
        elif text.startswith("--"):
            raise self._no_option(flag)
        elif _NUMBER.fullmatch(text) and (count := self._by_flag("-n")) is not None:
            self._take(count, "-n", text[1:])
        else:
            self._short_options(text)

    def _short_options(self, text: str) -> None:
        """As `-iv`, or `-ojson`."""
        at = 1
        while at < len(text):
            flag = f"-{text[at]}"
            option = self._by_flag(flag)
            if option is None:
                raise self._no_option(text if at == 1 else flag)
            at += 1
            if not option.is_flag:
                self._take(option, flag, text[at:] or None)
                return
            self._take(option, flag, None)

    def _take(self, option: Option, flag: str, attached: str | None) -> None:
        self._check_either(option, flag)
        if option.kind is None:
            if attached is not None:
                raise self._wrong(f"{flag} takes no value, not {shown(attached)}")
            self.values[option.key] = True
            return
        text = attached
        if text is None:
            text = self._next_value(option, flag)
        value = option.alone if text is None else self._read(option, flag, text)
        if option.repeated:
            self.values.setdefault(option.key, []).append(value)
        elif option.key in self.values:
            raise self._wrong(f"{flag} stands twice; once is enough")
        else:
            self.values[option.key] = value

    def _check_either(self, option: Option, flag: str) -> None:
        for each in self.command.options:
            if option.either and each.either == option.either and each.key != option.key and each.key in self.values:
                raise self._wrong(f"{flag} and {each.flags[-1]} do not go together; leave one out")

    def _next_value(self, option: Option, flag: str) -> str | None:
        following = self.words[0] if self.words else None
        if option.alone is not None:
            if following is not None and option.kind is not None and _reads(option, following.text):
                return self.words.pop(0).text
            return None
        if following is None or (following.bare and following.text.startswith("-") and len(following.text) > 1
                                 and not _NUMBER.fullmatch(following.text)):  # fmt: skip
            raise self._wrong(f"{flag} needs a value: {_allowed(option)}")
        return self.words.pop(0).text

    def _read(self, option: Option, flag: str, text: str) -> Any:
        assert option.kind is not None
        if option.choices and text not in option.choices:
            raise self._wrong(f"{flag}: {_not_among(text, option.choices)}")
        try:
            return option.kind.read(text)
        except ValueError as error:
            raise self._wrong(f"{flag}: {_printable(error)}") from None

    def _no_option(self, flag: str) -> ClusterError:
        flags = [each for option in self.command.options for each in option.flags]
        near = nearest(flag, flags)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(flags)}" if flags else "it has none"
        if self.command.rest and not near:
            hint = f"{self.command.rest} goes after --, as: {self.command.name} -- ls -l"
        return self._wrong(f"there is no option {_printable(flag)}; {hint}")

    # arguments

    def _arguments(self) -> None:
        places = self.places
        for argument in self.command.arguments:
            if argument.count in (SOME, ANY):
                taken, places = places, []
                if not taken and argument.count == SOME:
                    raise self._missing(argument)
                self.values[argument.name] = [self._read_argument(argument, text) for text in taken]
            elif places:
                self.values[argument.name] = self._read_argument(argument, places[0])
                places = places[1:]
            elif argument.count == ONE:
                raise self._missing(argument)
            else:
                assert argument.count == MAYBE
                self.values[argument.name] = None
        if places:
            raise self._wrong(f"{shown(places[0])} is one word too many; it is {usage(self.command)}")

    def _read_argument(self, argument: Argument, text: str) -> Any:
        if argument.choices and text not in argument.choices:
            raise self._wrong(_not_among(text, argument.choices))
        try:
            return argument.kind.read(text)
        except ValueError as error:
            raise self._wrong(f"{argument.name}: {_printable(error)}") from None

    def _missing(self, argument: Argument) -> ClusterError:
        what = ", ".join(argument.choices) or argument.kind.doc
        example = next(iter(self.command.examples), "")
        return self._wrong(f"{argument.name} is missing: {what}" + (f"; for example: {example}" if example else ""))

    def _defaults(self) -> None:
        for option in self.command.options:
            if option.required and option.key not in self.values:
                raise self._wrong(f"{option.flags[0]} is needed: {_allowed(option)}")
            self.values.setdefault(option.key, False if option.is_flag else option.default)

    def _wrong(self, message: str) -> ClusterError:
        return _wrong(f"{self.command.name}: {message}")


def usage(command: Command) -> str:
    """`devices show device`: the name and the arguments; options in short."""
    words = [command.name, *(argument.shown for argument in command.arguments)]
    if command.options:
        words.insert(1, "[options]")
    return " ".join([*words, *(["[-- " + command.rest + "]"] if command.rest else [])])


def _reads(option: Option, text: str) -> bool:
    assert option.kind is not None
    try:
        option.kind.read(text)
    except ValueError:
        return False
    return not text.startswith("-")


def _allowed(option: Option) -> str:
    return ", ".join(option.choices) or (option.kind.doc if option.kind else "")


def _not_among(text: str, choices: Iterable[str]) -> str:
    near = nearest(text, list(choices))
    hint = f"did you mean {near}?" if near else f"there are {', '.join(choices)}"
    return f"{_printable(shown(text))} is not one of them; {hint}"


def _printable(what: object) -> str:
    """What a message says of somebody's word: short, and nothing that a terminal would obey."""
    text = str(what)
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 300 else text[:299] + "…"


def _unknown(name: str, known: Sequence[str], what: str, otherwise: str) -> ClusterError:
    near = nearest(name, list(known))
    return _wrong(f"{what} {shown(name)}; " + (f"did you mean {near}?" if near else otherwise))


def _wrong(message: str) -> ClusterError:
    return ClusterError("bad_field", message, field="line")
