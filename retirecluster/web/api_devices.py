"""Handlers of /api/v1/devices."""

from __future__ import annotations

from collections import Counter

from retirecluster.domain.devices import NAME
from retirecluster.domain.fields import Field, Number, Record
from retirecluster.web.answers import Answer, success
from retirecluster.web.api_cluster import with_etag
from retirecluster.web.calls import Call, Web
from retirecluster.web.routing import Handler

ROLE_BODY = Record(
    (Field("role", NAME, "worker, compute, mobile, storage, nas, or one of your own", required=True),), closed=True
)
DRAIN_BODY = Record(
    (Field("deadline_s", Number(0, 864_000), "seconds after which what still runs is moved elsewhere", nullable=True),),
    closed=True,
)
NO_FIELDS = Record((), closed=True)


async def devices(web: Web, call: Call) -> Answer:
    """Every device, by id."""
    return with_etag(call, success({"devices": web.cluster.devices()}))


async def summary(web: Web, call: Call) -> Answer:
    """Counts of devices by status, role and platform, and their slots."""
    listed = web.cluster.devices()
    online = [each for each in listed if each["status"] == "online"]
    return success(
        {
            "total": len(listed),
            "status": Counter(each["status"] for each in listed),
            "role": Counter(each["role"] for each in listed),
            "platform": Counter(each["platform"] or "unknown" for each in listed),
            "slots": {"total": sum(each["slots"] for each in online), "busy": sum(each["assigned"] for each in online)},
        }
    )


async def device(web: Web, call: Call) -> Answer:
    """One device with everything known of it."""
    return success(web.cluster.device(call.path["device_id"]))


def acting(action: str) -> Handler:
    """The handler that drains, undrains, cordons or uncordons a device."""

    async def act(web: Web, call: Call) -> Answer:
        deadline_s = call.body.get("deadline_s") if action == "drain" else None
        return success(await web.cluster.device_action(call.path["device_id"], action, deadline_s))

    return act


async def ping(web: Web, call: Call) -> Answer:
    """Ask a device for a sign of life."""
    return success(await web.cluster.ping(call.path["device_id"]))


async def set_role(web: Web, call: Call) -> Answer:
    """Give a device a role that it keeps."""
    return success(await web.cluster.set_role(call.path["device_id"], call.body["role"]))


async def remove(web: Web, call: Call) -> Answer:
    """Forget a device that is not online."""
    device_id = call.path["device_id"]
    await web.cluster.remove_device(device_id)
    return success({"device_id": device_id, "status": "removed"})
