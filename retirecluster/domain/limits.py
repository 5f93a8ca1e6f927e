"""What a task may use: what it asks for, what the cluster gives by default, and what a device's owner allows.

Each limit is a number for the whole tree of a task's processes, except where its text says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping

from retirecluster.domain.fields import Field, Integer, Number, Record
from retirecluster.domain.units import MIB

LIMIT_FIELDS = Record(
    (
        Field("memory_bytes", Integer(MIB, 2**50), "memory; without cgroups, address space of each process"),
        Field("cpu_time_s", Number(0.01, 30 * 86_400), "processor seconds; without cgroups, of each process"),
        Field("cpu_cores", Number(0.01, 4096), "processors' worth of time, as a quota: 0.5 is half of one"),
        Field("file_size_bytes", Integer(0, 2**50), "the longest file that it may write"),
        Field("disk_bytes", Integer(0, 2**50), "all that it may leave in its folder while it runs"),
        Field("processes", Integer(1, 1_000_000), "processes and threads at once"),
        Field("open_files", Integer(16, 1_048_576), "open files of each process"),
        Field("output_bytes", Integer(0, 64 * MIB), "what is streamed of its output; the tail is always kept"),
    ),
    closed=True,
)
Limits = Mapping[str, float]


def effective_limits(asked: Limits, cluster: Limits, device: Limits) -> dict[str, float]:
    """The limits of one attempt: those `asked` for, else the cluster's defaults, never above the device's."""
    found = dict(device)
    for name in LIMIT_FIELDS.by_name:
        wanted = asked.get(name, cluster.get(name))
        if wanted is not None:
            found[name] = min(wanted, device.get(name, wanted))
    return found
