"""What a failed transaction means for those who wait for it."""

from __future__ import annotations

import errno
import sqlite3
from enum import Enum


class StoreFailure(Enum):
    """Who has to do something about a failed transaction."""

    BUSY = "another program has the database locked: the same again, later"
    FULL = "the disk is full: the same again, once there is room"
    BROKEN = "the disk or the database is broken: stop"


def store_failure(error: BaseException | None) -> StoreFailure:
    """What kind of failure an exception of a transaction stands for.

    Told apart by SQLite's words: their codes are in the exception only from Python 3.11 on.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFailure.FULL
    if isinstance(error, sqlite3.OperationalError):
        text = str(error)
        if "is locked" in text or "busy" in text:
            return StoreFailure.BUSY
        if "is full" in text:
            return StoreFailure.FULL
    return StoreFailure.BROKEN
