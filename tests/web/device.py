"""A device that a test plays: it registers, takes tasks, and answers as it is told."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from tests.support import LinePeer, connect


class PlayedDevice:
    """A registered device with its connection."""

    def __init__(self, peer: LinePeer, device_id: str) -> None:
        self.peer = peer
        self.device_id = device_id
        self.welcome: dict[str, Any] = {}
        """What it was told when it registered."""
        self._passed: list[dict[str, Any]] = []

    def say(self, name: str, data: dict[str, Any]) -> None:
        self.peer.say(name, data, sender_id=self.device_id)

    async def expect(self, name: str) -> dict[str, Any]:
        """The next message of that name; what came before it is kept for later."""
        for message in self._passed:
            if message["message_type"] == name:
                self._passed.remove(message)
                return message
        while True:
            message = await self.peer.received.get().addTimeout(10, reactor)
            if message["message_type"] == name:
                return message
            self._passed.append(message)

    async def take(self) -> dict[str, Any]:
        """The next task that it is given, started."""
        task: dict[str, Any] = (await self.expect("task_assign"))["data"]["task"]
        self.say("task_started", {"task_id": task["task_id"], "epoch": task["epoch"]})
        return task

    def print(self, task: dict[str, Any], seq: int, text: str, stream: str = "stdout") -> None:
        piece = {"task_id": task["task_id"], "epoch": task["epoch"], "seq": seq, "stream": stream, "data": text}
        self.say("task_output", piece)

    async def finish(self, task: dict[str, Any], output: str = "done", status: str = "completed", **more: Any) -> None:
        result = {"output": output, "exit_code": 0}
        self.say(
            "task_result",
            {"task_id": task["task_id"], "epoch": task["epoch"], "status": status, "result": result} | more,
        )
        await self.expect("result_ack")

    async def leave(self) -> None:
        await self.peer.leave()


async def played(node: Any, device_id: str = "pixel-3", slots: int = 2, **info: Any) -> PlayedDevice:
    """A device that has registered and sent a heartbeat."""
    device = PlayedDevice(await connect(node.worker_port), device_id)
    register = {"device_info": {"hostname": "h", "platform": "android", "role": "mobile"} | info, "slots": slots}
    device.say("register", register)
    device.welcome = (await device.expect("register_ack"))["data"]
    device.say("heartbeat", {"system_metrics": {"cpu_usage": 12.5, "memory_usage": 40.0}})
    await device.expect("heartbeat_ack")
    return device
