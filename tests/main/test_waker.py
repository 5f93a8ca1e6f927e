"""Waking devices: real packets on a socket of the test's, a real main, and devices that tests play."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.scheduler import Moment
from retirecluster.domain.wake import magic_packet
from tests.support import connect, pause
from tests.web.conftest import http_of
from tests.web.device import PlayedDevice

LAPTOP, TOWER = "00:11:22:aa:bb:01", "00:11:22:aa:bb:02"


class Segment:
    """A socket that stands for the network: it hears every packet."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(10)

    @property
    def settings(self) -> dict[str, Any]:
        return {"wake_on_lan": True, "wake_broadcast": "127.0.0.1", "wake_port": self.socket.getsockname()[1]}

    def woken(self) -> list[str]:
        """The hardware addresses in the packets that came since the last call: sending is done when it returns."""
        found = []
        self.socket.setblocking(False)
        while True:
            try:
                packet = self.socket.recv(2000)
            except BlockingIOError:
                return found
            found.append(packet[6:12].hex(":"))
            assert packet == magic_packet(found[-1])


@pytest.fixture
def segment() -> Iterator[Segment]:
    one = Segment()
    yield one
    one.socket.close()


async def joined(node: Any, device_id: str, mac: str, allows: bool = True, **more: Any) -> PlayedDevice:
    device = PlayedDevice(await connect(node.worker_port), device_id)
    interfaces = [{"name": "eth0", "type": "ethernet", "mac": mac}]
    data = {"device_info": {"hostname": "h"}, "hardware_specs": {"network_interfaces": interfaces}, "slots": 1}
    device.say("register", data | {"wake_on_lan": allows, "task_types": ["echo"]} | more)
    await device.expect("register_ack")
    return device


async def asleep(node: Any, device_id: str, mac: str, **more: Any) -> None:
    """A device that was there and went to sleep."""
    device = await joined(node, device_id, mac, **more)
    device.say("disconnect", {"reason": "asleep"})
    await device.peer.closed
    assert node.rooms.cluster.device(device_id)["status"] == "asleep"


async def submit(node: Any, **more: Any) -> str:
    answer = await http_of(node).call("POST", "/api/v1/tasks", {"task_type": "echo", "payload": {"message": 1}} | more)
    assert answer.status == 201
    return str(answer.json["data"]["task_id"])


def later(node: Any, seconds: float) -> None:
    """So much time passes for the waker."""
    before = node.rooms.waker.moment

    def moment() -> Moment:
        then = before()  # once: each call goes through all that were made before
        return Moment(then.mono_s + seconds, then.wall_s + seconds)

    node.rooms.waker.moment = moment


def why(node: Any, task_id: str, device_id: str) -> list[str]:
    rows = node.rooms.cluster.why(task_id)["devices"]
    return [reason for row in rows if row["device_id"] == device_id for reason in row["reasons"]]


@pytest_twisted.ensureDeferred
async def test_a_task_that_only_a_sleeper_can_run_wakes_it(make_node: Any, segment: Segment) -> None:
    node = make_node(**segment.settings)
    await asleep(node, "laptop", LAPTOP)
    node.rooms.waker.look()
    assert segment.woken() == [], "nothing waits"
    task_id = await submit(node)
    assert why(node, task_id, "laptop") == ["asleep: can be woken"]
    node.rooms.waker.look()
    assert segment.woken() == [LAPTOP]
    later(node, 20)
    assert why(node, task_id, "laptop") == ["asleep: woken 20s ago"]
    await node.rooms.turns.committed()
    trail, _ = await node.rooms.cluster.audit_trail(None, "", "device.wake", 10)
    assert [(each["actor"], each["subject"]) for each in trail] == [("main", "laptop")]
    assert trail[0]["detail"]["macs"] == [LAPTOP]
    assert task_id in trail[0]["detail"]["why"]
    wake = node.rooms.cluster.device("laptop")["wake"]
    assert (wake["possible"], wake["macs"], wake["woken"]) == (True, [LAPTOP], 1)
    device = await joined(node, "laptop", LAPTOP)
    assert (await device.take())["task_id"] == task_id
    node.rooms.waker.look()
    assert node.rooms.cluster.device("laptop")["wake"]["woken"] == 0, "it came: the count begins anew"
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_a_device_that_does_not_come_is_woken_less_and_less(make_node: Any, segment: Segment) -> None:
    node = make_node(**segment.settings)
    await asleep(node, "laptop", LAPTOP)
    await submit(node)
    counts = []
    for _ in range(60):  # an hour, looking each minute
        node.rooms.waker.look()
        counts.append(len(segment.woken()))
        later(node, 60)
    assert [minute for minute, count in enumerate(counts) if count] == [0, 1, 3, 7, 15, 31]


