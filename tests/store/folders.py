"""A data folder with a past: tasks in every state that matters, made by the real scheduler."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from random import Random
from typing import Any

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.scheduler import Moment, Scheduler, Settings, Task
from retirecluster.domain.tasks import spec_from_document
from retirecluster.store.database import _count_incarnation, _prepare, _restore
from retirecluster.store.folder import DataFolder, Mark
from retirecluster.store.migrations import migrate
from retirecluster.store.writes import WriteSet, write_txn

NOW = Moment(100.0, 1_700_000_000.0)
DEVICE = {"device_info": {"role": "compute"}, "hardware_specs": {"cpu_cores": 8}, "slots": 8, "attempts": []}


class MadeFolder:
    """A folder as a main leaves it; `states` are the tasks' by name, `epochs` likewise."""

    def __init__(self, path: Path) -> None:
        self.files = DataFolder(path)
        path.mkdir(parents=True)
        self.connection = sqlite3.connect(self.files.database)
        _prepare(self.connection)
        self.connection.execute("PRAGMA synchronous = OFF")
        migrate(self.connection, self.files.database)
        cluster_id, _ = _count_incarnation(self.connection, NOW)
        self.files.name_cluster(cluster_id)
        self.mark = Mark(self.files.mark)
        self.scheduler = restored(self.connection)

    def commit(self) -> None:
        self.scheduler.run_timers(NOW)
        writes = WriteSet.of(self.scheduler.take_turn(NOW), 1.0)
        self.mark.put(write_txn(self.connection.cursor(), writes))
        self.connection.commit()

    def submit(self, name: str, **document: Any) -> Task:
        spec = spec_from_document({"task_type": "echo", "name": name, **document})
        [task] = self.scheduler.submit([spec], NOW)
        return task

    def populate(self) -> None:
        """Tasks named for what becomes of them; `once-*` may be started once at most."""
        self.scheduler.register(profile_from_register("phone", DEVICE), DEVICE, {}, NOW)
        once = {"delivery": "at_most_once"}
        for name in ("completed", "failed-once", "assigned", "running", "cancelling"):
            self.submit(name)
        for name in ("once-assigned", "once-running", "once-cancelling"):
            self.submit(name, **once)
        self.commit()
        tasks = {task.name: task for task in self.scheduler.ledger.tasks.values()}
        events = self.scheduler.attempts
        for name, task in tasks.items():
            assert task.attempt is not None, name
            if "assigned" not in name:
                events.started(task, task.attempt, NOW)
            if name == "completed":
                events.result(task, task.attempt, {"status": "completed", "epoch": 1}, NOW)
            elif name == "failed-once":
                events.result(task, task.attempt, {"status": "failed", "epoch": 1}, NOW)
            elif "cancelling" in name:
                self.scheduler.tasks.cancel(task, NOW, "a person")
        self.scheduler.fleet.set_flags(self.scheduler.devices["phone"], NOW, cordoned=True)
        self.submit("queued")
        self.submit("once-queued", **once)
        self.scheduler.tasks.hold(self.submit("held"), NOW, "a person")
        self.commit()

    def close(self) -> DataFolder:
        self.connection.close()
        self.mark.close()
        return self.files


def restored(connection: sqlite3.Connection, now: Moment = NOW) -> Scheduler:
    scheduler = Scheduler.create(Settings(), Random(1), now)
    _restore(connection, scheduler, now)
    return scheduler


def populated(path: Path) -> DataFolder:
    made = MadeFolder(path)
    made.populate()
    return made.close()


def column(files: DataFolder, query: str) -> dict[str, Any]:
    """Two columns of a query as a dict."""
    connection = sqlite3.connect(files.database)
    try:
        return dict(connection.execute(query).fetchall())
    finally:
        connection.close()
