"""The interface of a platform, and what is the same everywhere.

Every probe may raise OSError, ValueError or AttributeError, or return None: then the thing is unknown, and an
unknown thing is left out of what is announced, never sent as zero.
"""

from __future__ import annotations

import os
import platform as python_platform
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from retirecluster.platforms import interfaces

PROBE_ERRORS = (OSError, ValueError, AttributeError, IndexError, KeyError, TypeError, NotImplementedError)
"""What a probe may raise when a system does not tell."""
Way = tuple[str, Callable[[], Any]]
"""A source as people know it (`/proc/meminfo`, `psutil`, `getprop`), and how to ask it."""
Ways = dict[str, list[Way]]
"""By name of the fact, the best source first."""


class Platform:
    """One operating system. `root` is where /proc and /sys are found, for tests."""

    name = "unknown"
    """As requirements name it: linux, android, darwin, windows."""
    default_role = "worker"
    slow: Mapping[str, float] = {}
    """Probes of the monitor that run a program: asked in the background, every so many seconds."""
    task_variables: tuple[str, ...] = ()
    """Environment variables that programs need here, beside PATH and the language."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def default_slots(self, cpus: int) -> int:
        """How many tasks run at once unless the owner says."""
        return max(1, cpus)

    def memory_total(self) -> int | None:
        """Bytes."""
        return self.memory_by_sysconf()

    def memory_by_sysconf(self) -> int | None:
        """The same, as the C library says it."""
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

    def firmware_temperature_c(self) -> float | None:
        """What the firmware measures, where a program has to be asked for it: wanted only if no sensor tells."""
        return None

    def battery(self) -> dict[str, Any] | None:
        """`level` in percent and, where it is known, `charging`, `health` (a word) and `temperature_c`."""
        return None

    def throttling(self) -> dict[str, Any] | None:
        """What slows the device down: words, `now` and `since_boot`."""
        return None

    def owner_away_s(self, now: float) -> float | None:
        """How long nobody has used the device, where that can be told. `now` is in Unix seconds."""
        return None

    def metered(self) -> bool | None:
        """Whether what is sent over the network costs."""
        return None

    def disk_io(self) -> dict[str, int] | None:
        """Bytes read and written since the start of the device: `read_bytes`, `write_bytes`."""
        return None

    def network_io(self) -> dict[str, int] | None:
        """Bytes since the start of the device: `received_bytes`, `sent_bytes`, loopback left out."""
        return None

    def network_interfaces(self) -> list[dict[str, Any]] | None:
        """Interfaces as `interfaces.described` writes them, loopback left out."""
        return None

    def plain_interfaces(self) -> list[dict[str, Any]] | None:
        """The same, by their names alone."""
        names = [name for _, name in socket.if_nameindex() if not interfaces.is_loopback(name)]
        return [interfaces.described(name, kind=interfaces.kind_of(name)) for name in names] or None

    def has_default_route(self) -> bool | None:
        """Whether packets for the internet have a way out."""
        return None

    def cpu_model(self) -> str | None:
        return None

    def gpu(self) -> str | None:
        """The name of a GPU that tasks may use."""
        return "nvidia" if shutil.which("nvidia-smi") else None

    def ways(self) -> Ways:
        """How each fact of the profile is found out here. psutil, where it is installed, is asked after these."""
        return {
            "hostname": [("gethostname", socket.gethostname)],
            "os_name": [("python", lambda: f"{python_platform.system()} {python_platform.release()}".strip())],
            "architecture": [("uname", python_platform.machine)],
            "cpu_model": [("uname", python_platform.processor)],
            "memory_total": [("sysconf", self.memory_by_sysconf)],
            "gpu": [("PATH", self.gpu)],
        }

    def last_ways(self) -> Ways:
        """What is asked where neither these nor psutil know."""
        return {"network_interfaces": [("if_nameindex", self.plain_interfaces)]}

    def capabilities(self) -> list[str]:
        """Words of its own."""
        return []

    def read(self, path: str) -> str:
        """A small text file below the root."""
        return (self.root / path).read_text("utf-8", "replace").strip("\0\n ")

    def task_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What of the worker's environment programs need here."""
        return {name: environ[name] for name in self.task_variables if name in environ}


def preferring(ways: Ways, **better: list[Way]) -> Ways:
    """`ways` with further ones put before those that are there."""
    return ways | {name: each + ways.get(name, []) for name, each in better.items()}
