"""A database without Twisted: the store's own transactions, run at once, and crashes."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from retirecluster.domain.scheduler import Moment, Scheduler, Settings, Turn
from retirecluster.store.database import _count_incarnation, _prepare, _restore
from retirecluster.store.migrations import migrate
from retirecluster.store.writes import WriteSet, write_txn


class Disk:
    """The database of a main that writes each turn in its own transaction."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self.connection = self._open(folder / "life-0.db")

    def _open(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path)
        _prepare(connection)
        # What is under test is the order of things, not the disk: no waiting for it.
        connection.execute("PRAGMA synchronous = OFF")
        migrate(connection, path)
        _count_incarnation(connection, Moment(0.0, 0.0))
        return connection

    def write(self, turn: Turn, running_s: float) -> None:
        cursor = self.connection.cursor()
        write_txn(cursor, WriteSet.of(turn, running_s))
        self.connection.commit()

    def crash(self) -> None:
        """Go on with a copy of the files as a kill -9 would leave them."""
        before = self.folder / f"life-{self.lives}.db"
        self.lives += 1
        after = self.folder / f"life-{self.lives}.db"
        for suffix in ("", "-wal"):
            if Path(f"{before}{suffix}").exists():
                shutil.copy(f"{before}{suffix}", f"{after}{suffix}")
        self.connection.close()
        self.connection = self._open(after)

    def restored(self, settings: Settings, random: Random, now: Moment) -> Scheduler:
        """A scheduler as it is at start."""
        scheduler = Scheduler.create(settings, random, now)
        _restore(self.connection, scheduler, now)
        return scheduler

    def rows(self, query: str, *values: Any) -> list[Any]:
        return self.connection.execute(query, values).fetchall()

    def close(self) -> None:
        self.connection.close()
