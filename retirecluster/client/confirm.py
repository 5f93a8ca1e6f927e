"""Asking before something that is hard to undo."""

from __future__ import annotations

import sys

from retirecluster.client.console import Console
from retirecluster.domain.errors import ClusterError


def confirm(console: Console, question: str) -> None:
    """Return if the person says yes. Raises ClusterError if not, or if there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ClusterError("conflict", f"{question} Nobody is here to ask; say --yes if that is meant")
    console.err.write(f"{question} [y/N] ")
    console.err.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ClusterError("conflict", "nothing was done")
