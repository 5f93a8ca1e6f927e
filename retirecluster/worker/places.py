"""Which places of the disk a fenced task may read: the system and the Python it runs in, and nobody's own files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/etc", "/proc", "/sys", "/run",
    "/nix/store", "/gnu/store", "/snap", "/var/lib/alternatives", "/system", "/apex", "/vendor", "/product",
    "/linkerconfig",
    "/data/data/com.termux/files/usr",
)  # fmt: skip
SYSTEM_PROGRAMS = tuple(each for each in SYSTEM if each not in ("/etc", "/proc", "/sys", "/run"))
SYSTEM_SETTINGS = (
    "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "ssl/certs", "ssl/openssl.cnf", "pki",
    "ca-certificates", "localtime", "timezone", "passwd", "group", "nsswitch.conf", "hosts", "resolv.conf", "host.conf",
    "gai.conf", "services", "protocols", "os-release", "mime.types", "magic", "fonts", "ImageMagick-6",
    "ImageMagick-7", "locale.alias", "terminfo",
)  # fmt: skip
"""What of /etc is shown where its other entries are to be hidden: from tasks of a worker that is root, above all."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def readable_places(hidden: Iterable[Path], packages: list[str], executable: str, system: Iterable[str]) -> list[str]:
    """The places for a fence whose tasks never see what is `hidden`; `system` is `SYSTEM` or `system_files()`.

    `packages` are the folders of Python packages. One that is a home folder, or has one in it, is left out: programs
    that are started in it put it there.
    """
    homes = {Path.home(), Path("/root"), Path("/home")}
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.realpath(executable))]
    package = Path(__file__).parents[1]
    places = [*system, *own, str(package)]
    places += [each for each in packages if os.path.exists(each) and not _holds_any(Path(each), homes)]
    return carved([each for each in dict.fromkeys(places) if os.path.exists(each)], hidden)


def system_files() -> list[str]:
    """What of the system is shown where only named places are: programs, libraries, harmless settings."""
    found = [*SYSTEM_PROGRAMS, *(f"/etc/{each}" for each in SYSTEM_SETTINGS)]
    return [each for each in found if os.path.lexists(each)]


def carved(places: Iterable[str], hidden: Iterable[Path]) -> list[str]:
    """The places without what is hidden: one with something hidden in it is replaced by its other entries."""
    away = [each.resolve() for each in hidden]
    found: list[str] = []
    for place in places:
        found += _carve(Path(place), away)
    return list(dict.fromkeys(found))


def _carve(place: Path, hidden: list[Path]) -> list[str]:
    real = place.resolve()
    if any(real == each or each in real.parents for each in hidden):
        return []
    if not _holds_any(real, hidden):
        return [str(place)]
    try:
        entries = sorted(place.iterdir())
    except OSError:
        return []
    return [found for entry in entries for found in _carve(entry, hidden)]


def _holds_any(place: Path, others: Iterable[Path]) -> bool:
    """True where one of the others is this place or below it."""
    return any(place == other or place in other.parents for other in others)
