"""`python -m retirecluster.store backup|restore`: what `retire-cluster backup` and `retire-cluster restore` start.

A program of its own, so that the client needs to know nothing of the store. One line on stdout, or one on stderr and
exit status 2.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from retirecluster.config import default_data_dir
from retirecluster.domain.errors import ClusterError
from retirecluster.store.backup import back_up, back_up_files, restore
from retirecluster.store.folder import DataFolder


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit status."""
    args = _parser().parse_args(arguments)
    files = DataFolder(Path(args.data_dir).absolute())
    try:
        for line in args.run(args, files, time.time()):
            print(line)
    except ClusterError as error:
        print(f"retire-cluster {args.command}: {' '.join(error.message.split())}", file=sys.stderr)
        return error.kind.exit_code
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m retirecluster.store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("backup", _back_up), ("restore", _restore)):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        if name == "backup":
            command.add_argument("--data-dir", default=default_data_dir("main"))
            command.add_argument("--output")
        else:
            command.add_argument("--data-dir", required=True)
            command.add_argument("file")
        command.add_argument("--without-files", action="store_true")
    return parser


def _back_up(args: Namespace, files: DataFolder, now_s: float) -> list[str]:
    made = back_up(files, Path(args.output) if args.output else None, now_s)
    moved = None if args.without_files else back_up_files(files, made)
    return [str(made)] if moved is None or not (moved.count or moved.missing) else [str(made), f"with {moved}"]


def _restore(args: Namespace, files: DataFolder, now_s: float) -> list[str]:
    done = restore(Path(args.file), files, now_s, not args.without_files)
    states = ", ".join(f"{count} {state}" for state, count in sorted(done.tasks.items())) or "none"
    lines = [f"{done.database} restored ({done.cluster_id}); tasks that had not ended: {states}"]
    if done.files is not None:
        lines.append(f"tasks' files: {done.files}")
    if done.aside is not None:
        lines.append(f"the database before is kept as {done.aside}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
