"""How the daemons are started from here."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def twistd() -> list[str]:
    """How to run twistd with the Python that runs this."""
    beside = Path(sys.executable).with_name("twistd.exe" if os.name == "nt" else "twistd")
    if beside.exists():
        return [str(beside)]
    return [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
