"""System calls that Python has no function for, through ctypes. Loaded only where a fence needs them."""

from __future__ import annotations

import ctypes
import os

LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""The same number on every architecture: these calls are newer than the common table."""
PR_SET_DUMPABLE = 4
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 38, 39
PR_CAPBSET_READ, PR_CAPBSET_DROP = 23, 24
_CAPABILITY_VERSION_3 = 0x20080522
CLONE_NEWUSER = 0x10000000

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_prctl = _libc.prctl


def syscall(number: int, *arguments: object) -> int:
    """Call the kernel. Raises OSError."""
    found = int(_syscall(ctypes.c_long(number), *arguments))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found


def prctl(option: int, second: object, third: object = 0) -> None:
    """Raises OSError."""
    zero = ctypes.c_ulong(0)
    if _prctl(option, _long(second), _long(third), zero, zero) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _long(value: object) -> object:
    return ctypes.c_ulong(value) if isinstance(value, int) else value


def no_new_privileges() -> None:
    """From here on no setuid program gives anything, to this process and all that come from it."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every special right of root for good; with `no_new_privs` no program gives any back. Raises OSError."""
    number = 0
    while _prctl(PR_CAPBSET_READ, _long(number), _long(0), _long(0), _long(0)) == 1:
        prctl(PR_CAPBSET_DROP, number)
        number += 1
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    if _libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def prctl_get_no_new_privs() -> bool:
    """Whether it is so."""
    zero = ctypes.c_ulong(0)
    return bool(_prctl(PR_GET_NO_NEW_PRIVS, zero, zero, zero, zero) == 1)


def unshare_user() -> None:
    """Move to a user namespace of its own. Raises OSError where that is not allowed."""
    if _libc.unshare(CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
