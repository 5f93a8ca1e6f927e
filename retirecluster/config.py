"""Configuration of the daemons: command line over RETIRE_CLUSTER_* variables over a JSON file over defaults.

The two tables here are the one home of every setting: they check the file, name the environment variables,
make the default file of `retire-cluster init` and the table in the documentation.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retirecluster.domain.devices import DEVICE_ID, LABELS, NAME
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import (
    Boolean,
    Field,
    Integer,
    ListOf,
    Number,
    Problem,
    Record,
    Text,
    nearest,
)
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.policy_fields import POLICY, policy_problems
from retirecluster.domain.scheduler.scoring import DEFAULT_STRATEGY, STRATEGIES
from retirecluster.domain.units import GIB, MIB

PREFIX = "RETIRE_CLUSTER_"
PATH = Text(4096, 1)
HOST = Text(255, 1)
PORT = Integer(0, 65535)
IPV4 = Text(15, 7, pattern=r"\d{1,3}(\.\d{1,3}){3}", pattern_doc="an IPv4 address")
LEVELS = ("debug", "info", "warn", "error")
TLS = ("auto", "on", "off")


def default_data_dir(kind: str) -> str:
    """Where a daemon (`main` or `worker`) keeps its files unless told otherwise."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return str(base / "retirecluster" / kind)


