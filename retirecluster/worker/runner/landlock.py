"""Landlock: what a process may do with files, signals and abstract sockets, set by itself, for good.

The names and values are those of the kernel's `linux/landlock.h`; each ABI version added some.
"""

from __future__ import annotations

import ctypes
import os
import stat

from retirecluster.worker.runner.system_calls import (
    LANDLOCK_ADD_RULE,
    LANDLOCK_CREATE_RULESET,
    LANDLOCK_RESTRICT_SELF,
    syscall,
)

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Iterable

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
ALL_RIGHTS = (1 << 13, 1 << 14, 1 << 15, 1 << 15, 1 << 16)
"""One above the greatest right of ABI 1, 2, 3, 4, 5 and later."""
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
SCOPED_SINCE_ABI = 6
_VERSION_FLAG = 1
_PATH_BENEATH = 1


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what `_pack_` has always meant; newer versions of ctypes want it said
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def version() -> int:
    """The kernel's ABI version. Raises OSError where there is no Landlock."""
    return syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))


class Landlock:
    """Makes rulesets for this kernel. Raises OSError where it has no Landlock."""

    def __init__(self) -> None:
        self.abi = version()
        self.handled = ALL_RIGHTS[min(self.abi, len(ALL_RIGHTS)) - 1] - 1
        self.scoped = self.abi >= SCOPED_SINCE_ABI

    def ruleset(self, readable: Iterable[str], writable: Iterable[str], devices: Iterable[str] = ()) -> int:
        """A descriptor of rules: everything but this is denied. Paths that are not there are left out."""
        rules = _Ruleset(self.handled, 0, (SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS) if self.scoped else 0)
        # Kernels that know fewer fields take a shorter structure.
        size = 24 if self.scoped else 8
        fd = syscall(LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0))
        try:
            for paths, rights in ((readable, READ), (writable, -1), (devices, READ_FILE | WRITE_FILE | IOCTL_DEV)):
                for path in paths:
                    self._allow(fd, path, rights & self.handled)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _allow(self, ruleset: int, path: str, rights: int) -> None:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                rights &= FILE_RIGHTS
            rule = _PathBeneath(rights, place)
            syscall(LANDLOCK_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
        finally:
            os.close(place)


def restrict_self(ruleset: int) -> None:
    """Obey the ruleset from now on, with all that comes from this process. Needs `no_new_privs`. Raises OSError."""
    syscall(LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
