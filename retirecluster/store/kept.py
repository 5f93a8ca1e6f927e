"""Task documents that were read from the database, kept in memory while what they say is still what is on disk.

Nothing gets in here but what was read, so that nobody is shown what a crash could take back. A transaction removes what
it is about to change when it is handed to the writer, not when it is done: from then on that is read from the disk, and
nobody sees the old after the new. What was read while a transaction began or ended is shown, and not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred

from retirecluster.store.reads import TaskFilter, task_txn, tasks_txn

MAX_TASKS = 2000
"""Documents of single tasks; each takes about 3 KiB."""
MAX_LISTS = 16
LISTED_TASKS = 100
"""Longer lists are not kept: they are not what is asked for again and again."""

Document = Mapping[str, Any]
Shape = Callable[[dict[str, Any]], Document]
"""Makes of what was read what is kept and shown; it leaves `task_id` and `seq` in place."""
Everything = None
Changed = Collection[int] | None
"""The seqs of the tasks that a transaction changes; `Everything` where it does not say."""


@define(eq=False)
class Kept:
    """Documents of tasks by id, and lists of tasks by what was asked for. Whoever gets one must not change it.

    `read` runs a `*_txn` function of `reads`. Each call must come with the same shape.
    """

    read: Callable[..., Deferred[Any]]
    moves: int = 0
    """Grows when a transaction begins and when it ends: what is read between two equal values is as it was before."""
    _tasks: dict[str, Document] = field(factory=dict)
    """The one that was asked for last is the last."""
    _ids: dict[int, str] = field(factory=dict)
    _lists: dict[TaskFilter, Sequence[Document]] = field(factory=dict)
    _under_way: list[Changed] = field(factory=list)

    # -- what is shown

    async def task(self, task_id: str, shape: Shape) -> Document | None:
        """A task as `task_txn` has it, in that shape; None if there is none."""
        found = self._tasks.pop(task_id, None)
        if found is not None:
            self._tasks[task_id] = found
            return found
        moves = self.moves
        read = await self.read(task_txn, task_id)
        if read is None:
            return None
        found = shape(read)
        self._keep_task(found, moves)
        return found

    async def tasks(self, wanted: TaskFilter, shape: Shape) -> Sequence[Document]:
        """Tasks as `tasks_txn` has them, each in that shape."""
        found = self._lists.get(wanted)
        if found is None:
            moves = self.moves
            found = [shape(each) for each in await self.read(tasks_txn, wanted)]
            self._keep_tasks(wanted, found, moves)
        return found

    def _keep_task(self, document: Document, moves: int) -> None:
        seq = document["seq"]
        if moves != self.moves or any(each is Everything or seq in each for each in self._under_way):
            return
        self._tasks[document["task_id"]] = document
        self._ids[seq] = document["task_id"]
        if len(self._tasks) > MAX_TASKS:
            del self._ids[self._tasks.pop(next(iter(self._tasks)))["seq"]]

    def _keep_tasks(self, wanted: TaskFilter, found: Sequence[Document], moves: int) -> None:
        """Any transaction that changes a task may change a list."""
        if moves == self.moves and not self._under_way and len(found) <= LISTED_TASKS:
            if len(self._lists) >= MAX_LISTS:
                self._lists.clear()
            self._lists[wanted] = found

    # -- what is changed

    def begin(self, changed: Changed) -> None:
        """A transaction is about to change these tasks; one that changes none is nothing to this."""
        if changed is not Everything and not changed:
            return
        self.moves += 1
        self._under_way.append(changed)
        self._lists.clear()
        if changed is Everything:
            self._tasks.clear()
            self._ids.clear()
            return
        for seq in changed if len(changed) < len(self._ids) else [each for each in self._ids if each in changed]:
            task_id = self._ids.pop(seq, None)
            if task_id is not None:
                del self._tasks[task_id]

    def end(self, changed: Changed) -> None:
        """That transaction is over, well or not."""
        if changed is Everything or changed:
            self.moves += 1
            self._under_way.remove(changed)
