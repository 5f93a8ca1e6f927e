"""Handlers of /api/v1/devices."""

from __future__ import annotations

from collections import Counter

from retirecluster.domain.devices import NAME
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Number, Record, Text
from retirecluster.domain.history import DAYS
from retirecluster.domain.policy import CONTINUE
from retirecluster.domain.policy_fields import ON_PAUSE
from retirecluster.domain.units import format_duration, parse_duration_s
from retirecluster.main.household import LONGEST_S
from retirecluster.web.answers import Answer, success
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
REST_BODY = Record(
    (
        Field("for_s", Number(1, LONGEST_S), "how long, in seconds", required=True),
        Field("running", Text(choices=ON_PAUSE), "what becomes of running tasks", default=CONTINUE),
        Field("reason", Text(200), "for people", default=""),
    ),
    closed=True,
)
METRICS_FIELDS = (Field("window", Text(20, 1), "how far back, as 30m, 2h, 7d (90d at most)", default="2h"),)
METRICS_QUERY = Record(METRICS_FIELDS, closed=True)


async def devices(web: Web, call: Call) -> Answer:
    """Every device, by id."""
    return success({"devices": web.cluster.devices()})


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
        return success(await web.cluster.device_action(call.path["device_id"], action, deadline_s, call.actor))

    return act


async def release(web: Web, call: Call) -> Answer:
    """Believe a device again that is suspect or in quarantine."""
    return success(await web.cluster.release_device(call.path["device_id"], call.actor))


async def metrics(web: Web, call: Call) -> Answer:
    """What a device reported lately, in steps of a minute, an hour or a day."""
    return success(web.cluster.device_history(call.path["device_id"], window_s(call)))


def window_s(call: Call, longest_s: float = DAYS.window_s) -> float:
    """The window that a call asks for, in seconds. Raises ClusterError bad_field."""
    try:
        asked_s = parse_duration_s(call.query["window"])
    except ValueError as error:
        raise ClusterError("bad_field", f"window: {error}", field="window") from None
    if not 0 < asked_s <= longest_s:
        longest = format_duration(longest_s)
        what = f"window: {call.query['window']} is not between 1s and {longest}"
        raise ClusterError("bad_field", what, field="window")
    return asked_s


async def borrow(web: Web, call: Call) -> Answer:
    """Leave a device to its owner for a while."""
    body = call.body
    rest = await web.cluster.household.borrow(
        call.path["device_id"], body["for_s"], body["running"], body["reason"], call.actor
    )
    return success(web.cluster.device(call.path["device_id"]) | {"rest": rest})


async def give_back(web: Web, call: Call) -> Answer:
    """A device is the cluster's again."""
    device_id = call.path["device_id"]
    web.cluster.device(device_id)
    await web.cluster.household.end_rest(device_id, call.actor)
    return success(web.cluster.device(device_id))


async def ping(web: Web, call: Call) -> Answer:
    """Ask a device for a sign of life."""
    return success(await web.cluster.ping(call.path["device_id"]))


async def wake(web: Web, call: Call) -> Answer:
    """Send a packet that wakes a sleeping device."""
    return success(await web.cluster.wake(call.path["device_id"], call.actor))


async def set_role(web: Web, call: Call) -> Answer:
    """Give a device a role that it keeps."""
    return success(await web.cluster.set_role(call.path["device_id"], call.body["role"], call.actor))


async def remove(web: Web, call: Call) -> Answer:
    """Forget a device that is not online."""
    device_id = call.path["device_id"]
    await web.cluster.remove_device(device_id, call.actor)
    return success({"device_id": device_id, "status": "removed"})
