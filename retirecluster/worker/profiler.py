"""The device profiler: what this device is, has and can do, as the register message tells it.

Each fact is asked of one source after the other until one knows; a source that fails costs nothing but itself. What no
source knows is left out, never sent as zero, and `sources` says where each fact that is there came from.
"""

from __future__ import annotations

import os
import platform as python_platform
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger

from retirecluster.domain.devices import DEVICE_INFO, HARDWARE_SPECS
from retirecluster.domain.fields import Problem
from retirecluster.domain.roles import guess_role
from retirecluster.domain.units import GIB
from retirecluster.platforms.base import Platform, Way, Ways
from retirecluster.platforms.psutil_probes import SOURCE as PSUTIL
from retirecluster.platforms.psutil_probes import PsutilProbes
from retirecluster.worker.tools import find_services, find_tools

OWNER = "owner"
MEASURED = "measured"
MAY_BE_ZERO = ("disk_free",)
"""Of anything else, zero is what systems say that do not know."""


@frozen
class Overrides:
    """What the owner announces instead of what was found, for demonstrations and for devices that err."""

    platform: str | None = None
    memory_gb: float | None = None


@define(eq=False)
class DeviceProfiler:
    """Looks at the device. `folder` is on the disk whose space counts; `monitor` gives the metrics.

    `role` None: guessed. `psutil` None: not installed. `benchmark` are figures that were measured.
    """

    platform: Platform
    folder: Path
    role: str | None
    overrides: Overrides = Overrides()
    metrics: Callable[[], Mapping[str, Any]] = dict
    psutil: PsutilProbes | None = None
    benchmark: Mapping[str, float] = field(factory=dict)
    cores: int | None = None
    """Processors that this process had at its start; None: look. It may keep itself to a part of them since."""
    log = Logger()
    _sources: dict[str, str] = field(factory=dict, init=False)

    def get_system_info(self) -> dict[str, Any]:
        """`device_info` of the register message."""
        found = self._known(DEVICE_INFO.by_name)
        role, why = self._role(found)
        self._sources["role"] = why
        return found | {"role": role}

    def get_hardware_specs(self) -> dict[str, Any]:
        """`hardware_specs` of the register message: sizes in bytes, what is unknown left out."""
        return self._known(HARDWARE_SPECS.by_name)

    def sources(self) -> dict[str, str]:
        """Where each fact that was found came from."""
        return dict(self._sources)

    def tools(self) -> dict[str, str]:
        """Programs that tasks may use: name to version, which is empty where it is not known."""
        return find_tools(os.environ.get("PATH", os.defpath))

    def detect_capabilities(self) -> list[str]:
        """The original's words, `internet` where a default route is known, the tools and services that were found."""
        words = ["computational", "network_services", "storage"]
        if self._tried("internet", self.platform.has_default_route):
            words.append("internet")
        words += self._tried("capabilities", self.platform.capabilities) or []
        words += [f"tool:{name}" for name in self.tools()]
        return (words + [f"service:{name}" for name in find_services(self.platform.root)])[:256]

    def get_performance_metrics(self) -> dict[str, Any]:
        """How the device is doing now."""
        return dict(self.metrics())

    def ways(self) -> Ways:
        """Every source of every fact, in the order in which they are asked."""
        ways = self.platform.ways()
        for name, more in (*self._by_psutil().items(), *self._plain().items(), *self.platform.last_ways().items()):
            ways[name] = ways.get(name, []) + more
        return ways | self._by_owner()

    def _by_psutil(self) -> dict[str, list[Way]]:
        probes = self.psutil
        if probes is None:
            return {}
        return {
            "memory_total": [(PSUTIL, probes.memory_total)],
            "cpu_physical_cores": [(PSUTIL, probes.physical_cores)],
            "disks": [(PSUTIL, probes.disks)],
            "network_interfaces": [(PSUTIL, probes.interfaces)],
        }

    def _plain(self) -> dict[str, list[Way]]:
        return {
            "platform": [("python", lambda: self.platform.name)],
            "python_version": [("python", python_platform.python_version)],
            "cpu_cores": [("python", lambda: self.cores or cpu_count())],
            "disk_space": [("statvfs", lambda: shutil.disk_usage(self.folder).total)],
            "disk_free": [("statvfs", lambda: shutil.disk_usage(self.folder).free)],
            "benchmark": [(MEASURED, lambda: dict(self.benchmark))],
        }

    def _by_owner(self) -> dict[str, list[Way]]:
        announced, memory_gb = self.overrides.platform, self.overrides.memory_gb
        found: dict[str, list[Way]] = {}
        if announced is not None:
            found["platform"] = [(OWNER, lambda: announced)]
        if memory_gb is not None:
            found["memory_total"] = [(OWNER, lambda: int(memory_gb * GIB))]
        return found

    def _role(self, info: Mapping[str, Any]) -> tuple[str, str]:
        if self.role is not None:
            return self.role, OWNER
        names = {name: HARDWARE_SPECS.by_name[name] for name in ("disks", "cpu_cores", "memory_total", "gpu")}
        specs = self._known(names)
        role, why = guess_role(
            default=self.platform.default_role,
            os_name=info.get("os_name", ""),
            model=info.get("model", ""),
            disks_bytes=tuple(
                each.get("total_bytes", 0) for each in specs.get("disks", ()) if not each.get("removable")
            ),
            cores=specs.get("cpu_cores", 0),
            memory_bytes=specs.get("memory_total", 0),
            gpu=bool(specs.get("gpu")),
        )
        return role, f"guessed: {why}"

    def _known(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The facts of a table that any source knows and that are what the table allows."""
        ways = self.ways()
        found = {}
        for name, each in fields.items():
            for source, ask in ways.get(name, ()):
                value = clean(self._tried(f"{name} from {source}", ask))
                if not (value or (value == 0 and name in MAY_BE_ZERO)) or self._senseless(name, each, value):
                    continue
                found[name] = value
                self._sources[name] = source
                break
        return found

    def _senseless(self, name: str, each: Any, value: Any) -> bool:
        """A probe that errs must not cost the device its registration."""
        problems: list[Problem] = []
        each.type.check(value, name, problems)
        if problems:
            self.log.debug("not announced: {problem}", problem=str(problems[0]))
        return bool(problems)

    def _tried(self, what: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except Exception as error:  # whatever a probe raises, it must not cost the others
            self.log.debug("{what} is not known here: {why}", what=what, why=repr(error))
            return None


def clean(value: Any) -> Any:
    """A probe's answer with its texts on one line and not longer than a message may have them."""
    if isinstance(value, str):
        return "".join(char if char.isprintable() else " " for char in value).strip()[:256]
    if isinstance(value, list):
        return [clean(each) for each in value[:256]]
    return {name: clean(each) for name, each in value.items()} if isinstance(value, dict) else value


def cpu_count() -> int | None:
    """Logical processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()
