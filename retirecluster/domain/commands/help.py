"""The table of commands as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from retirecluster.domain.commands.filter_table import FILTERS
from retirecluster.domain.commands.grammar import group_of, top_names, usage, with_general
from retirecluster.domain.commands.model import CLI, READ, Argument, Command
from retirecluster.domain.commands.table import COMMANDS, GROUPS
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import nearest, shown

DEFAULT_WIDTH = 100
NARROWEST = 20


def help_lines(words: Sequence[str], door: str, width: int | None = None) -> list[str]:
    """The help of a command, a group, a filter, or (no words) of all. Raises ClusterError not_found."""
    width = max(NARROWEST, width or DEFAULT_WIDTH)
    lines = _about(words, door, width) if words else _all(door, width)
    return [line.rstrip() for each in lines for line in _fitted(each, width)]


def _fitted(line: str, width: int) -> list[str]:
    """The line, continued below itself where it is too long."""
    indent = len(line) - len(line.lstrip(" "))
    return textwrap.wrap(line, width, subsequent_indent=" " * min(indent + 2, width // 2)) or [""]


def _all(door: str, width: int) -> list[str]:
    groups = {group.name: group.summary for group in GROUPS}
    single = {command.name: command.summary for command in COMMANDS if door in command.doors}
    names = [(name, groups.get(name) or single[name]) for name in top_names(door)]
    lines = ["Commands:", *_listed(names, width)]
    if door != CLI:
        lines += ["", "Filters, after |:", *_listed([(each.name, each.summary) for each in FILTERS], width)]
    return [*lines, "", "help COMMAND says more; so does --help in a shell."]


def _about(words: Sequence[str], door: str, width: int) -> list[str]:
    name = words[0]
    group = group_of(name)
    if group is not None and len(words) == 1:
        inside = [each for each in COMMANDS if each.path[0] == group.name and door in each.doors]
        alone = [f"Alone it means {group.name} {group.default}."] if group.default else []
        listed = _listed([(_short(each), each.summary) for each in inside], width)
        return [f"{group.name}: {group.summary}", "", *listed, *([""] if alone else []), *alone]
    command = find_command(words)
    if command is None:
        raise _unknown(words, door)
    return _command(with_general(command, door) if command in COMMANDS else command, width)


def _short(command: Command) -> str:
    return " ".join([command.path[-1], *(argument.shown for argument in command.arguments)])


def find_command(words: Sequence[str]) -> Command | None:
    """The command or filter that the words name, by its name or an alias."""
    group = group_of(words[0])
    if group is not None and len(words) == 2:
        inside = (each for each in COMMANDS if each.path[0] == group.name)
        return next((each for each in inside if words[1] in (each.path[1], *each.aliases)), None)
    every = (each for each in (*COMMANDS, *FILTERS) if len(each.path) == 1)
    return next((each for each in every if len(words) == 1 and words[0] in (each.path[0], *each.aliases)), None)


def _unknown(words: Sequence[str], door: str) -> ClusterError:
    known = [command.name for command in COMMANDS if door in command.doors] + [group.name for group in GROUPS]
    near = nearest(" ".join(words), known)
    hint = f"did you mean {near}?" if near else "help lists all"
    return ClusterError("not_found", f"there is no command {shown(' '.join(words))}; {hint}")


def _command(command: Command, width: int) -> list[str]:
    lines = [f"{command.name}: {command.summary}", "", f"  {usage(command)}"]
    if command.details:
        lines += ["", command.details]
    arguments = [(argument.name, _meaning(argument)) for argument in command.arguments]
    if arguments:
        lines += ["", "Arguments:", *_listed(arguments, width)]
    if command.options:
        lines += ["", "Options:", *_listed([(option.shown, option.doc) for option in command.options], width)]
    if command.aliases:
        lines += ["", f"Also: {', '.join(command.aliases)}"]
    if command.examples:
        lines += ["", "Examples:", *(f"  {each}" for each in command.examples)]
    if command.role != READ:
        lines += ["", f"It needs a token with the role {command.role}."]
    return lines


def _meaning(argument: Argument) -> str:
    if argument.kind.lookup in ("devices", "tasks"):
        return argument.kind.doc
    allowed = ", ".join(argument.choices) or argument.kind.doc
    return argument.doc if not argument.doc or allowed in argument.doc else f"{argument.doc}: {allowed}"


def _listed(pairs: Sequence[tuple[str, str]], width: int) -> list[str]:
    """`name  meaning` under each other; where that gets too narrow the meaning goes below the name."""
    column = max((len(name) for name, _ in pairs), default=0)
    if column > min(34, width // 2):
        column = min(34, width // 2)
    lines = []
    for name, meaning in pairs:
        room = max(10, width - column - 4)
        first, *others = textwrap.wrap(meaning, room) or [""]
        if len(name) > column:
            lines += [f"  {name}", f"  {'':{column}}  {first}"]
        else:
            lines.append(f"  {name:{column}}  {first}")
        lines += [f"  {'':{column}}  {each}" for each in others]
    return lines
