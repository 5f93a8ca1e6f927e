"""What is done for commands about joining by TLS."""

from __future__ import annotations

from retirecluster.render import answers
from retirecluster.web.command_run import Outcome, Run


async def join_token(run: Run) -> Outcome:
    values = run.values
    body = {"role": values["role"], "name": values["name"], "ttl_s": values["ttl"]}
    return Outcome(answers.join_token(await run.ask("POST", "/join-tokens", body=body)))


async def show_authority(run: Run) -> Outcome:
    return Outcome(answers.authority(await run.ask("GET", "/ca")))


async def renew(run: Run) -> Outcome:
    return Outcome(answers.authority(await run.ask("POST", "/ca/renew", body={})))


async def act(run: Run) -> Outcome:
    """approve, revoke. The device may never have registered: only its whole id will do."""
    device_id, action = run.values["device"], run.filled.command.path[-1]
    found = await run.ask("POST", f"/devices/{{device_id}}/{action}", body={}, device_id=device_id)
    return Outcome(answers.device_acted(device_id, found))


ACTIONS = {
    "join-token": join_token,
    "ca show": show_authority,
    "ca renew": renew,
    "devices approve": act,
    "devices revoke": act,
}
