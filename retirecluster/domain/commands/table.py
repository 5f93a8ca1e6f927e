"""Every command, in the order in which help shows them."""

from __future__ import annotations

from retirecluster.domain.commands import (
    access_table,
    admission_table,
    cluster_table,
    device_table,
    local_table,
    task_table,
)
from retirecluster.domain.commands.kinds import FILE, INTERVAL, PROFILE, TEXT
from retirecluster.domain.commands.model import CLI, SHELL, Command, Group, Option

FORMATS = ("table", "json", "csv", "tsv")
DEFAULT_WATCH_S = 2.0
HOW_TO_SHOW = "how to show it"
WHICH_CLUSTER = "which cluster"

FORMAT_OPTIONS = (
    Option(
        ("--format", "-o"),
        TEXT,
        "table (default), json, csv or tsv",
        choices=FORMATS,
        default="table",
        heading=HOW_TO_SHOW,
    ),
    Option(
        ("--watch",),
        INTERVAL,
        "show it again every TIME (2s)",
        metavar="TIME",
        alone=DEFAULT_WATCH_S,
        heading=HOW_TO_SHOW,
    ),
)
CONNECTION_OPTIONS = (
    Option(("--server",), TEXT, "the main's web port (RETIRE_CLUSTER_SERVER)", metavar="URL", doors=SHELL),
    Option(("--token",), TEXT, "access token; --token-file keeps it out of process lists", doors=SHELL),
    Option(("--token-file",), FILE, "file with the token (RETIRE_CLUSTER_TOKEN_FILE)", metavar="FILE", doors=SHELL),
    Option(
        ("--data-dir",),
        FILE,
        "data folder of a main here, for its token (RETIRE_CLUSTER_DATA_DIR)",
        metavar="DIR",
        doors=SHELL,
    ),
    Option(("--profile",), PROFILE, "a profile of `login` (RETIRE_CLUSTER_PROFILE)", metavar="NAME", doors=SHELL),
)
GROUPS: tuple[Group, ...] = (
    *task_table.GROUPS,
    *device_table.GROUPS,
    *cluster_table.GROUPS,
    *admission_table.GROUPS,
    *access_table.GROUPS,
)
COMMANDS: tuple[Command, ...] = (
    task_table.COMMANDS[0],
    local_table.CALL,
    *task_table.COMMANDS[1:],
    local_table.GET,
    *device_table.COMMANDS,
    *admission_table.DEVICE_COMMANDS,
    *cluster_table.COMMANDS,
    *admission_table.COMMANDS,
    *access_table.COMMANDS,
    *local_table.TERMINAL_COMMANDS,
    local_table.UP,
    local_table.JOIN,
    local_table.LEAVE,
    local_table.DEMO,
    local_table.HEALTH,
    local_table.BACKUP,
    local_table.RESTORE,
    local_table.INIT,
    local_table.COMPLETION,
    local_table.VERSION,
)
BY_NAME = {command.name: command for command in COMMANDS}


def general_options(command: Command, door: str) -> tuple[Option, ...]:
    """The options that a command has at a door because of what it is."""
    shown = FORMAT_OPTIONS if command.shows else ()
    return (*shown, *CONNECTION_OPTIONS) if door == CLI and command.connects else shown
