"""What is done for commands about devices."""

from __future__ import annotations

from retirecluster.domain.errors import ClusterError
from retirecluster.render import answers
from retirecluster.render.views import Said
from retirecluster.web.command_run import Outcome, Run


async def list_devices(run: Run) -> Outcome:
    return Outcome(answers.devices((await run.ask("GET", "/devices"))["devices"], run.values["wide"]))


async def show(run: Run) -> Outcome:
    return Outcome(answers.device(await run.ask("GET", "/devices/{device_id}", device_id=await run.device())))


async def act(run: Run) -> Outcome:
    """drain, undrain, cordon, uncordon, release, ping, wake."""
    action, deadline_s = run.filled.command.path[-1], run.values.get("deadline")
    body = {} if deadline_s is None else {"deadline_s": deadline_s}

    async def one(device_id: str) -> Said:
        found = await run.ask("POST", f"/devices/{{device_id}}/{action}", body=body, device_id=device_id)
        return answers.device_acted(device_id, found)

    return await run.each(await run.devices(), one)


async def stats(run: Run) -> Outcome:
    query = {"window": str(run.values["window"])}
    found = await run.ask("GET", "/devices/{device_id}/metrics", query=query, device_id=await run.device())
    return Outcome(answers.device_stats(found))


async def role(run: Run) -> Outcome:
    device_id, wanted = await run.device(), run.values["role"]
    found = await run.ask("POST", "/devices/{device_id}/role", body={"role": wanted}, device_id=device_id)
    return Outcome(answers.device_acted(device_id, found, f"role {wanted}"))


async def borrow(run: Run) -> Outcome:
    values, device_id = run.values, await run.device()
    body = {"for_s": values["time"], "running": values["running"], "reason": values["reason"]}
    found = await run.ask("POST", "/devices/{device_id}/borrow", body=body, device_id=device_id)
    return Outcome(answers.device_acted(device_id, found, (found.get("rest") or {}).get("reason") or ""))


async def give_back(run: Run) -> Outcome:
    device_id = await run.device()
    found = await run.ask("POST", "/devices/{device_id}/give_back", body={}, device_id=device_id)
    return Outcome(answers.device_acted(device_id, found))


async def remove(run: Run) -> Outcome:
    device_id = await run.device()
    if not run.values["yes"]:
        raise ClusterError("conflict", f"forget device {device_id}? Add --yes if that is meant")
    found = await run.ask("DELETE", "/devices/{device_id}", device_id=device_id)
    return Outcome(answers.device_acted(device_id, found, "removed"))


ACTIONS = {
    "devices list": list_devices,
    "devices show": show,
    "devices stats": stats,
    "devices role": role,
    "devices borrow": borrow,
    "devices give-back": give_back,
    "devices remove": remove,
    **{f"devices {name}": act for name in ("drain", "undrain", "cordon", "uncordon", "release", "ping", "wake")},
}
