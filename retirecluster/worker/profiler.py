"""The device profiler: what this device is, has and can do, as the register message tells it."""

from __future__ import annotations

import os
import platform as python_platform
import shutil
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.logger import Logger

from retirecluster.domain.units import GIB
from retirecluster.platforms.base import PROBE_ERRORS, Platform

TOOLS = (
    "bash", "bwrap", "cargo", "clang", "convert", "cwebp", "docker", "ffmpeg", "ffprobe", "g++", "gcc", "git", "go",
    "java", "make", "magick", "node", "pandoc", "pdftotext", "perl", "podman", "rsync", "ruby", "rustc", "sox",
    "sqlite3", "tesseract", "whisper-cli", "yt-dlp",
)  # fmt: skip
"""Programs that tasks ask for; found ones are announced as `tool:ffmpeg`."""
Probe = Callable[[], Any]


@frozen
class Overrides:
    """What the owner announces instead of what was found, for demonstrations and for devices that err."""

    platform: str | None = None
    memory_gb: float | None = None


@frozen
class DeviceProfiler:
    """Looks at the device. `folder` is on the disk whose space counts; `monitor` gives the metrics."""

    platform: Platform
    folder: Path
    role: str
    overrides: Overrides = Overrides()
    metrics: Callable[[], Mapping[str, Any]] = dict
    log = Logger()

    def get_system_info(self) -> dict[str, Any]:
        """`device_info` of the register message."""
        return self._known(
            hostname=socket.gethostname,
            platform=lambda: self.overrides.platform or self.platform.name,
            architecture=python_platform.machine,
            python_version=python_platform.python_version,
            role=lambda: self.role,
        )

    def get_hardware_specs(self) -> dict[str, Any]:
        """`hardware_specs` of the register message: sizes in bytes, what is unknown left out."""
        return self._known(
            cpu_cores=cpu_count,
            memory_total=self._memory_total,
            disk_space=lambda: shutil.disk_usage(self.folder).total,
            disk_free=lambda: shutil.disk_usage(self.folder).free,
            network_interfaces=lambda: (self.platform.network_interfaces() or [])[:256],
            gpu=self.platform.gpu,
            cpu_model=self.platform.cpu_model,
        )

    def detect_capabilities(self) -> list[str]:
        """The original's words, `internet` where a default route is known, and the tools that were found."""
        words = ["computational", "network_services", "storage"]
        known = self._known(internet=self.platform.has_default_route)
        if known.get("internet"):
            words.append("internet")
        return words + self.platform.capabilities() + [f"tool:{name}" for name in TOOLS if shutil.which(name)]

    def get_performance_metrics(self) -> dict[str, Any]:
        """How the device is doing now."""
        return dict(self.metrics())

    def _memory_total(self) -> int | None:
        if self.overrides.memory_gb is not None:
            return int(self.overrides.memory_gb * GIB)
        return self.platform.memory_total()

    def _known(self, **probes: Probe) -> dict[str, Any]:
        found = {}
        for name, probe in probes.items():
            try:
                value = probe()
            except PROBE_ERRORS as error:
                self.log.debug("{name} is not known here: {why}", name=name, why=str(error))
                continue
            if value is not None and value != "":
                found[name] = value
        return found


def cpu_count() -> int | None:
    """Logical processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()
