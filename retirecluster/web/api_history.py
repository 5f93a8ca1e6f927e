"""Handlers of /api/v1 about what was: the cluster's last hour, and who ran what when."""

from __future__ import annotations

from retirecluster.domain.devices import DEVICE_ID
from retirecluster.domain.fields import Field, Integer, Record, Text
from retirecluster.web.answers import Answer, success
from retirecluster.web.api_devices import window_s
from retirecluster.web.calls import Call, Web

LONGEST_S = 86_400.0
MOST = 5000
ATTEMPTS_QUERY = Record(
    (
        Field("window", Text(20, 1), "how far back, as 5m, 2h (24h at most)", default="10m"),
        Field("device", DEVICE_ID, "only attempts on this device"),
        Field("limit", Integer(1, MOST), "how many at most; those granted last are kept", default=1000),
    ),
    closed=True,
)


async def cluster_history(web: Web, call: Call) -> Answer:
    """Throughput, queue and waiting time of the last hour, a point for ten seconds."""
    return success(web.cluster.history())


async def attempts(web: Web, call: Call) -> Answer:
    """Attempts of the last minutes on all devices, those granted last first."""
    query = call.query
    found = await web.cluster.attempts(window_s(call, LONGEST_S), query.get("device") or "", query["limit"])
    return success(found)
