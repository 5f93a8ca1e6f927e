"""Handlers of what a household says to its cluster: signals from outside, and quiet."""

from __future__ import annotations

from retirecluster.domain.errors import invalid
from retirecluster.domain.fields import Boolean, Field, Number, OneOf, Problem, Record
from retirecluster.domain.policy_fields import SIGNAL_NAME, SIGNAL_VALUE
from retirecluster.main.household import LONGEST_S
from retirecluster.web.answers import Answer, success
from retirecluster.web.calls import Call, Web

SIGNAL_BODY = Record(
    (
        Field("value", OneOf((SIGNAL_VALUE, Boolean())), "a number; true is 1, false is 0", required=True),
        Field("ttl_s", Number(1, LONGEST_S), "seconds that it is good for", default=3600.0),
    ),
    closed=True,
)


async def signals(web: Web, call: Call) -> Answer:
    """All signals that hold."""
    return success({"signals": web.cluster.household.signals()})


async def signal(web: Web, call: Call) -> Answer:
    """One signal."""
    return success(web.cluster.household.signal(call.path["name"]))


async def set_signal(web: Web, call: Call) -> Answer:
    """Set a signal; devices are told at once."""
    name, problems = call.path["name"], list[Problem]()
    SIGNAL_NAME.check(name, "name", problems)
    if problems:
        raise invalid(problems)
    return success(await web.cluster.household.set_signal(name, call.body["value"], call.body["ttl_s"], call.actor))


async def remove_signal(web: Web, call: Call) -> Answer:
    """Remove a signal."""
    name = call.path["name"]
    await web.cluster.household.remove_signal(name, call.actor)
    return success({"name": name, "status": "removed"})


async def quiet(web: Web, call: Call) -> Answer:
    """Give no device anything new for a while."""
    body = call.body
    return success(
        {"quiet": await web.cluster.household.keep_quiet(body["for_s"], body["running"], body["reason"], call.actor)}
    )


async def end_quiet(web: Web, call: Call) -> Answer:
    """End the quiet."""
    await web.cluster.household.end_rest(by=call.actor)
    return success({"quiet": None})
