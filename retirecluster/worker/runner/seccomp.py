"""The system calls that a fenced task may not make, as a filter that this package writes itself (classic BPF).

A deny-list: programs that people run need most calls, and what is dangerous is known by name. A denied call fails
with EPERM, as it does for an ordinary user; `clone3`, whose arguments a filter cannot see, with ENOSYS, so that the C
library takes `clone`; a call for another architecture ends the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from retirecluster.worker.runner.system_calls import PR_SET_SECCOMP, prctl

AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64, AUDIT_ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
DENIED: dict[str, tuple[int, int, int, int]] = {
    # name: number on x86_64, i386, aarch64, arm; -1 where it does not exist
    "ptrace": (101, 26, 117, 26),
    "process_vm_readv": (310, 347, 270, 376),
    "process_vm_writev": (311, 348, 271, 377),
    "process_madvise": (440, 440, 440, 440),
    "kcmp": (312, 349, 272, 378),
    "pidfd_getfd": (438, 438, 438, 438),
    "mount": (165, 21, 40, 21),
    "umount": (-1, 22, -1, -1),
    "umount2": (166, 52, 39, 52),
    "pivot_root": (155, 217, 41, 218),
    "chroot": (161, 61, 51, 61),
    "open_tree": (428, 428, 428, 428),
    "move_mount": (429, 429, 429, 429),
    "fsopen": (430, 430, 430, 430),
    "fsconfig": (431, 431, 431, 431),
    "fsmount": (432, 432, 432, 432),
    "fspick": (433, 433, 433, 433),
    "mount_setattr": (442, 442, 442, 442),
    "setns": (308, 346, 268, 375),
    "unshare": (272, 310, 97, 337),
    "kexec_load": (246, 283, 104, 347),
    "kexec_file_load": (320, -1, 294, 401),
    "init_module": (175, 128, 105, 128),
    "finit_module": (313, 350, 273, 379),
    "delete_module": (176, 129, 106, 129),
    "bpf": (321, 357, 280, 386),
    "perf_event_open": (298, 336, 241, 364),
    "add_key": (248, 286, 217, 309),
    "request_key": (249, 287, 218, 310),
    "keyctl": (250, 288, 219, 311),
    "userfaultfd": (323, 374, 282, 388),
    "io_uring_setup": (425, 425, 425, 425),
    "io_uring_enter": (426, 426, 426, 426),
    "io_uring_register": (427, 427, 427, 427),
    "open_by_handle_at": (304, 342, 265, 371),
    "fanotify_init": (300, 338, 262, 367),
    "lookup_dcookie": (212, 253, 18, 249),
    "quotactl": (179, 131, 60, 131),
    "quotactl_fd": (443, 443, 443, 443),
    "acct": (163, 51, 89, 51),
    "swapon": (167, 87, 224, 87),
    "swapoff": (168, 115, 225, 115),
    "reboot": (169, 88, 142, 88),
    "syslog": (103, 103, 116, 103),
    "vhangup": (153, 111, 58, 111),
    "settimeofday": (164, 79, 170, 79),
    "clock_settime": (227, 264, 112, 262),
    "clock_settime64": (-1, 404, -1, 404),
    "clock_adjtime": (305, 343, 266, 372),
    "adjtimex": (159, 124, 171, 124),
    "stime": (-1, 25, -1, -1),
    "sethostname": (170, 74, 161, 74),
    "setdomainname": (171, 121, 162, 121),
    "iopl": (172, 110, -1, -1),
    "ioperm": (173, 101, -1, -1),
    "modify_ldt": (154, 123, -1, -1),
    "vm86": (-1, 166, -1, -1),
    "vm86old": (-1, 113, -1, -1),
    "uselib": (134, 86, -1, 86),
    "nfsservctl": (180, 169, 42, 169),
    "move_pages": (279, 317, 239, 344),
}
CLONE = (56, 120, 220, 120)
CLONE3 = 435
IOCTL = (16, 54, 29, 54)
NEW_NAMESPACES = 0x7E020000
"""Every CLONE_NEW* flag that `clone` takes."""
INPUT_IOCTLS = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: typing into a terminal that somebody else reads."""
X32 = 0x40000000
_COLUMNS = {"x86_64": 0, "i386": 1, "i686": 1, "aarch64": 2, "armv7l": 3, "armv6l": 3, "armv8l": 3}
_ARCHITECTURES = (AUDIT_X86_64, AUDIT_I386, AUDIT_AARCH64, AUDIT_ARM)
_LOAD, _EQUAL, _ABOVE, _BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_SECCOMP_MODE_FILTER = 2


def column(machine: str, is_64_bit: bool) -> int | None:
    """Which column of the table this process needs: a 32-bit Python on a 64-bit kernel makes 32-bit calls."""
    if not is_64_bit:
        machine = {"x86_64": "i386", "aarch64": "armv8l"}.get(machine, machine)
    elif machine in ("armv8l", "armv7l"):
        return None
    return _COLUMNS.get(machine)


def program(which: int) -> bytes:
    """The filter for one column of the table, as the kernel takes it: 8 bytes an instruction, native byte order."""
    denied = sorted({numbers[which] for numbers in DENIED.values() if numbers[which] >= 0})
    code = [
        _step(_LOAD, 4),  # the architecture
        _step(_EQUAL, _ARCHITECTURES[which], 1, 0),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, 0),  # the call's number
    ]
    if which == 0:
        code += [_step(_ABOVE, X32, 0, 1), _step(_RETURN, _KILL_PROCESS)]
    code += [_step(_EQUAL, CLONE3, 0, 1), _step(_RETURN, _ERRNO | errno.ENOSYS)]
    for number in denied:
        code += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _ERRNO | errno.EPERM)]
    low = 16 if sys.byteorder == "little" else 20
    code += [
        _step(_EQUAL, CLONE[which], 0, 3),
        _step(_LOAD, low),  # its flags
        _step(_BITS, NEW_NAMESPACES, 5, 0),
        _step(_RETURN, _ALLOW),
        _step(_EQUAL, IOCTL[which], 0, 4),
        _step(_LOAD, low + 8),  # the request
        _step(_EQUAL, INPUT_IOCTLS[0], 1, 0),
        _step(_EQUAL, INPUT_IOCTLS[1], 0, 1),
        _step(_RETURN, _ERRNO | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(code)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def deny_dangerous_calls() -> None:
    """Put the filter on this process and all that come from it. Needs `no_new_privs`. Raises OSError."""
    which = column(os.uname().machine, sys.maxsize > 2**32)
    if which is None:
        raise OSError(errno.ENOSYS, f"there is no filter for {os.uname().machine}")
    code = program(which)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    prctl(PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(Program(len(code) // 8, ctypes.addressof(buffer))))
