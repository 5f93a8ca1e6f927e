"""What a device is: what it says of itself when it registers, and how it is doing.

The field tables here describe the `register` and `heartbeat` messages and, through them, what the doors show.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import evolve, frozen

from retirecluster.domain.fields import (
    AnyObject,
    Boolean,
    Field,
    Integer,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Record,
    Text,
)

NAME = Text(max_length=128, min_length=1)
DEVICE_ID = Text(
    max_length=128,
    min_length=1,
    pattern=r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}",
    pattern_doc="letters, digits and . _ : - (128 at most, a letter or digit first)",
)
ROLES = ("worker", "compute", "mobile", "storage", "nas")
"""Roles that are known by name; others are allowed."""

DEVICE_INFO = Record(
    (
        Field("hostname", Text(255), nullable=True),
        Field("platform", NAME, "linux, android, darwin, windows, ...", nullable=True),
        Field("architecture", NAME, "aarch64, x86_64, ...", nullable=True),
        Field("python_version", NAME, nullable=True),
        Field("role", NAME, "worker, compute, mobile, storage, nas, or one of your own", nullable=True),
    )
)
HARDWARE_SPECS = Record(
    (
        Field("cpu_cores", Number(0, 4096), "logical processors", nullable=True),
        Field("memory_total", Integer(0, 2**56), "bytes", nullable=True),
        Field("disk_space", Integer(0, 2**62), "bytes in all", nullable=True),
        Field("disk_free", Integer(0, 2**62), "bytes free", nullable=True),
        Field("network_interfaces", ListOf(OneOf((NAME, AnyObject())), 256), nullable=True),
        Field("gpu", OneOf((Boolean(), Text(256))), "true, or its name", nullable=True),
        Field("cpu_model", Text(256), nullable=True),
    )
)
LABELS = MapOf(Text(256), 64)
PERCENT = Number(0, 100)
SYSTEM_METRICS = Record(
    (
        Field("cpu_usage", PERCENT, "percent of all processors", nullable=True),
        Field("memory_usage", PERCENT, "percent", nullable=True),
        Field("disk_usage", PERCENT, "percent", nullable=True),
        Field("load_average", ListOf(Number(0, 1e6), 3), "1, 5 and 15 minutes", nullable=True),
        Field("uptime", Number(0, 1e10), "seconds since the device started", nullable=True),
        Field("temperature", Number(-273.15, 1000), "degrees Celsius, the hottest sensor", nullable=True),
        Field("battery", OneOf((PERCENT, AnyObject())), "percent, or {level, charging}", nullable=True),
        Field("disk_io", AnyObject(), nullable=True),
        Field("network", AnyObject(), nullable=True),
    )
)


class Presence(str, Enum):
    """Whether a device can be talked to. `disconnected` may be back at once; `offline` was silent too long.

    What a device holds does not depend on it: attempts end with their leases.
    """

    ONLINE = "online"
    DISCONNECTED = "disconnected"
    OFFLINE = "offline"

    __str__ = str.__str__


@frozen
class DeviceProfile:
    """What a device said of itself at its last registration, in the units of the house.

    What it did not say is zero, empty or None: no demand is ever met by something unknown. `task_types` None
    means that it did not say, as the plain peers of the original protocol: it is offered every type.
    """

    device_id: str
    hostname: str = ""
    platform: str = ""
    architecture: str = ""
    python_version: str = ""
    role: str = "worker"
    cpu_cores: float = 0
    memory_bytes: int = 0
    storage_bytes: int = 0
    gpu: bool = False
    internet: bool = False
    tags: frozenset[str] = frozenset()
    capabilities: tuple[str, ...] = ()
    task_types: frozenset[str] | None = None
    slots: int = 1
    prefetch: int = 0
    isolation: int = 0
    speed: float = 1.0
    keeps_journal: bool = False

    def with_role(self, role: str) -> DeviceProfile:
        return evolve(self, role=role.lower())


def profile_from_register(device_id: str, data: Mapping[str, Any]) -> DeviceProfile:
    """The profile in a checked `register` message's data."""
    info: Mapping[str, Any] = data.get("device_info") or {}
    specs: Mapping[str, Any] = data.get("hardware_specs") or {}
    capabilities = tuple(data.get("capabilities") or ())
    types = data.get("task_types")
    disk = specs.get("disk_free")
    return DeviceProfile(
        device_id=device_id,
        hostname=info.get("hostname") or "",
        platform=(info.get("platform") or "").lower(),
        architecture=(info.get("architecture") or "").lower(),
        python_version=info.get("python_version") or "",
        role=(info.get("role") or "worker").lower(),
        cpu_cores=specs.get("cpu_cores") or 0,
        memory_bytes=specs.get("memory_total") or 0,
        storage_bytes=(specs.get("disk_space") or 0) if disk is None else disk,
        gpu=bool(specs.get("gpu")),
        internet="internet" in capabilities,
        tags=frozenset(data.get("tags") or ()),
        capabilities=capabilities,
        task_types=None if types is None else frozenset(types),
        slots=data.get("slots") or 1,
        prefetch=data.get("prefetch") or 0,
        isolation=data.get("isolation") or 0,
        speed=data.get("speed") or 1.0,
        keeps_journal=data.get("attempts") is not None,
    )
