"""`retire-cluster backup` and `restore`: the data folder of a main on this machine.

The work is done by `python -m retirecluster.store`, a process of its own: this package knows the main by its API alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from retirecluster.client.console import Console
from retirecluster.client.context import LocalHandlers
from retirecluster.config import default_data_dir


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


LOCAL: LocalHandlers = {"backup": backup, "restore": restore}
