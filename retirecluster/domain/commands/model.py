"""What the table of commands is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, frozen

from retirecluster.domain.access import ADMIN as ADMIN
from retirecluster.domain.access import OPERATOR as OPERATOR
from retirecluster.domain.access import READ as READ
from retirecluster.domain.access import SUBMIT as SUBMIT

TERMINAL, HTTP, CLI = "terminal", "http", "cli"
HERE = frozenset({TERMINAL})
"""Done by the terminal itself: the main is not asked."""
SERVED = frozenset({TERMINAL, HTTP})
"""For the terminal in the browser and POST /api/v1/command."""
EVERYWHERE = frozenset({TERMINAL, HTTP, CLI})
SHELL = frozenset({CLI})
"""For `retire-cluster` alone: it does something on the machine where it is typed."""

ONE, MAYBE, SOME, ANY = "one", "maybe", "some", "any"
"""How many words an argument takes: one; one or none; one or more; none or more."""


@frozen
class Kind:
    """What a word may be.

    `read` gives its value, or raises ValueError saying what is allowed. `lookup` names the list that completion
    takes candidates from, if there is one.
    """

    name: str
    doc: str
    read: Callable[[str], Any] = str
    lookup: str = ""


@frozen
class Argument:
    """A word, or several, that stand by their place."""

    name: str
    kind: Kind
    doc: str = ""
    count: str = ONE
    metavar: str = ""
    choices: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """How it stands in a usage line."""
        name = self.metavar or "|".join(self.choices) or self.name
        return {ONE: name, MAYBE: f"[{name}]", SOME: f"{name} [{name} ...]", ANY: f"[{name} ...]"}[self.count]


@frozen
class Option:
    """A word that begins with `-`, and what follows it.

    `kind` None makes it a flag. `alone` is the value of an option whose value may be left out. `either` names a set
    of which only one may be given; `heading` is where it stands in the help of the command line.
    """

    flags: tuple[str, ...]
    kind: Kind | None = None
    doc: str = ""
    name: str = ""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None
    alone: Any = None
    repeated: bool = False
    required: bool = False
    either: str = ""
    heading: str = ""
    doors: frozenset[str] = EVERYWHERE

    @property
    def key(self) -> str:
        """The name of its value."""
        return self.name or max(self.flags, key=len).lstrip("-").replace("-", "_")

    @property
    def is_flag(self) -> bool:
        return self.kind is None

    @property
    def shown(self) -> str:
        """How it stands in a usage line, as `-o, --format FORMAT`."""
        flags = ", ".join(sorted(self.flags, key=len))
        if self.kind is None:
            return flags
        value = self.metavar or ("|".join(self.choices) if self.choices else self.kind.name.upper())
        return f"{flags} [{value}]" if self.alone is not None else f"{flags} {value}"


@frozen
class Command:
    """One command. `path` is its name: one word or two, as ("devices", "list").

    `details` says more than the summary, `notes` what comes after the examples. `rest` says what may stand after `--`,
    if that is more than arguments. Examples are written as in the terminal.
    """

    path: tuple[str, ...]
    summary: str
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    aliases: tuple[str, ...] = ()
    role: str = READ
    doors: frozenset[str] = EVERYWHERE
    examples: tuple[str, ...] = ()
    details: str = ""
    notes: str = ""
    rest: str = ""
    usages: tuple[str, ...] = ()
    """How it is written on the command line, where the arguments alone do not say."""
    shows: bool = True
    """It shows something: --format and --watch are for it."""
    connects: bool = True
    """On the command line it talks to a main: --server and --token are for it."""

    @property
    def name(self) -> str:
        return " ".join(self.path)

    def at(self, door: str) -> Command:
        """The command with the options that it has at a door."""
        return evolve(self, options=tuple(each for each in self.options if door in each.doors))


@frozen
class Group:
    """The first word of several commands. Alone it means its `default`."""

    name: str
    summary: str
    default: str = ""
    aliases: tuple[str, ...] = ()