MAIN = Record(
    (
        Field("data_dir", PATH, "folder of the database, the admin token and the logs", default=""),
        Field("host", HOST, "address that both ports listen on", default="127.0.0.1"),
        Field("port", PORT, "TCP port for workers; 0 picks a free one", default=8080),
        Field("web_port", PORT, "TCP port for the web API and the dashboard; 0 picks a free one", default=5000),
        Field(
            "trusted_network",
            Boolean(),
            "allow listening beyond loopback without TLS and authentication: anyone on the network may then run "
            "tasks on your devices",
            default=False,
        ),
        Field(
            "tls",
            Text(choices=TLS),
            "encrypt both ports, and let devices in by join strings; auto: beyond loopback, unless the network is "
            "trusted",
            default="auto",
        ),
        Field(
            "approve_devices",
            Boolean(),
            "with TLS: a device that has joined waits until a person approves it",
            default=False,
        ),
        Field("allowed_hosts", ListOf(HOST, 64), "more names by which browsers may reach the web port", default=()),
        Field("heartbeat_interval_s", Number(0.05, 3600), "how often workers report, in seconds", default=60.0),
        Field("offline_after_s", Number(0.2, 86_400), "silence after which a device is offline", default=300.0),
        Field("lease_s", Number(0.2, 86_400), "how long an attempt is held without a renewal", default=300.0),
        Field(
            "failover_grace_s",
            Number(0, 3600),
            "how long a worker whose connection was closed without a farewell may take to come back before its "
            "tasks move on",
            default=1.0,
        ),
        Field("task_limits", LIMIT_FIELDS, "what a task may use that does not say", default={}),
        Field(
            "placement",
            Text(choices=tuple(STRATEGIES)),
            "what placement optimises; see the page about placement",
            default=DEFAULT_STRATEGY,
        ),
        Field("max_tasks", Integer(1, 100_000_000), "tasks that may wait or run at once", default=2_000_000),
        Field(
            "min_free_bytes",
            Integer(0, 2**50),
            "free space on the disk of the data folder below which no new tasks are taken in",
            default=64 * MIB,
        ),
        Field(
            "reserve_bytes",
            Integer(0, 2**40),
            "size of a file in the data folder that makes room for the last turn when the disk is full",
            default=8 * MIB,
        ),
        Field("max_file_bytes", Integer(0, 2**50), "the largest file that is taken in", default=16 * GIB),
        Field("max_files_bytes", Integer(0, 2**50), "size of all files together", default=128 * GIB),
        Field(
            "keep_tasks_days",
            Number(0, 36_500),
            "days after its end that a task is kept, with its result and its idempotency key",
            default=30.0,
        ),
        Field(
            "keep_unused_devices_days",
            Number(0, 36_500),
            "days after it was last heard of that a device is kept which never ran anything",
            default=30.0,
        ),
        Field("keep_events", Integer(1000, 10**12), "events that are kept: the newest", default=1_000_000),
        Field(
            "policy",
            POLICY,
            "when devices work, where their owners do not say; see the page about policies",
            nullable=True,
            default=None,
        ),
        Field("max_connections", Integer(1, 1_000_000), "worker connections in all", default=20_000),
        Field("max_connections_per_peer", Integer(1, 1_000_000), "worker connections from one address", default=4096),
        Field(
            "beacon",
            Boolean(),
            "say on the local network where this main is, so that devices find it; left out: if it listens beyond "
            "loopback",
            nullable=True,
            default=None,
        ),
        Field(
            "cluster_name",
            Text(64, 1),
            "what the beacon calls the cluster; the host's name",
            nullable=True,
            default=None,
        ),
        Field(
            "wake_on_lan",
            Boolean(),
            "wake devices that sleep when tasks wait for them, where their owners allow it",
            default=False,
        ),
        Field("wake_broadcast", IPV4, "where packets that wake are sent, as 192.168.1.255", default="255.255.255.255"),
        Field("wake_port", Integer(1, 65535), "UDP port that they are sent to", default=9),
        Field("log_level", Text(choices=LEVELS), default="info"),
    ),
    closed=True,
)
WORKER = Record(
    (
        Field("data_dir", PATH, "folder of the journal and the tasks' scratch folders", default=""),
        Field(
            "join",
            Text(4096, 1),
            "host or host:port of the main; `auto`: the one that is found on the local network; or a join string",
            default="127.0.0.1:8080",
        ),
        Field("device_id", DEVICE_ID, "made from the host name once, and kept", nullable=True, default=None),
        Field("role", NAME, "worker, compute, mobile, storage, nas or your own; guessed", nullable=True, default=None),
        Field(
            "slots", Integer(1, 4096), "tasks at the same time; the number of processors", nullable=True, default=None
        ),
        Field("tags", ListOf(NAME, 64), "words that tasks can ask for", default=()),
        Field("labels", LABELS, "names and values, shown with the device", default={}),
        Field(
            "isolation",
            Integer(0, 3),
            "the isolation level that every task has at least; 1, and 0 on Windows",
            nullable=True,
            default=None,
        ),
        Field("limits", LIMIT_FIELDS, "what one task may use at most on this device", default={}),
        Field("allow_code", Boolean(), "offer the task types that run what the submitter wrote", default=True),
        Field("http_allow_private", Boolean(), "let http_request reach private addresses", default=False),
        Field(
            "cache_bytes",
            Integer(0, 2**50),
            "files of tasks that are kept for the next ones; 2 GiB or a tenth of the disk, whichever is smaller",
            nullable=True,
            default=None,
        ),
        Field("max_output_files_bytes", Integer(0, 2**50), "what one task may leave in files", default=4 * GIB),
        Field(
            "drain_s", Number(0, 86_400), "how long running tasks may go on when the worker is stopped", default=10.0
        ),
        Field("warm_tasks", Integer(1, 100_000), "tasks after which a warm process is replaced", default=1000),
        Field("checkpoint_days", Number(0, 3650), "days that an unused checkpoint folder is kept", default=7.0),
        Field("checkpoint_bytes", Integer(0, 2**50), "size of all checkpoint folders that are kept", default=GIB),
        Field(
            "low_disk_bytes",
            Integer(0, 2**50),
            "free space below which old logs and leftovers are removed and the main is told",
            default=256 * MIB,
        ),
        Field(
            "system_root",
            PATH,
            "where the device's /proc and /sys are, in a container that has them elsewhere",
            default="/",
        ),
        Field(
            "monitor_interval_s",
            Number(0.05, 3600),
            "how often the device looks at itself for its policy, if it has one",
            default=10.0,
        ),
        Field(
            "policy",
            POLICY,
            "when this device works for the cluster; see the page about policies",
            nullable=True,
            default=None,
        ),
        Field("wake_on_lan", Boolean(), "let the main wake this device when it sleeps and tasks wait", default=False),
        Field(
            "idle_sleep_command",
            ListOf(Text(4096, 1), 64),
            "program and arguments that put this device to sleep when it has nothing to do; none: never",
            default=(),
        ),
        Field("idle_sleep_after_s", Number(1, 604_800), "how long nothing ran before that, in seconds", default=1800.0),
        Field("platform", NAME, "announce this platform instead of the real one", nullable=True, default=None),
        Field("memory_gb", Number(0.01, 1e6), "announce this much memory, in GiB", nullable=True, default=None),
        Field("log_level", Text(choices=LEVELS), default="info"),
    ),
    closed=True,
)
CLIENT_VARIABLES = {PREFIX + name for name in ("SERVER", "TOKEN", "TOKEN_FILE", "DATA_DIR", "FAILPOINT", "PROFILE")}
"""Variables that are not settings of a daemon."""
KINDS = {"main": MAIN, "worker": WORKER}


