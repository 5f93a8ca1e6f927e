"""`retire-cluster backup` and `restore`: the data folder of a main on this machine.

The work is done by `python -m retirecluster.store`, a process of its own: this package knows the main by its API alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import SUPPRESS, Namespace
from pathlib import Path
from typing import Any

from retirecluster.client.console import Console
from retirecluster.client.parsing import Parser
from retirecluster.config import default_data_dir


def add_backup(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "backup",
        help="copy the database of the main on this machine, also while it runs",
        description="Copy the database of a main on this machine to one file, as of one moment; the main may run. "
        "The copy is checked and on disk when this ends. Tasks' files go to FILE.files beside it, as links where that "
        "is the same disk.",
    )
    parser.add_argument("--data-dir", metavar="DIR", default=SUPPRESS, help="data folder of the main")
    parser.add_argument("--output", metavar="FILE", help="where to; default: a new file in backups/ of the data folder")
    parser.add_argument("--without-files", action="store_true", help="leave out the contents of tasks' files")
    parser.set_defaults(run_now=backup)


def add_restore(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "restore",
        help="put a backup in place of the database of a main that is stopped",
        description="Put a backup in place of the database of a main that is stopped. The replaced database is kept "
        "beside it. Tasks that had not ended when the backup was made are queued again, those that may be started "
        "once at most are held or lost; attempts granted before are void. Tasks' files come back from FILE.files, each "
        "checked by its hash.",
    )
    parser.add_argument("--without-files", action="store_true", help="leave the contents of tasks' files as they are")
    parser.add_argument("file", metavar="FILE", help="what retire-cluster backup wrote")
    parser.add_argument("--data-dir", metavar="DIR", required=True, help="data folder of the main")
    parser.set_defaults(run_now=restore)


def backup(console: Console, args: Namespace) -> int:
    """Start the program that copies; gives its exit code."""
    folder = args.data_dir or os.environ.get("RETIRE_CLUSTER_DATA_DIR") or default_data_dir("main")
    output = ["--output", str(Path(args.output).absolute())] if args.output else []
    return _run("backup", "--data-dir", folder, *output, *_without_files(args))


def restore(console: Console, args: Namespace) -> int:
    """Start the program that restores; gives its exit code."""
    return _run("restore", "--data-dir", args.data_dir, *_without_files(args), "--", str(Path(args.file).absolute()))


def _without_files(args: Namespace) -> list[str]:
    return ["--without-files"] if args.without_files else []


def _run(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "retirecluster.store", *arguments], check=False).returncode