@pytest_twisted.ensureDeferred
async def test_a_device_that_came_and_sleeps_again_is_woken_as_if_for_the_first_time(
    make_node: Any, segment: Segment
) -> None:
    node = make_node(**segment.settings)
    await asleep(node, "laptop", LAPTOP)
    await node.rooms.cluster.wake("laptop")
    await asleep(node, "laptop", LAPTOP)
    assert node.rooms.cluster.device("laptop")["wake"]["woken"] == 0, "though nobody looked while it was there"
    await submit(node)
    node.rooms.waker.look()
    assert segment.woken() == [LAPTOP, LAPTOP]


@pytest_twisted.ensureDeferred
async def test_nobody_is_woken_while_somebody_else_can_run_it(make_node: Any, segment: Segment) -> None:
    node = make_node(**segment.settings)
    await asleep(node, "laptop", LAPTOP)
    awake = await joined(node, "awake", TOWER)
    await submit(node)
    await submit(node)
    await awake.take()
    node.rooms.waker.look()
    assert segment.woken() == [], "the second task waits for room on a device that is there"
    await awake.leave()


@pytest_twisted.ensureDeferred
async def test_one_at_a_time(make_node: Any, segment: Segment) -> None:
    node = make_node(**segment.settings)
    await asleep(node, "laptop", LAPTOP)
    await asleep(node, "tower", TOWER, speed=4.0)
    await submit(node)
    node.rooms.waker.look()
    node.rooms.waker.look()
    assert segment.woken() == [TOWER], "the fastest"
    later(node, 61)
    node.rooms.waker.look()
    assert segment.woken() == [LAPTOP], "the first one did not come"


@pytest.mark.parametrize("reason", ["off", "not allowed", "no address", "cordoned", "paused", "quiet"])
@pytest_twisted.ensureDeferred
async def test_who_is_left_alone(make_node: Any, segment: Segment, reason: str) -> None:
    node = make_node(**segment.settings | ({"wake_on_lan": False} if reason == "off" else {}))
    more: dict[str, Any] = {}
    if reason == "paused":
        more["availability"] = {"state": "paused", "reason": "on battery"}
    if reason == "no address":
        more["hardware_specs"] = {"network_interfaces": ["eth0"]}
    await asleep(node, "laptop", LAPTOP, allows=reason != "not allowed", **more)
    if reason == "cordoned":
        await node.rooms.cluster.device_action("laptop", "cordon")
    if reason == "quiet":
        await node.rooms.household.keep_quiet(100, "continue", "")
    task_id = await submit(node)
    node.rooms.waker.look()
    assert segment.woken() == []
    [said] = why(node, task_id, "laptop")
    assert said.startswith("asleep: not woken, as ")
    if reason in ("off", "not allowed", "no address"):
        with pytest.raises(ClusterError, match="cannot be woken"):
            await node.rooms.cluster.wake("laptop")
    else:
        await node.rooms.cluster.wake("laptop")
        assert segment.woken() == [LAPTOP], "a person may"


@pytest_twisted.ensureDeferred
async def test_a_person_wakes_a_device(make_node: Any, segment: Segment) -> None:
    node = make_node(**segment.settings)
    http = http_of(node)
    await asleep(node, "laptop", LAPTOP)
    answer = await http.call("POST", "/api/v1/devices/laptop/wake", {})
    assert answer.status == 200
    assert segment.woken() == [LAPTOP]
    assert (await http.call("POST", "/api/v1/devices/laptop/wake", {})).status == 429
    assert segment.woken() == []
    assert (await http.call("POST", "/api/v1/devices/nobody/wake", {})).status == 404
    assert (await http.call("POST", "/api/v1/devices/laptop/wake", {}, token=False)).status == 401
    device = await joined(node, "laptop", LAPTOP)
    assert (await http.call("POST", "/api/v1/devices/laptop/wake", {})).status == 409
    trail, _ = await node.rooms.cluster.audit_trail(None, "admin", "device.wake", 10)
    assert len(trail) == 1
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_a_restarted_main_knows_who_sleeps_and_where(make_node: Any, segment: Segment) -> None:
    node = make_node(**segment.settings)
    await asleep(node, "laptop", LAPTOP)
    await node.rooms.turns.committed()
    await node.stopService()
    again = make_node(**segment.settings)
    assert again.rooms.cluster.device("laptop")["status"] == "asleep"
    await submit(again)
    again.rooms.waker.look()
    assert segment.woken() == [LAPTOP]


@pytest_twisted.ensureDeferred
async def test_a_network_that_cannot_be_reached_is_said(make_node: Any) -> None:
    node = make_node(wake_on_lan=True, wake_broadcast="999.1.1.1")
    await asleep(node, "laptop", LAPTOP)
    with pytest.raises(ClusterError, match="wake_broadcast"):
        await node.rooms.cluster.wake("laptop")
    await pause(0)
