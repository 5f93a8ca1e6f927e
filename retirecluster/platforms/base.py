"""The interface of a platform, and what is the same everywhere.

Every probe may raise OSError, ValueError or AttributeError, or return None: then the thing is unknown, and an
unknown thing is left out of what is announced, never sent as zero.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROBE_ERRORS = (OSError, ValueError, AttributeError, IndexError, KeyError, TypeError, NotImplementedError)
"""What a probe may raise when a system does not tell: psutil's own errors are subclasses or are turned into these."""


class Platform:
    """One operating system. `root` is where /proc and /sys are found, for tests."""

    name = "unknown"
    """As requirements name it: linux, android, darwin, windows."""
    default_role = "worker"
    task_variables: tuple[str, ...] = ()
    """Environment variables that programs need here, beside PATH and the language."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def default_slots(self, cpus: int) -> int:
        """How many tasks run at once unless the owner says."""
        return max(1, cpus)

    def memory_total(self) -> int | None:
        """Bytes."""
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def memory_usage(self) -> float | None:
        """Percent."""
        return None

    def cpu_times(self) -> tuple[float, float] | None:
        """Seconds all processors were busy, and seconds in all, since some moment."""
        return None

    def uptime_s(self) -> float | None:
        return None

    def load_average(self) -> list[float] | None:
        return [round(each, 2) for each in os.getloadavg()]

    def temperature_c(self) -> float | None:
        """The hottest sensor."""
        return None

    def battery(self) -> dict[str, Any] | None:
        """`level` in percent and `charging`."""
        return None

    def disk_io(self) -> dict[str, int] | None:
        """Bytes read and written since the start of the device: `read_bytes`, `write_bytes`."""
        return None

    def network_io(self) -> dict[str, int] | None:
        """Bytes since the start of the device: `received_bytes`, `sent_bytes`, loopback left out."""
        return None

    def network_interfaces(self) -> list[str] | None:
        """Names, loopback left out."""
        import socket

        return [name for _, name in socket.if_nameindex() if name != "lo" and not name.startswith("lo0")]

    def has_default_route(self) -> bool | None:
        """Whether packets for the internet have a way out."""
        return None

    def cpu_model(self) -> str | None:
        return None

    def gpu(self) -> str | None:
        """The name of a GPU that tasks may use."""
        return "nvidia" if shutil.which("nvidia-smi") else None

    def capabilities(self) -> list[str]:
        """Words of its own."""
        return []

    def health(self) -> dict[str, Any]:
        """Further metrics that only this platform knows."""
        return {}

    def read(self, path: str) -> str:
        """A small text file below the root."""
        return (self.root / path).read_text("utf-8", "replace").strip("\0\n ")

    def task_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What of the worker's environment programs need here."""
        return {name: environ[name] for name in self.task_variables if name in environ}
