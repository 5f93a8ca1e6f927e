"""The parser of the command line, made of the table of commands and of what is run for each."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from collections.abc import Mapping
from typing import Any

from retirecluster.client.parsing import Parser, add_arguments, add_options
from retirecluster.domain.commands.model import CLI, Command, Group
from retirecluster.domain.commands.table import COMMANDS, CONNECTION_OPTIONS, FORMAT_OPTIONS, GROUPS, general_options

PROGRAM = "retire-cluster"
Defaults = Mapping[str, Mapping[str, Any]]
"""For each command by its name what its namespace gets: `run` or `run_now`."""
_REST_HINT = "a command and its options go after --, as: submit -- ls -l"


def new_parser(**more: Any) -> Parser:
    """The outermost parser: the options that may stand before a command."""
    parser = Parser(prog=PROGRAM, formatter_class=RawDescriptionHelpFormatter, **more)
    _add_general(parser)
    return parser


def _add_general(parser: Parser) -> None:
    add_options(parser, (*FORMAT_OPTIONS, *CONNECTION_OPTIONS), optional=True)


def add_commands(parser: Parser, run: Defaults) -> None:
    """Give the parser every command of the command line."""
    actions = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    inside: dict[str, Any] = {}
    groups = {group.name: group for group in GROUPS}
    for command in COMMANDS:
        if CLI not in command.doors:
            continue
        place = actions
        if len(command.path) > 1:
            name = command.path[0]
            if name not in inside:
                inside[name] = _add_group(actions, groups[name], run)
            place = inside[name]
        _add_command(place, command, run[command.name])


def _add_group(actions: Any, group: Group, run: Defaults) -> Any:
    parser = actions.add_parser(group.name, aliases=list(group.aliases), help=group.summary)
    _add_general(parser)
    default = f"{group.name} {group.default}"
    if group.default:
        [command] = [each for each in COMMANDS if each.name == default]
        add_options(parser, command.at(CLI).options, optional=True)
        given = {each.key: each.default for each in command.options}
        parser.set_defaults(verb=group.default, takes_rest=False, **given, **run[default])
    # Only a group that means nothing alone wants another word.
    return parser.add_subparsers(
        dest=f"command_{group.name}", metavar="COMMAND", title="commands", required=not group.default
    )


def _add_command(place: Any, command: Command, run: Mapping[str, Any]) -> None:
    epilog = _epilog(command)
    parser: Parser = place.add_parser(
        command.path[-1],
        aliases=list(command.aliases),
        help=command.summary,
        description=command.details or None,
        usage="\n       ".join(f"%(prog)s {each}" for each in command.usages) or None,
        **({"epilog": epilog, "formatter_class": RawDescriptionHelpFormatter} if epilog else {}),
    )
    add_arguments(parser, command.arguments)
    add_options(parser, command.at(CLI).options)
    add_options(parser, general_options(command, CLI), optional=True)
    parser.unknown_option_hint = _REST_HINT if command.rest else ""
    parser.set_defaults(verb=command.path[-1], takes_rest=bool(command.rest), **run)


def _epilog(command: Command) -> str:
    examples = [f"  {PROGRAM} {each}" for each in command.examples if "|" not in each]
    parts = ["\n".join(["examples:", *examples])] if examples else []
    return "\n\n".join([*parts, *([command.notes.rstrip("\n")] if command.notes else [])])
