"""What a device is: what it says of itself when it registers, and how it is doing.

The field tables here describe the `register` and `heartbeat` messages and, through them, what the doors show.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import evolve, field, frozen

from retirecluster.domain.fields import (
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
from retirecluster.domain.parts import known_part
from retirecluster.domain.schemas import PayloadSchema, read_schemas

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
        Field("os_name", Text(256), "as Android 13, Debian GNU/Linux 12", nullable=True),
        Field("model", Text(256), "of the device, as Raspberry Pi 4 Model B Rev 1.1", nullable=True),
    )
)
INTERFACE = Record(
    (
        Field("name", NAME, required=True),
        Field("type", Text(choices=("ethernet", "wifi", "mobile", "virtual")), nullable=True),
        Field(
            "mac",
            Text(17, 17, pattern=r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", pattern_doc="as 00:11:22:aa:bb:cc"),
            nullable=True,
        ),
        Field("addresses", ListOf(Text(64, 2), 64), nullable=True),
        Field("up", Boolean(), nullable=True),
    )
)
DISK = Record(
    (
        Field("name", NAME, required=True),
        Field("total_bytes", Integer(1, 2**62), nullable=True),
        Field("type", Text(choices=("hdd", "ssd", "flash")), nullable=True),
        Field("model", Text(128), nullable=True),
        Field("file_system", Text(64), nullable=True),
        Field("removable", Boolean(), nullable=True),
    )
)
BENCHMARK = Record(
    (
        Field("integers", Number(0.001, 1000), "relative to a common laptop of 2020", nullable=True),
        Field("floats", Number(0.001, 1000), "relative to the same", nullable=True),
        Field("memory_bytes_per_s", Number(1, 1e15), "copying", nullable=True),
        Field("disk_bytes_per_s", Number(1, 1e15), "writing to the disk of the data folder, synced", nullable=True),
    )
)
HARDWARE_SPECS = Record(
    (
        Field("cpu_cores", Number(0, 4096), "logical processors", nullable=True),
        Field("memory_total", Integer(0, 2**56), "bytes", nullable=True),
        Field("disk_space", Integer(0, 2**62), "bytes in all", nullable=True),
        Field("disk_free", Integer(0, 2**62), "bytes free", nullable=True),
        Field(
            "network_interfaces",
            ListOf(OneOf((NAME, INTERFACE)), 256),
            "names, or with type and addresses",
            nullable=True,
        ),
        Field("gpu", OneOf((Boolean(), Text(256))), "one that tasks may use: true, or its name", nullable=True),
        Field("cpu_model", Text(256), nullable=True),
        Field("cpu_physical_cores", Integer(1, 4096), "without hyper-threads", nullable=True),
        Field("disks", ListOf(DISK, 256), nullable=True),
        Field("graphics", ListOf(Text(128), 64), "graphics processors of any kind", nullable=True),
        Field("benchmark", BENCHMARK, "short measurements at join", nullable=True),
    )
)
TOOLS = MapOf(Text(64), 256, NAME)
SOURCES = MapOf(Text(64), 64, NAME)
"""Names of facts (of `device_info` and `hardware_specs`) and where each was found out."""
LABELS = MapOf(Text(256), 64)
PERCENT = Number(0, 100)
COUNT = Integer(0, 2**62)
RATE = Number(0, 1e15)
BATTERY = Record(
    (
        Field("level", PERCENT, nullable=True),
        Field("charging", Boolean(), nullable=True),
        Field("health", Text(64), "as the device says: good, overheat, dead, ...", nullable=True),
        Field("temperature_c", Number(-273.15, 1000), nullable=True),
        Field("wear_percent", PERCENT, "of its first capacity that is lost", nullable=True),
    )
)
DISK_IO = Record(
    (
        Field("read_bytes", COUNT, "since the device started", nullable=True),
        Field("write_bytes", COUNT, "since the device started", nullable=True),
        Field("read_bytes_per_s", RATE, nullable=True),
        Field("write_bytes_per_s", RATE, nullable=True),
    )
)
NETWORK_IO = Record(
    (
        Field("received_bytes", COUNT, "since the device started", nullable=True),
        Field("sent_bytes", COUNT, "since the device started", nullable=True),
        Field("received_bytes_per_s", RATE, nullable=True),
        Field("sent_bytes_per_s", RATE, nullable=True),
    )
)
THROTTLING = Record(
    (
        Field("now", ListOf(NAME, 16), nullable=True),
        Field("since_boot", ListOf(NAME, 16), nullable=True),
    )
)
SYSTEM_METRICS = Record(
    (
        Field("cpu_usage", PERCENT, "percent of all processors", nullable=True),
        Field("memory_usage", PERCENT, "percent", nullable=True),
        Field("disk_usage", PERCENT, "percent", nullable=True),
        Field("load_average", ListOf(Number(0, 1e6), 3), "1, 5 and 15 minutes", nullable=True),
        Field("uptime", Number(0, 1e10), "seconds since the device started", nullable=True),
        Field("temperature", Number(-273.15, 1000), "degrees Celsius, the hottest sensor", nullable=True),
        Field("battery", OneOf((PERCENT, BATTERY)), "percent, or more", nullable=True),
        Field("disk_io", DISK_IO, nullable=True),
        Field("network", NETWORK_IO, nullable=True),
        Field("throttling", THROTTLING, "what slows the device down, as its firmware says", nullable=True),
        Field("owner_away_s", Number(0, 1e10), "seconds since the device was last used by hand", nullable=True),
        Field("metered", Boolean(), "what is sent over the network costs", nullable=True),
        Field("problems", ListOf(Text(200), 16), "what is wrong with the device, for people", nullable=True),
    )
)


def known_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Checked system metrics without what the tables do not name: whatever else a device sends is not kept."""
    known: dict[str, Any] = known_part(
        SYSTEM_METRICS, {name: each for name, each in metrics.items() if each is not None}
    )
    return known


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
    task_schemas: Mapping[str, PayloadSchema] = field(factory=dict, eq=False)
    """By task type, what plug-ins on it say of their payloads."""

    @property
    def python_minor(self) -> str:
        """As `3.11`; empty where it is not known."""
        return ".".join(self.python_version.split(".")[:2])

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
        cpu_cores=min((each for each in (specs.get("cpu_cores"), data.get("cpus_offered")) if each), default=0),
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
        task_schemas=read_schemas(data.get("task_schemas")),
    )
