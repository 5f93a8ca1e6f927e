"""What a task demands of a device, and whether a device meets it.

`Requirements` is hashable: tasks that ask for the same thing share one object and one queue. `unmet` gives
every demand a device fails, in words that `tasks why` shows as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from retirecluster.domain.fields import Boolean, Field, Integer, ListOf, Number, OneOf, Record, Text
from retirecluster.domain.units import GIB

if TYPE_CHECKING:
    from retirecluster.domain.devices import DeviceProfile

NAME = Text(max_length=128, min_length=1)
PICKLED = "python_call"
"""The task type whose payload only the Python that made it can read."""

PYTHON = Text(8, 3, pattern=r"3\.[0-9]{1,3}", pattern_doc="a minor version of Python such as 3.11")

REQUIREMENT_FIELDS = Record(
    (
        Field(
            "min_cpu_cores",
            Number(0, 4096),
            "logical processors; also reserved while the task runs",
            nullable=True,
        ),
        Field("min_memory_gb", Number(0, 1e6), "GiB of memory; also reserved while the task runs", nullable=True),
        Field("min_storage_gb", Number(0, 1e9), "GiB of free disk", nullable=True),
        Field("platform", NAME, "operating system: linux, android, darwin, windows", nullable=True),
        Field("architecture", NAME, "such as aarch64 or x86_64", nullable=True),
        Field(
            "role",
            NAME,
            "role of the device: worker, compute, mobile, storage, nas, or your own",
            nullable=True,
        ),
        Field("tags", OneOf((ListOf(NAME, 32), NAME)), "tags that the device must all have", nullable=True),
        Field("gpu", Boolean(), "a GPU is needed", nullable=True),
        Field("internet", Boolean(), "internet access is needed", nullable=True),
        Field("device", NAME, "this device and no other", nullable=True),
        Field("not_devices", ListOf(NAME, 64), "any device but these", nullable=True),
        Field("isolation", Integer(0, 3), "the weakest isolation level that will do", nullable=True),
        Field("python", PYTHON, "minor version of the device's Python", nullable=True),
    ),
    closed=True,
)


@frozen
class Requirements:
    """Demands on a device. Zero, empty or None means: no demand. Sizes in bytes."""

    min_cpu_cores: float = 0
    min_memory_bytes: int = 0
    min_storage_bytes: int = 0
    platform: str = ""
    architecture: str = ""
    role: str = ""
    tags: frozenset[str] = frozenset()
    gpu: bool = False
    internet: bool = False
    device: str = ""
    isolation: int = 0
    python: str = ""
    not_devices: frozenset[str] = frozenset()

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> Requirements:
        """From a checked `requirements` object as it stands in a task."""
        given = {name: value for name, value in (document or {}).items() if value is not None}
        tags = given.get("tags", ())
        return cls(
            min_cpu_cores=given.get("min_cpu_cores", 0),
            min_memory_bytes=int(given.get("min_memory_gb", 0) * GIB),
            min_storage_bytes=int(given.get("min_storage_gb", 0) * GIB),
            platform=given.get("platform", "").lower(),
            architecture=given.get("architecture", "").lower(),
            role=given.get("role", "").lower(),
            tags=frozenset([tags] if isinstance(tags, str) else tags),
            gpu=given.get("gpu", False),
            internet=given.get("internet", False),
            device=given.get("device", ""),
            isolation=given.get("isolation", 0),
            python=given.get("python", ""),
            not_devices=frozenset(given.get("not_devices", ())),
        )

    def document(self) -> dict[str, Any]:
        """The `requirements` object that says this; `from_document` of it gives the same."""
        said: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("min_cpu_cores", "platform", "architecture", "role", "gpu", "internet", "device")
        }
        said |= {"isolation": self.isolation, "python": self.python}
        said |= {"min_memory_gb": self.min_memory_bytes / GIB, "min_storage_gb": self.min_storage_bytes / GIB}
        said |= {"tags": sorted(self.tags), "not_devices": sorted(self.not_devices)}
        return {name: value for name, value in said.items() if value}


def unmet(demand: Requirements, task_type: str, needs_journal: bool, profile: DeviceProfile) -> list[str]:
    """Every lasting reason why a device with this profile cannot run such a task; empty if it can."""
    return list(_unmet(demand, task_type, needs_journal, profile))


def _unmet(demand: Requirements, task_type: str, needs_journal: bool, profile: DeviceProfile) -> Iterator[str]:
    if demand.device and demand.device != profile.device_id:
        yield f"the task asks for device {demand.device}"
    if profile.device_id in demand.not_devices:
        yield f"the task asks for any device but {profile.device_id}"
    if profile.task_types is not None and task_type not in profile.task_types:
        yield f"does not offer task type {task_type}"
    if needs_journal and not profile.keeps_journal:
        yield "keeps no journal, which at_most_once needs"
    yield from _unmet_sizes(demand, profile)
    yield from _unmet_kind(demand, profile)
    if demand.python and demand.python != profile.python_minor:
        there = f"Python {profile.python_minor or 'of an unknown version'} there"
        what = "the function was pickled by" if task_type == PICKLED else "the task asks for"
        yield f"{there}, {what} {demand.python}"


def _unmet_sizes(demand: Requirements, profile: DeviceProfile) -> Iterator[str]:
    if demand.min_cpu_cores > profile.cpu_cores:
        yield f"min_cpu_cores {demand.min_cpu_cores:g} > {profile.cpu_cores:g}"
    if demand.min_memory_bytes > profile.memory_bytes:
        yield f"min_memory_gb {demand.min_memory_bytes / GIB:.3g} > {profile.memory_bytes / GIB:.3g}"
    if demand.min_storage_bytes > profile.storage_bytes:
        yield f"min_storage_gb {demand.min_storage_bytes / GIB:.3g} > {profile.storage_bytes / GIB:.3g}"
    if demand.isolation > profile.isolation:
        yield f"isolation {demand.isolation} > {profile.isolation}"


def _unmet_kind(demand: Requirements, profile: DeviceProfile) -> Iterator[str]:
    if demand.platform and demand.platform != profile.platform:
        yield f"platform is {profile.platform or 'unknown'}, not {demand.platform}"
    if demand.architecture and demand.architecture != profile.architecture:
        yield f"architecture is {profile.architecture or 'unknown'}, not {demand.architecture}"
    if demand.role and demand.role != profile.role:
        yield f"role is {profile.role or 'unknown'}, not {demand.role}"
    if demand.gpu and not profile.gpu:
        yield "has no GPU that is known"
    if demand.internet and not profile.internet:
        yield "has no internet access that is known"
    missing = demand.tags - profile.tags
    if missing:
        yield f"lacks tag{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing))}"
