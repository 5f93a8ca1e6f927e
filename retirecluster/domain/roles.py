"""The role of a device, guessed from what it is. The owner's word, and a person's on the main, come before it."""

from __future__ import annotations

from retirecluster.domain.units import GIB

BIG_DISK_BYTES = 1800 * 10**9
"""A disk sold as 2 TB is big; its makers count in powers of ten."""
MANY_CORES = 8
MUCH_MEMORY_BYTES = 7.5 * GIB
"""Sold as 8 GiB: the system keeps some."""
NAS_NAMES = ("synology", "dsm", "qnap", "qts", "truenas", "openmediavault", "asustor", "unraid", "readynas")


def guess_role(
    *,
    default: str,
    os_name: str = "",
    model: str = "",
    disks_bytes: tuple[int, ...] = (),
    cores: float = 0,
    memory_bytes: int = 0,
    gpu: bool = False,
) -> tuple[str, str]:
    """(role, why). `default` is the platform's: `mobile` on a phone stays. What is unknown is zero or empty here."""
    if default != "worker":
        return default, "the platform"
    named = f"{os_name} {model}".lower()
    if any(name in named for name in NAS_NAMES):
        return "nas", "the name of its system"
    big = [size for size in disks_bytes if size >= BIG_DISK_BYTES]
    if len(big) >= 2:
        return "nas", f"{len(big)} big disks"
    if gpu:
        return "compute", "a GPU"
    if cores >= MANY_CORES and memory_bytes >= MUCH_MEMORY_BYTES:
        return "compute", f"{cores:g} processors"
    if big:
        return "storage", "a big disk"
    return default, "nothing stands out"
