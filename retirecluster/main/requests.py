"""The original's client requests over TCP: status, list_devices, device_info, task_submit, task_status, task_cancel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from retirecluster.domain.audit import TCP_CLIENT
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.tasks import spec_from_document
from retirecluster.main.cluster import Cluster
from retirecluster.main.tokens import AdminToken
from retirecluster.wire.messages import Message


class ClientRequests:
    """Answers each request from the same use cases as the web. Those that change something need the token."""

    def __init__(self, cluster: Cluster, token: AdminToken) -> None:
        self._cluster = cluster
        self._token = token
        self.table: dict[str, Callable[[Message], Awaitable[Any]]] = {
            "status": self._status,
            "list_devices": self._list_devices,
            "device_info": self._device_info,
            "task_submit": self._task_submit,
            "task_status": self._task_status,
            "task_cancel": self._task_cancel,
        }

    async def _status(self, message: Message) -> Any:
        return self._cluster.status()

    async def _list_devices(self, message: Message) -> Any:
        return {"devices": self._cluster.devices()}

    async def _device_info(self, message: Message) -> Any:
        return self._cluster.device(message.data["device_id"])

    async def _task_submit(self, message: Message) -> Any:
        self._check(message)
        spec = spec_from_document(message.data["task"], "data.task", TCP_CLIENT.name)
        [submitted] = await self._cluster.submit([spec])
        return {"task_id": submitted.task_id, "status": submitted.status}

    async def _task_status(self, message: Message) -> Any:
        return await self._cluster.task(message.data["task_id"])

    async def _task_cancel(self, message: Message) -> Any:
        self._check(message)
        task_id = message.data["task_id"]
        state = await self._cluster.cancel(task_id, message.data.get("reason") or "cancelled by a client", TCP_CLIENT)
        return {"task_id": task_id, "status": state}

    def _check(self, message: Message) -> None:
        auth = message.data.get("auth") or {}
        if not self._token.accepts(auth.get("token")):
            raise ClusterError(
                "unauthorized",
                f"{message.name} needs data.auth.token: the text in admin.token of the main's data folder",
                field="data.auth.token",
            )
