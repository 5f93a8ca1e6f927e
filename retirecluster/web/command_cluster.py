"""What is done for commands about the cluster, its log, its files, and commands themselves."""

from __future__ import annotations

from retirecluster.domain.commands.help import help_lines
from retirecluster.domain.commands.kinds import OFF
from retirecluster.domain.commands.model import TERMINAL
from retirecluster.domain.commands.table import DEFAULT_WATCH_S
from retirecluster.domain.units import format_duration
from retirecluster.render import access, answers
from retirecluster.render.views import Said
from retirecluster.web.command_run import PAGE, Outcome, Run

NOTHING = Said([])
"""The view of a command that only goes on elsewhere."""
BACK = 5000
"""Events that are looked through for those of one subject."""


async def status(run: Run) -> Outcome:
    return Outcome(answers.cluster_status(await run.ask("GET", "/cluster/status")))


async def health(run: Run) -> Outcome:
    found = await run.ask("GET", "/cluster/health")
    return Outcome(answers.flat(found), 0 if found["status"] == "ok" else 1)


async def metrics(run: Run) -> Outcome:
    return Outcome(answers.flat(await run.ask("GET", "/cluster/metrics")))


async def config(run: Run) -> Outcome:
    return Outcome(answers.flat(await run.ask("GET", "/cluster/config")))


async def quiet(run: Run) -> Outcome:
    values = run.values
    if values["time"] == OFF:
        return Outcome(Said(["the quiet is over"], await run.ask("DELETE", "/cluster/quiet")))
    body = {"for_s": values["time"], "running": values["running"], "reason": values["reason"]}
    found = await run.ask("POST", "/cluster/quiet", body=body)
    return Outcome(Said([found["quiet"]["reason"]], found))


async def list_files(run: Run) -> Outcome:
    found = await run.ask("GET", "/files", query={"limit": PAGE})
    return Outcome(answers.files(found["files"]))


async def remove_files(run: Run) -> Outcome:
    async def remove(digest: str) -> Said:
        found = await run.ask("DELETE", "/files/{sha256}", sha256=digest)
        return Said([f"{digest} removed"], found)

    return await run.each(run.values["digests"], remove)


async def list_signals(run: Run) -> Outcome:
    return Outcome(answers.signals((await run.ask("GET", "/signals"))["signals"]))


async def set_signal(run: Run) -> Outcome:
    values = run.values
    body = {"value": values["value"], "ttl_s": values["ttl"]}
    found = await run.ask("PUT", "/signals/{name}", body=body, name=values["name"])
    return Outcome(Said([f"{found['name']}  {found['value']:g}  for {format_duration(found['ttl_s'])}"], found))


async def remove_signal(run: Run) -> Outcome:
    name = run.values["name"]
    return Outcome(Said([f"{name}  removed"], await run.ask("DELETE", "/signals/{name}", name=name)))


async def events(run: Run) -> Outcome:
    """The newest; of one subject, those among the newest few thousand."""
    limit, subject = run.values["limit"], run.values["subject"]
    newest = (await run.ask("GET", "/cluster/status"))["event_no"]
    query = {"subject": subject, "limit": PAGE if subject else limit}
    after, found = max(0, newest - (BACK if subject else limit)), list[answers.Document]()
    while True:
        page = await run.ask("GET", "/events", query=query | {"after": after})
        found += page["events"]
        if not subject or page["next_after"] is None:
            return Outcome(answers.events(found[-limit:]))
        after = page["next_after"]


async def audit(run: Run) -> Outcome:
    query = {name: run.values[name] for name in ("actor", "action", "limit")}
    return Outcome(answers.audit((await run.ask("GET", "/audit", query=query))["audit"]))


async def audit_tail(run: Run) -> Outcome:
    found = await run.ask("GET", "/audit", query={"limit": run.values["limit"]})
    return Outcome(answers.audit(found["audit"][::-1]))


async def audit_verify(run: Run) -> Outcome:
    found = await run.ask("GET", "/audit/verify")
    return Outcome(access.audit_state(found), 0 if found["sound"] else 1)


async def list_tokens(run: Run) -> Outcome:
    return Outcome(access.tokens((await run.ask("GET", "/tokens"))["tokens"]))


async def create_token(run: Run) -> Outcome:
    values = run.values
    body = {"name": values["name"], "role": values["role"], "ttl_s": values["ttl"]}
    return Outcome(access.new_token(await run.ask("POST", "/tokens", body=body)))


async def revoke_token(run: Run) -> Outcome:
    known = (await run.ask("GET", "/tokens"))["tokens"]
    token_id = access.token_named(known, run.values["revoked"])
    return Outcome(access.token_revoked(await run.ask("DELETE", "/tokens/{token_id}", token_id=token_id)))


async def login_link(run: Run) -> Outcome:
    return Outcome(access.login_link(await run.ask("POST", "/login-links")))


async def monitor_devices(run: Run) -> Outcome:
    return following("/stream/devices", "device_update", "heartbeat")


async def monitor_tasks(run: Run) -> Outcome:
    return following("/stream/tasks", "task_update")


async def monitor_events(run: Run) -> Outcome:
    return following("/stream/events", "device_update", "task_update", "cluster_update")


async def monitor_metrics(run: Run) -> Outcome:
    found = await metrics(run)
    return Outcome(found.view, again_s=run.values["watch"] or DEFAULT_WATCH_S)


def following(address: str, *events: str) -> Outcome:
    """The outcome of a command that goes on: where its events come from, and their names."""
    return Outcome(NOTHING, stream={"address": address, "events": [*events, "reset", "dropped"]}, data=False)


async def export_devices(run: Run) -> Outcome:
    return Outcome(answers.devices((await run.ask("GET", "/devices"))["devices"]), data=False)


async def say_help(run: Run) -> Outcome:
    return Outcome(Said(help_lines(run.values["words"], TERMINAL, run.width)), data=False)


async def echo(run: Run) -> Outcome:
    return Outcome(Said([" ".join(run.values["words"])]), data=False)


ACTIONS = {
    "cluster status": status,
    "cluster health": health,
    "cluster metrics": metrics,
    "cluster config": config,
    "cluster quiet": quiet,
    "files list": list_files,
    "files remove": remove_files,
    "signals list": list_signals,
    "signals set": set_signal,
    "signals remove": remove_signal,
    "events": events,
    "audit list": audit,
    "audit tail": audit_tail,
    "audit verify": audit_verify,
    "tokens list": list_tokens,
    "tokens create": create_token,
    "tokens revoke": revoke_token,
    "login-link": login_link,
    "monitor devices": monitor_devices,
    "monitor tasks": monitor_tasks,
    "monitor events": monitor_events,
    "monitor metrics": monitor_metrics,
    "devices monitor": monitor_devices,
    "export devices": export_devices,
    "help": say_help,
    "echo": echo,
}
