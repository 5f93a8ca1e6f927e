"""What is said of the commands themselves: `help` and `completion`."""

from __future__ import annotations

from argparse import Namespace

from retirecluster.client.console import Console
from retirecluster.client.context import LocalHandlers
from retirecluster.domain.commands.help import help_lines
from retirecluster.domain.commands.model import CLI
from retirecluster.domain.commands.scripts import script


def show_help(console: Console, args: Namespace) -> int:
    """All commands, or one."""
    console.lines(help_lines(args.words, CLI, console.width))
    return 0


def show_completion(console: Console, args: Namespace) -> int:
    """The script for a shell."""
    console.out.write(script(args.shell))
    return 0


LOCAL: LocalHandlers = {"help": show_help, "completion": show_completion}
