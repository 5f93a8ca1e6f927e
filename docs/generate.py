"""Writes the generated parts of the documentation from the tables in the code; `--check` only compares.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->` in a page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from retirecluster.client.start_files import EXAMPLE_MARK, TERMUX_SHELL, boot_text, unit_text
from retirecluster.config import KINDS, PREFIX
from retirecluster.domain.commands.filter_table import FILTERS
from retirecluster.domain.commands.grammar import usage
from retirecluster.domain.commands.model import CLI, HTTP, TERMINAL, Command
from retirecluster.domain.commands.table import COMMANDS, GROUPS
from retirecluster.domain.devices import DEVICE_INFO, HARDWARE_SPECS, SYSTEM_METRICS
from retirecluster.domain.errors import ERRORS
from retirecluster.domain.failpoints import FAILPOINTS
from retirecluster.domain.fields import MISSING, Field, Record
from retirecluster.domain.lifecycle import TRANSITIONS, mermaid
from retirecluster.domain.policy_fields import POLICY
from retirecluster.domain.task_types import BUILT_IN
from retirecluster.domain.tasks import TASK_FIELDS
from retirecluster.web.metric_table import METRICS
from retirecluster.web.routes import ROUTES
from retirecluster.wire.messages import ENVELOPE, MESSAGES

DOCS = Path(__file__).parent
PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _default(each: Field) -> str:
    return "" if each.default is MISSING else f"`{each.default!r}`" if each.default not in ("", ()) else ""


def _fields(record: Record) -> str:
    rows = [
        [f"`{each.name}`", each.type.describe(), "yes" if each.required else "", each.doc] for each in record.fields
    ]
    return table(["field", "what it may be", "required", "meaning"], rows) if rows else "No fields.\n"


def messages() -> str:
    """Every message: who sends it, when it is understood, and its fields."""
    parts = ["### The envelope of every message\n\n" + _fields(ENVELOPE)]
    for kind in MESSAGES.values():
        when = "also before registration" if kind.early else "after registration"
        senders = ", ".join(sorted(kind.senders))
        parts.append(f"### `{kind.name}`\n\n{kind.doc} Sent by: {senders}; {when}.\n\n{_fields(kind.data)}")
    return "\n".join(parts)


def settings(kind: str) -> Callable[[], str]:
    """The table of a daemon's settings."""

    def generate() -> str:
        rows = [
            [f"`{each.name}`", f"`{PREFIX}{each.name.upper()}`", each.type.describe(), _default(each), each.doc]
            for each in KINDS[kind].fields
        ]
        return table(["setting", "variable", "what it may be", "default", "meaning"], rows)

    return generate


def errors() -> str:
    """The table of errors."""
    rows = [[f"`{e.code}`", str(e.http_status), str(e.exit_code), e.actor, e.doc] for e in ERRORS.values()]
    return table(["code", "HTTP", "exit code", "who can mend it", "meaning"], rows)


def task_fields() -> str:
    """The task document."""
    rows = [
        [f"`{each.name}`", each.type.describe(), "yes" if each.required else "", _default(each), each.doc]
        for each in TASK_FIELDS.fields
    ]
    return table(["field", "what it may be", "required", "default", "meaning"], rows)


def task_types() -> str:
    """The built-in task types."""
    parts = []
    for kind in BUILT_IN.values():
        rules = f"\n{kind.rules_doc}\n" if kind.rules_doc else ""
        warm = " May be warm." if kind.warm else ""
        parts.append(
            f"### `{kind.name}`\n\n{kind.doc} Output: {kind.result_doc}.{warm}\n\n{_fields(kind.payload)}{rules}"
        )
    return "\n".join(parts)


def transitions() -> str:
    """The lifecycle table."""
    rows = [
        [f"`{row.event}`", ", ".join(sorted(row.sources)), ", ".join(sorted(row.targets)), row.doc]
        for row in TRANSITIONS
    ]
    return table(["event", "from", "to", "meaning"], rows)


def diagram() -> str:
    """The lifecycle as a diagram."""
    return f"```mermaid\n{mermaid()}```\n"


def routes() -> str:
    """The table of addresses."""
    rows = [
        [
            f"`{route.method} {route.path}`",
            "" if route.role == "read" else route.role,
            ", ".join(f"`{each.name}`" for each in route.query.fields),
            ", ".join(f"`{each.name}`" for each in route.body.fields) if route.body else "",
            route.summary,
        ]
        for route in ROUTES
    ]
    return table(["address", "needs", "query", "body", "what it does"], rows)


def prometheus() -> str:
    """The table of metrics."""
    rows = [[f"`{each.name}`", each.kind, ", ".join(f"`{name}`" for name in each.labels), each.doc] for each in METRICS]
    return table(["metric", "type", "labels", "meaning"], rows)


