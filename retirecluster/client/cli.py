"""The `retire-cluster` command: its parser, and what happens with errors and signals.

Exit codes: 0 done, 1 a task failed, 2 wrong usage or input, 3 not allowed, 4 the main is not reachable or not able,
5 no such thing or not in that state, 6 too late, 70 a mistake of ours, 130 Ctrl+C.
"""

from __future__ import annotations

import os
import sys
import traceback
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence

from retirecluster import __version__
from retirecluster.client.commands_call import add_call
from retirecluster.client.commands_cluster import add_cluster, add_init, add_version
from retirecluster.client.commands_devices import add_devices
from retirecluster.client.commands_files import add_files, add_get
from retirecluster.client.commands_household import add_signals
from retirecluster.client.commands_join import add_join, add_leave
from retirecluster.client.commands_local import add_demo, add_up
from retirecluster.client.commands_store import add_backup, add_restore
from retirecluster.client.commands_submit import add_submit
from retirecluster.client.commands_tasks import add_tasks
from retirecluster.client.console import Console, quiet_broken_pipe
from retirecluster.client.context import Context
from retirecluster.client.parsing import DEFAULTS, Parser, connection_options, format_options, split_command
from retirecluster.client.tables import visible
from retirecluster.domain.errors import ERRORS, ClusterError

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


def build_parser() -> Parser:
    """The whole grammar of the command line."""
    shared = [connection_options(), format_options()]
    parser = Parser(
        prog="retire-cluster",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        parents=shared,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"retire-cluster {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)
    add_submit(commands, shared)
    add_call(commands, shared)
    add_tasks(commands, shared)
    add_get(commands, shared)
    add_files(commands, shared)
    add_devices(commands, shared)
    add_cluster(commands, shared)
    add_signals(commands, shared)
    add_up(commands)
    add_join(commands)
    add_leave(commands)
    add_demo(commands)
    add_backup(commands)
    add_restore(commands)
    add_init(commands)
    add_version(commands)
    return parser


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The command line as a namespace; None where there is no command. Raises ClusterError for wrong usage."""
    before, after = split_command(arguments)
    parser = build_parser()
    args = parser.parse_args(before, Namespace(**DEFAULTS))
    if args.command is None:
        return None
    if after is not None and args.command != "submit":
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
    args = parse(arguments)
    if args is None:
        build_parser().print_help(console.out)
        return 0
    if hasattr(args, "run_now"):
        return int(args.run_now(console, args))
    # Here and not above: the reactor takes longer to import than `--help` should take to appear.
    from retirecluster.client.running import run

    return run(lambda reactor: args.run(Context(reactor, console, os.environ), args))
