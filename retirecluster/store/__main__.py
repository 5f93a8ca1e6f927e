"""`python -m retirecluster.store backup|restore|audit-verify`: what commands of `retire-cluster` start.

A program of its own, so that the client needs to know nothing of the store. One line on stdout, or one on stderr and
exit status 2.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from retirecluster.config import default_data_dir
from retirecluster.domain.errors import ClusterError
from retirecluster.store.backup import back_up, back_up_files, restore
from retirecluster.store.folder import DataFolder
from retirecluster.store.integrity import open_for_reading
from retirecluster.store.reads import audit_state_txn


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
    verify = commands.add_parser("audit-verify")
    verify.add_argument("path")
    verify.set_defaults(run=_verify_audit, data_dir="")
    return parser


def _verify_audit(args: Namespace, files: DataFolder, now_s: float) -> list[str]:
    given = Path(args.path)
    path = DataFolder(given).database if given.is_dir() else given
    if not path.is_file():
        raise ClusterError("bad_config", f"{path} is missing: name a backup, or the data folder of a main")
    try:
        with closing(open_for_reading(path)) as connection:
            chain, bad = audit_state_txn(connection.cursor())
    except sqlite3.Error as error:
        raise ClusterError("bad_config", f"{path} has no audit trail that this version can read: {error}") from None
    if bad is not None:
        raise ClusterError("task_failed", f"row {bad.audit_no} {bad.why}")
    rows = chain.last_no - chain.first_no
    return [f"{rows} rows are as they were written; last row {chain.last_no}, hash {chain.last_hash or '(none)'}"]


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
