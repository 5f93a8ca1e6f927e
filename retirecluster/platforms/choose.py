"""Which platform this is."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from retirecluster.platforms.android import Android
from retirecluster.platforms.base import Platform
from retirecluster.platforms.linux import Linux
from retirecluster.platforms.macos import MacOS
from retirecluster.platforms.raspberry_pi import RaspberryPi
from retirecluster.platforms.windows import Windows


def choose_platform(environ: Mapping[str, str], system: str = sys.platform, root: Path = Path("/")) -> Platform:
    """The platform for `sys.platform`'s word. Before Python 3.13 an Android calls itself linux."""
    if system == "android" or "ANDROID_ROOT" in environ or "TERMUX_VERSION" in environ:
        return Android(root)
    if system == "darwin":
        return MacOS(root)
    if system.startswith("win"):
        return Windows(root)
    if system.startswith("linux"):
        return RaspberryPi(root) if _is_raspberry_pi(root) else Linux(root)
    return Platform(root)


def _is_raspberry_pi(root: Path) -> bool:
    try:
        return "Raspberry Pi" in (root / "proc/device-tree/model").read_text("utf-8", "replace")
    except OSError:
        return False