def default_document(kind: str) -> dict[str, Any]:
    """Every setting of a daemon with its default, as `retire-cluster init` writes it."""
    document = {each.name: _plain(each.default) for each in KINDS[kind].fields}
    return document | {"data_dir": default_data_dir(kind)}


def load_config(kind: str, cli: Mapping[str, Any], environ: Mapping[str, str], path: str | None) -> dict[str, Any]:
    """The settings of a daemon from all layers; `cli` values are text or typed; those that are None were not given.

    Raises ClusterError bad_config whose message is one line that names the layer, the setting, and what is allowed.
    """
    record = KINDS[kind]
    settings = default_document(kind)
    given = {name: _parsed(record.by_name[name], value) for name, value in cli.items() if value is not None}
    for origin, layer in (
        (f"{path}", _from_file(path)),
        ("environment", _from_environment(record, environ)),
        ("command line", given),
    ):
        problems = record.problems(layer)
        if problems:
            raise _mistake(origin, problems[0])
        settings |= {name: value for name, value in layer.items() if value is not None}
    if settings["policy"] is not None and (problems := policy_problems(settings["policy"])):
        raise _mistake("settings", problems[0])
    if kind == "main":
        _check_sense(settings)
    return settings


def _check_sense(settings: Mapping[str, Any]) -> None:
    interval_s = settings["heartbeat_interval_s"]
    for name in ("offline_after_s", "lease_s"):
        if settings[name] < 2 * interval_s:
            wanted = f"must be at least twice heartbeat_interval_s ({2 * interval_s:g}), is {settings[name]:g}"
            raise _mistake("settings", Problem(name, wanted))


def _from_file(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        text = Path(path).read_text("utf-8")
        document = json.loads(text, object_pairs_hook=_no_name_twice)
    except OSError as error:
        raise ClusterError("bad_config", f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClusterError("bad_config", f"{path}: is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ClusterError("bad_config", f"{path}: is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ClusterError("bad_config", f"{path}: must hold a JSON object such as {{}}")
    return document


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name} stands there twice")
    return dict(pairs)


def _from_environment(record: Record, environ: Mapping[str, str]) -> dict[str, Any]:
    known = {PREFIX + each.name.upper() for kind in KINDS.values() for each in kind.fields} | CLIENT_VARIABLES
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = nearest(name, sorted(known))
            hint = f"did you mean {near}?" if near else f"known are {', '.join(sorted(known))}"
            raise ClusterError("bad_config", f"environment: {name}: is not a known setting; {hint}", field=name)
    return {
        each.name: _parsed(each, environ[PREFIX + each.name.upper()])
        for each in record.fields
        if PREFIX + each.name.upper() in environ
    }


def _parsed(each: Field, text: Any) -> Any:
    """A text as the setting's type; one that does not fit stays text and is refused by the check."""
    if isinstance(each.type, Text) or not isinstance(text, str):
        return text
    if isinstance(each.type, ListOf) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return json.loads(text.lower() if isinstance(each.type, Boolean) else text)
    except ValueError:
        return text


def _mistake(origin: str, problem: Problem) -> ClusterError:
    name = problem.path
    if origin == "environment":
        name = PREFIX + name.upper()
    elif origin == "command line":
        name = "--" + name.replace("_", "-")
    return ClusterError("bad_config", f"{origin}: {name}: {problem.message}", field=problem.path)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, dict) else value
