"""What tasks and devices may do with files: inputs at submit, outputs at a result, and who may read and write which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, evolve

from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Problem
from retirecluster.domain.files import MAX_OUTPUTS, artifact_problems
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.domain.tasks import TaskSpec
from retirecluster.main.device_tokens import DeviceTokens
from retirecluster.main.file_store import FileStore
from retirecluster.store import files as rows
from retirecluster.store.database import Database
from retirecluster.wire.messages import Message

PEOPLE = "people"
"""The uploader of whatever comes with the admin token."""


@define(eq=False)
class TaskFiles:
    """The files of a cluster's tasks. `port` is where devices fetch them; None while nothing listens."""

    store: FileStore
    database: Database
    scheduler: Scheduler
    tokens: DeviceTokens
    moment: Callable[[], Moment]
    port: int | None = None

    # -- tasks

    async def require_inputs(self, specs: Sequence[TaskSpec]) -> None:
        """See that every input is complete here, and stays. Raises ClusterError bad_field with the digests."""
        wanted = sorted({each.sha256 for spec in specs for each in spec.inputs})
        if not wanted:
            return
        there = await self.database.change(rows.want_files_txn, wanted, self.moment().wall_s)
        problems = []
        for number, spec in enumerate(specs):
            prefix = f"[{number}]." if len(specs) > 1 else ""
            problems += [
                Problem(
                    f"{prefix}files.inputs[{index}].sha256",
                    f"{each.sha256} is not complete on the main: upload it first, with PUT /api/v1/files/{each.sha256}",
                )
                for index, each in enumerate(spec.inputs)
                if each.sha256 not in there
            ]
        if problems:
            raise invalid(problems)

    async def check_result(self, message: Message) -> Message:
        """A `task_result` whose artifacts hold; one whose artifacts do not becomes that of a failed attempt.

        Names, digests and sizes are what a device says: none of it is believed.
        """
        artifacts = message.data.get("artifacts")
        if not artifacts:
            return message
        problem = await self._artifact_problem(artifacts)
        if not problem:
            return message
        kept = {name: value for name, value in message.data.items() if name not in ("artifacts", "status", "error")}
        error = {"kind": "files", "message": f"the files that it left cannot be kept: {problem}", "retryable": True}
        return evolve(message, data=kept | {"status": "failed", "error": error})

    async def _artifact_problem(self, artifacts: Sequence[Any]) -> str:
        if len(artifacts) > MAX_OUTPUTS:
            return f"there are {len(artifacts)}, at most {MAX_OUTPUTS} are kept"
        if problems := artifact_problems(artifacts):
            return "; ".join(map(str, problems[:3]))
        digests = sorted({each["sha256"] for each in artifacts})
        there = await self.database.change(rows.want_files_txn, digests, self.moment().wall_s)
        for each in artifacts:
            if each["sha256"] not in there:
                return f"{each['name']}: {each['sha256']} was not uploaded"
            if there[each["sha256"]] != each["size_bytes"]:
                return f"{each['name']} has {there[each['sha256']]} bytes, not {each['size_bytes']}"
        return ""

    async def of_task(self, task_id: str) -> list[rows.TaskFile]:
        """The files of a task, inputs first. Raises ClusterError not_found."""
        found = await self.database.read(rows.task_files_txn, task_id)
        if found is None:
            raise ClusterError("not_found", f"there is no task {task_id}")
        return found

    async def listed(self, after: str, limit: int) -> list[rows.StoredFile]:
        """Complete contents by digest, from the one after `after` on."""
        return await self.database.read(rows.files_txn, after, limit)

    # -- devices

    def door(self, device_id: str, session_no: int) -> Mapping[str, Any] | None:
        """Where and with which token a device gets at its files while this session lasts; None without a port."""
        if self.port is None:
            return None
        return {"port": self.port, "token": self.tokens.issue(device_id, session_no)}

    async def check_reader(self, device_id: str, digest: str) -> None:
        """A device reads inputs of attempts that it holds. Raises ClusterError forbidden."""
        device = self.scheduler.devices.get(device_id)
        held = [task.seq for task in device.attempts.values()] if device is not None else []
        if not await self.database.read(rows.is_input_txn, digest, held):
            raise ClusterError("forbidden", f"{device_id} holds no attempt with the input {digest}")

    def check_writer(self, device_id: str, task_id: str | None, epoch: int | None) -> None:
        """A device uploads outputs of attempts that it holds, and says of which. Raises ClusterError forbidden."""
        if task_id is None or epoch is None:
            raise ClusterError("forbidden", "a device says whose output it uploads: ?task_id=ID&epoch=N")
        try:
            self.scheduler.attempts.current(device_id, task_id, epoch)
        except ClusterError as error:
            raise ClusterError("forbidden", f"{device_id} does not hold that attempt: {error.message}") from None


def owner_of(device_id: str | None) -> str:
    """Whose upload it is: a device's, or people's."""
    return PEOPLE if device_id is None else f"device {device_id}"