DOORS = {TERMINAL: "t", HTTP: "h", CLI: "s"}


def commands() -> str:
    """Every command, group by group."""
    groups = {group.name: group for group in GROUPS}
    parts = []
    for name in dict.fromkeys(command.path[0] for command in COMMANDS if len(command.path) == 2):
        group = groups[name]
        alone = f" `{name}` alone is `{name} {group.default}`." if group.default else ""
        inside = [command for command in COMMANDS if command.path[0] == name and len(command.path) == 2]
        parts.append(f"### {name}\n\n{group.summary.capitalize()}.{alone}\n\n{_command_table(inside)}")
    single = [command for command in COMMANDS if len(command.path) == 1]
    return "\n".join([*parts, "### Commands of one word\n\n" + _command_table(single)])


def _command_table(some: list[Command]) -> str:
    rows = [
        [
            f"`{usage(command)}`",
            "".join(letter for door, letter in DOORS.items() if door in command.doors),
            "" if command.role == "read" else command.role,
            _options(command),
            command.summary + (f" (also `{'`, `'.join(command.aliases)}`)" if command.aliases else ""),
            "; ".join(f"`{example}`" for example in command.examples),
        ]
        for command in some
    ]
    return table(["command", "in", "needs", "options", "what it does", "for example"], rows)


def _options(command: Command) -> str:
    if command.name in ("tasks submit", "call"):
        return "those of `submit`"
    return ", ".join(f"`{option.shown}`" for option in command.options)


def filters() -> str:
    """What may stand after `|`."""
    rows = [
        [
            f"`{usage(each)}`",
            each.summary,
            "; ".join(f"`{option.shown}` {option.doc}" for option in each.options),
            "; ".join(f"`{example}`" for example in each.examples),
        ]
        for each in FILTERS
    ]
    return table(["filter", "what comes through", "options", "for example"], rows)


def failpoints() -> str:
    """The moments at which tests kill a daemon."""
    return table(["failpoint", "daemon", "what was done when the process dies, and what was not"], _failpoint_rows())


def _failpoint_rows() -> list[list[str]]:
    return [[f"`{each.name}`", each.daemon, each.doc] for each in FAILPOINTS.values()]


PARTS: dict[str, Callable[[], str]] = {
    "messages": messages,
    "main-settings": settings("main"),
    "worker-settings": settings("worker"),
    "errors": errors,
    "routes": routes,
    "prometheus": prometheus,
    "task-fields": task_fields,
    "task-types": task_types,
    "policy": lambda: _fields(POLICY),
    "metrics": lambda: _fields(SYSTEM_METRICS),
    "device-info": lambda: _fields(DEVICE_INFO),
    "hardware-specs": lambda: _fields(HARDWARE_SPECS),
    "transitions": transitions,
    "diagram": diagram,
    "failpoints": failpoints,
    "commands": commands,
    "filters": filters,
}


ROOT = DOCS.parent
TERMUX_HOME = Path("/data/data/com.termux/files/home")


def start_files() -> dict[Path, str]:
    """The files of deploy/ that start the daemons, from the templates that `retire-cluster join` uses."""
    # By env, as nobody knows where twistd is installed.
    twistd = ["/usr/bin/env", "PATH=/opt/retirecluster/bin:/usr/local/bin:/usr/bin:/bin", "twistd", "-n", "--pidfile="]
    parts = {}
    for name in ("retire-main", "retire-worker"):
        kind = name.removeprefix("retire-")
        command = [*twistd, name, "--config", f"/var/lib/retirecluster/{kind}/{kind}.json"]
        text = unit_text(f"{name}.service", command, system=True, account="retire", mark=EXAMPLE_MARK)
        parts[ROOT / "deploy" / "systemd" / f"{name}.service"] = text
    folder = TERMUX_HOME / ".local/share/retirecluster/worker"
    boot = ["twistd", "-n", "--pidfile=", f"--logfile={folder}/worker.log"]
    boot += ["retire-worker", "--config", f"{folder}/worker.json"]
    script = boot_text(TERMUX_SHELL, boot, EXAMPLE_MARK)
    return parts | {ROOT / "deploy" / "termux" / "retire-worker": script}


def generated(page: str) -> str:
    """A page with its generated parts made anew."""
    return PART.sub(lambda match: match[1] + PARTS[match[2]]() + match[3], page)


def main(arguments: list[str]) -> int:
    stale = []
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text("utf-8")
        fresh = generated(page)
        if fresh != page:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(fresh, "utf-8")
    for path, text in start_files().items():
        if not path.exists() or path.read_text("utf-8") != text:
            stale.append(path.name)
            if "--check" not in arguments:
                path.write_text(text, "utf-8")
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}; run python docs/generate.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
