"""Handlers of joining by TLS: join strings, approving and revoking devices, the cluster's authority."""

from __future__ import annotations

import io

from retirecluster.domain.devices import DEVICE_ID, NAME
from retirecluster.domain.fields import Field, Number, Record
from retirecluster.domain.join_string import LONGEST_TTL_S
from retirecluster.web.answers import Answer, success
from retirecluster.web.calls import Call, Web

JOIN_TOKEN_BODY = Record(
    (
        Field("role", NAME, "the role that the device gets; left out: its own", nullable=True),
        Field("name", DEVICE_ID, "the device id that it gets; left out: its own", nullable=True),
        Field("ttl_s", Number(1, LONGEST_TTL_S), "how long it is good for, in seconds", default=900.0),
    ),
    closed=True,
)


async def create_join_token(web: Web, call: Call) -> Answer:
    """Make a join string: for one device, once. Nothing shows it again."""
    body = call.body
    role, name = body.get("role") or "", body.get("name") or ""
    made = await web.cluster.who_gets_in().create(role, name, body["ttl_s"], call.actor)
    return success(made | {"qr_svg": qr_svg(made["command"])}, status=201)


def qr_svg(text: str) -> str | None:
    """A QR code as SVG text; None where the package that makes them is not installed."""
    try:
        import segno
    except ImportError:
        return None
    out = io.BytesIO()
    segno.make(text, micro=False).save(out, kind="svg", xmldecl=False, scale=4)
    return out.getvalue().decode("ascii")


async def approve(web: Web, call: Call) -> Answer:
    """Let a device in that has joined and waits for it."""
    device_id = call.path["device_id"]
    await web.cluster.who_gets_in().approve(device_id, call.actor)
    return success({"device_id": device_id, "status": "approved"})


async def revoke(web: Web, call: Call) -> Answer:
    """Let a device in no more, and end its session."""
    device_id = call.path["device_id"]
    await web.cluster.who_gets_in().revoke(device_id, call.actor)
    return success({"device_id": device_id, "status": "revoked"})


async def authority(web: Web, call: Call) -> Answer:
    """The cluster's authority, and the certificates of devices."""
    return success(web.cluster.who_gets_in().authority_document())


async def renew(web: Web, call: Call) -> Answer:
    """A new key and certificate for the main, of the same authority."""
    return success(await web.cluster.who_gets_in().renew(call.actor))
