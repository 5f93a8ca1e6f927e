"""The `retire-cluster` command: its parser, and what happens with errors and signals.

Exit codes: 0 done, 1 a task failed, 2 wrong usage or input, 3 not allowed, 4 the main is not reachable or not able,
5 no such thing or not in that state, 6 too late, 70 a mistake of ours, 130 Ctrl+C.
"""

from __future__ import annotations

import os
import sys
import traceback
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from retirecluster import __version__
from retirecluster.client import (
    commands_access,
    commands_admission,
    commands_call,
    commands_cluster,
    commands_devices,
    commands_files,
    commands_household,
    commands_join,
    commands_local,
    commands_log,
    commands_login,
    commands_store,
    commands_submit,
    commands_tasks,
    commands_words,
)
from retirecluster.client.command_parser import add_commands, new_parser
from retirecluster.client.completing import complete_words
from retirecluster.client.console import Console, quiet_broken_pipe
from retirecluster.client.context import Context
from retirecluster.client.parsing import DEFAULTS, Parser, split_command
from retirecluster.domain.errors import ERRORS, ClusterError
from retirecluster.render.cells import visible

_DESCRIPTION = "Make the phones, laptops and single-board computers in your drawer work together."
_EPILOG = """\
start here:
  retire-cluster demo              a small cluster on this machine, doing real work
  retire-cluster up                a main node and workers here, until Ctrl+C
  retire-cluster submit -- uname -a
  retire-cluster tasks list
  retire-cluster join auto         on another device: work for the cluster of this network

exit codes: 0 done, 1 a task failed, 2 wrong usage or input, 3 not allowed, 4 the main node is not reachable or not
able, 5 no such thing or not in that state, 6 too late, 70 a mistake of ours, 130 Ctrl+C
"""
_SIGPIPE_EXIT = 141


_HANDLERS = (
    commands_access,
    commands_admission,
    commands_call,
    commands_cluster,
    commands_devices,
    commands_files,
    commands_household,
    commands_local,
    commands_log,
    commands_submit,
    commands_tasks,
)
_LOCAL = (commands_cluster, commands_join, commands_login, commands_store, commands_words)


def runs() -> dict[str, dict[str, Any]]:
    """What is run for each command, by its name: `run` under a reactor, or `run_now`."""
    found: dict[str, dict[str, Any]] = {}
    for module in _HANDLERS:
        found |= {name: {"run": handler} for name, handler in module.HANDLERS.items()}
    for local in _LOCAL:
        found |= {name: {"run_now": handler} for name, handler in local.LOCAL.items()}
    return found


def build_parser() -> Parser:
    """The whole grammar of the command line."""
    parser = new_parser(description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=f"retire-cluster {__version__}")
    add_commands(parser, runs())
    return parser


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The command line as a namespace; None where there is no command. Raises ClusterError for wrong usage."""
    before, after = split_command(arguments)
    parser = build_parser()
    args = parser.parse_args(before, Namespace(**DEFAULTS))
    if args.command is None:
        return None
    if after is not None and not args.takes_rest:
        raise ClusterError("bad_field", f"only submit takes a command after --, not {args.command}")
    args.command_line = after
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; gives the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # What this terminal cannot show becomes a question mark, and never a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    console = Console.for_process(os.environ)
    try:
        code = _perform(sys.argv[1:] if arguments is None else arguments, console)
    except ClusterError as error:
        console.note(f"retire-cluster: error: {visible(error.message)}")
        return error.kind.exit_code
    except BrokenPipeError:
        quiet_broken_pipe()
        return _SIGPIPE_EXIT
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        console.note(f"retire-cluster: error: {visible(str(error))}")
        return ERRORS["bad_config"].exit_code
    except Exception:
        traceback.print_exc()
        console.note("retire-cluster: error: that is a mistake in this program; please report the lines above")
        return ERRORS["internal"].exit_code
    return code


def _perform(arguments: Sequence[str], console: Console) -> int:
    """Run a command line, and see its output off: a pipe that was closed is noticed here, not as Python ends."""
    try:
        return _dispatch(arguments, console)
    except SystemExit as ended:  # argparse, after --help
        return int(ended.code or 0)
    finally:
        console.out.flush()


def _dispatch(arguments: Sequence[str], console: Console) -> int:
    if arguments[:1] == ["complete"]:  # for shells, and in no help
        return complete_words(console, arguments[1:], os.environ)
    args = parse(arguments)
    if args is None:
        build_parser().print_help(console.out)
        return 0
    if hasattr(args, "run_now"):
        return int(args.run_now(console, args))
    # Here and not above: the reactor takes longer to import than `--help` should take to appear.
    from retirecluster.client.running import run

    return run(lambda reactor: args.run(Context(reactor, console, os.environ), args))
