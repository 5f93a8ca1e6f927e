"""An argument parser whose mistakes are `ClusterError`s of one line, with the nearest thing that exists."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter, Namespace
from collections.abc import Sequence
from typing import Any, NoReturn

from retirecluster.client.formats import FORMATS
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import nearest
from retirecluster.domain.units import parse_duration_s


class Parser(ArgumentParser):
    """ArgumentParser with this program's errors; options cannot be abbreviated, so that new ones break nobody."""

    unknown_option_hint = ""
    """What to say of an option that is like no other."""

    def __init__(self, *args: Any, **options: Any) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ArgumentParser's, but what is left over is a mistake here and now: this parser knows its options."""
        found, left_over = super().parse_known_args(args, namespace)
        if left_over:
            self.error(self._about_unknown(left_over[0]))
        return found, left_over

    def error(self, message: str) -> NoReturn:
        raise ClusterError("bad_field", f"{message} (see {self.prog} --help)")

    def _about_unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word!r} is one argument too many"
        near = nearest(word.partition("=")[0], list(self._option_string_actions))
        hint = f"did you mean {near}?" if near else self.unknown_option_hint
        return f"there is no option {word}" + (f"; {hint}" if hint else "")

    def _check_value(self, action: Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(each) for each in action.choices]
        kind = "command" if action.dest.startswith("command") else f"value for {'/'.join(action.option_strings)}"
        near = nearest(str(value), known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(_main_names(action, known))}"
        self.error(f"unknown {kind}: {value!r}; {hint}")


def _main_names(action: Action, known: list[str]) -> list[str]:
    """The choices; of subcommands without their aliases."""
    choices = action.choices
    if not isinstance(choices, dict):
        return known
    # An alias leads to the same parser as the name before it.
    return list({id(parser): name for name, parser in reversed(choices.items())}.values())[::-1]


class _Formatter(HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)


def connection_options() -> Parser:
    """The options of every command that talks to a main."""
    parent = Parser(add_help=False)
    group = parent.add_argument_group("which cluster")
    # SUPPRESS: the same options exist before and after the command, and a default would undo the one given before.
    group.add_argument("--server", metavar="URL", default=SUPPRESS, help="the main's web port (RETIRE_CLUSTER_SERVER)")
    group.add_argument("--token", default=SUPPRESS, help="access token; --token-file keeps it out of process lists")
    group.add_argument("--token-file", metavar="FILE", default=SUPPRESS, help="file that holds the token")
    group.add_argument(
        "--data-dir",
        metavar="DIR",
        default=SUPPRESS,
        help="data folder of a main here, for its token (RETIRE_CLUSTER_DATA_DIR)",
    )
    return parent


def format_options() -> Parser:
    """The options of every command that shows something."""
    parent = Parser(add_help=False)
    group = parent.add_argument_group("how to show it")
    group.add_argument("--format", "-o", choices=FORMATS, default=SUPPRESS, help="table (default), json, csv or tsv")
    group.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="TIME",
        default=SUPPRESS,
        help="show it again every TIME (2s)",
    )
    return parent


def _seconds(text: str) -> float:
    return max(0.1, parse_duration_s(text))


def duration(text: str) -> float:
    """The `type` of an option that takes a duration; gives seconds."""
    return parse_duration_s(text)


duration.__name__ = _seconds.__name__ = "duration"

DEFAULTS = {"server": None, "token": None, "token_file": None, "data_dir": None, "format": "table", "watch": None}


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What stands before and after the first `--`; None where there is no `--`."""
    words = list(arguments)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


__all__ = ["DEFAULTS", "Namespace", "Parser", "connection_options", "duration", "format_options", "split_command"]
