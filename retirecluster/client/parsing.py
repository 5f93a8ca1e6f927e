"""An argument parser whose mistakes are `ClusterError`s of one line, with the nearest thing that exists."""

from __future__ import annotations

from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, HelpFormatter, Namespace
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from retirecluster.domain.commands.model import ANY, MAYBE, ONE, SOME, Argument, Kind, Option
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import nearest


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


def add_options(parser: ArgumentParser, options: Iterable[Option], *, optional: bool = False) -> None:
    """Give a parser options of the table, under their headings.

    With `optional` one that is not given leaves no trace: the same options exist before and after the command, and a
    default would undo the one given before.
    """
    places: dict[str, Any] = {}
    for option in options:
        key = option.either or option.heading
        if key not in places:
            places[key] = _place(parser, option)
        _add_option(places[key], option, SUPPRESS if optional or option.key in DEFAULTS else option.default)


def _place(parser: ArgumentParser, option: Option) -> Any:
    if option.either:
        return parser.add_mutually_exclusive_group()
    return parser.add_argument_group(option.heading) if option.heading else parser


def _add_option(place: Any, option: Option, default: Any) -> None:
    doc = option.doc.replace("%", "%%")
    if option.kind is None:
        place.add_argument(
            *option.flags, dest=option.key, action="store_true", default=False if default is None else default, help=doc
        )
        return
    more: dict[str, Any] = {"nargs": "?", "const": option.alone} if option.alone is not None else {}
    place.add_argument(
        *option.flags,
        dest=option.key,
        action="append" if option.repeated else "store",
        type=_reader(option.kind),
        metavar=option.metavar or None,
        choices=option.choices or None,
        required=option.required,
        default=default,
        help=doc,
        **more,
    )


def add_arguments(parser: ArgumentParser, arguments: Iterable[Argument]) -> None:
    """Give a parser arguments of the table."""
    nargs = {ONE: None, MAYBE: "?", SOME: "+", ANY: "*"}
    for each in arguments:
        parser.add_argument(
            each.name,
            nargs=nargs[each.count],
            type=_reader(each.kind),
            metavar=each.metavar or None,
            choices=each.choices or None,
            help=each.doc.replace("%", "%%"),
        )


def _reader(kind: Kind) -> Callable[[str], Any]:
    """How argparse reads a word of that kind: what is wrong with it is said in the kind's words."""

    def read(text: str) -> Any:
        try:
            return kind.read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return read


DEFAULTS = {
    "server": None,
    "token": None,
    "token_file": None,
    "data_dir": None,
    "profile": None,
    "format": "table",
    "watch": None,
}
"""Of the options that stand before the command, too."""


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What stands before and after the first `--`; None where there is no `--`."""
    words = list(arguments)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


__all__ = ["DEFAULTS", "Namespace", "Parser", "add_arguments", "add_options", "split_command"]
