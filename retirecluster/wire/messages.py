"""The catalogue of messages: name, who may send it, and its fields. One home for what the protocol is.

It feeds validation (here and in `session`), the protocol page of the documentation, and the tests' random
messages. The seed's four example messages are valid as they are printed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from retirecluster.domain.devices import (
    DEVICE_ID,
    DEVICE_INFO,
    HARDWARE_SPECS,
    LABELS,
    NAME,
    SOURCES,
    SYSTEM_METRICS,
    TOOLS,
)
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import (
    AnyObject,
    Anything,
    Boolean,
    Field,
    Integer,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Problem,
    Problems,
    Record,
    Text,
    nearest,
)
from retirecluster.domain.join_string import SECRET
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.parts import sound_part
from retirecluster.domain.policy_fields import ON_PAUSE, POLICY, SIGNAL_NAME, SIGNAL_VALUE
from retirecluster.domain.schemas import MAX_SCHEMAS
from retirecluster.domain.task_types import TYPE_NAME
from retirecluster.domain.tasks import TASK_FIELDS

PROTOCOL_VERSION = 1
MAIN, WORKER, CLIENT = "main", "worker", "client"
HEARTBEAT_INTERVAL_S = 60.0
OFFLINE_AFTER_S = 300.0

TASK_ID = Text(max_length=64, min_length=1)
EPOCH = Integer(1)
TASK = Field("task_id", TASK_ID, required=True)
EPOCH_OPTIONAL = Field("epoch", EPOCH, "the attempt; left out: the one this session was given", nullable=True)
REASON = Field("reason", Text(1000, multiline=True), "for people", nullable=True)
AUTH = Field("auth", AnyObject(), "{token: ...} where the main asks for it", nullable=True)
CERTIFICATE = Text(8192, 1, multiline=True)
OUTCOMES = ("completed", "success", "failed", "timeout", "cancelled", "error")
"""Values of a result's status. `success` is the original's word for completed, `error` for failed."""

AVAILABLE, PAUSED = "available", "paused"
AVAILABILITY = (
    Field("state", Text(choices=(AVAILABLE, PAUSED)), "whether its owner's policy lets it work", required=True),
    REASON,
    Field("since_s", Number(), "how long it has been so, in seconds", nullable=True),
    Field("running", Text(choices=ON_PAUSE), "what becomes of running tasks while it is paused", nullable=True),
    Field("still_s", Number(), "how long running tasks have stood still, in seconds", nullable=True),
    Field(
        "rules",
        ListOf(
            Record(
                (
                    Field("rule", Text(128, 1), "power, battery, temperature, hours, owner, load, ...", required=True),
                    Field("known", Boolean(), "false: what it looks at is not known", nullable=True),
                )
            ),
            512,
        ),
        "the rules of the policy that ask for the pause; left out: not told",
        nullable=True,
    ),
    Field("settling", Boolean(), "no rule asks for it any more; it ends once that has lasted", nullable=True),
    Field(
        "policy",
        ListOf(Text(200), 64),
        "what is followed, the cluster's policy with the owner's over it, as `battery: pause_below 40`",
        nullable=True,
    ),
    Field("untold", ListOf(Text(128, 1), 512), "rules whose readings are not known on this device", nullable=True),
)
SIGNALS = MapOf(
    Record(
        (
            Field("value", SIGNAL_VALUE, required=True),
            Field("ttl_s", Number(0, 1e9), "seconds that it is good for yet", required=True),
        )
    ),
    256,
    SIGNAL_NAME,
)
ONE_REST = (
    Field("for_s", Number(0, 1e9), "seconds; 0 ends it", required=True),
    Field("running", Text(choices=ON_PAUSE), "what becomes of running tasks", required=True),
    REASON,
)
REST = (
    *ONE_REST,
    Field(
        "also",
        ListOf(Record(ONE_REST), 8),
        "others that hold at the same time; the strongest `running` of all counts",
        nullable=True,
    ),
)

ATTEMPT = Record((TASK, Field("epoch", EPOCH, required=True)))
STOPPED = Record(
    (
        TASK,
        Field("epoch", EPOCH, required=True),
        Field("final", Boolean(), "the task is over: no other attempt of it follows", nullable=True),
    )
)
MAX_LEFT_OUT = 64
LEFT_OUT = Record(
    (
        Field("field", Text(400), "as data.system_metrics.cpu_usage", required=True),
        Field("message", Text(2000), "what is wrong with it, and what is allowed", required=True),
    )
)
CLAIMED_ATTEMPT = Record(
    (
        TASK,
        Field("epoch", EPOCH, required=True),
        Field(
            "state",
            Text(choices=("queued", "running", "spooled", "died")),
            "waiting for a slot, running, result kept to be sent, or started without an end",
            required=True,
        ),
    )
)
FILES_DOOR = Record(
    (
        Field("port", Integer(1, 65535), "of HTTP, on the host that this connection goes to", required=True),
        Field("token", Text(200, 1), "for Authorization: Bearer; dies with the session", required=True),
    )
)
OUTPUT_TEXT = Text(1_000_000, multiline=True)
RESULT = Record(
    (
        Field(
            "output",
            Anything("text, at most 1,000,000 characters"),
            "what it printed or returned",
            nullable=True,
        ),
        Field("stderr", OUTPUT_TEXT, nullable=True),
        Field("truncated", Boolean(), "the beginning of the output was dropped", nullable=True),
        Field("exit_code", Integer(-(2**31), 2**32), nullable=True),
        Field(
            "skipped_files",
            ListOf(Text(2000, multiline=True), 128),
            "what its output patterns matched and was not kept, and why",
            nullable=True,
        ),
        Field(
            "metrics",
            Record(
                (
                    Field("cpu_time", Number(), "seconds", nullable=True),
                    Field("memory_peak", Integer(), "bytes", nullable=True),
                )
            ),
            nullable=True,
        ),
    )
)
TASK_ERROR = Record(
    (
        Field("kind", NAME, "exit, signal, timeout, exception, payload, ...", nullable=True),
        Field("message", Text(20_000, multiline=True), nullable=True),
        Field("retryable", Boolean(), "false: another attempt would fail the same way", nullable=True),
    )
)


@frozen
class MessageType:
    """One row: `senders` are main, worker or client; `early` ones are understood before registration.

    What is wrong in the fields that are `spared` is left out, and said, instead of costing the whole message.
    """

    name: str
    senders: frozenset[str]
    data: Record
    doc: str
    early: bool = False
    spared: frozenset[str] = frozenset()


def _row(
    name: str, senders: str, doc: str, *fields: Field, early: bool = False, spared: frozenset[str] = frozenset()
) -> MessageType:
    return MessageType(name, frozenset(senders.split()), Record(fields), doc, early, spared)


def _catalogue(*rows: MessageType) -> dict[str, MessageType]:
    return {row.name: row for row in rows}


FENCES = Record(
    (
        Field("layers", ListOf(NAME, 64), "what was seen to hold at the strongest level", nullable=True),
        Field("missing", MapOf(Text(1000, multiline=True), 8), "by level, why it is not reached", nullable=True),
        Field("default", Integer(0, 3), "the level that every task has at least", nullable=True),
        Field("limits", LIMIT_FIELDS, "what its owner lets a task have at most", nullable=True),
    )
)
MESSAGES = _catalogue(
    _row(
        "connection_ack",
        "main",
        "The first line on a connection: who answers, and within which limits.",
        Field("protocol_version", Integer(1), required=True),
        Field("server_id", NAME, required=True),
        Field("limits", AnyObject(), "max_line_bytes, max_depth, register_within_s", required=True),
        Field("auth", Text(choices=("none", "required")), "required: a device certificate, or `join`", required=True),
        Field("ca", CERTIFICATE, "the authority's certificate; believe it for its hash alone", nullable=True),
        early=True,
    ),
    _row(
        "join",
        "worker",
        "Let me in, by the secret of a join string; answered with `join_ack`. Only over TLS that has been verified.",
        Field("secret", SECRET, required=True),
        Field("device_id", DEVICE_ID, "by which it wants to be known", required=True),
        Field("nonce", SECRET, "made up once for this; who says it again gets another answer", required=True),
        early=True,
    ),
    _row(
        "join_ack",
        "main",
        "Who the device is from now on, and what it proves that with.",
        Field("device_id", DEVICE_ID, "what it asked for, or what the join string says", required=True),
        Field("certificate", CERTIFICATE, "PEM", required=True),
        Field("key", CERTIFICATE, "PEM; the main does not keep it", required=True),
        Field("waiting", Boolean(), "a person has to approve it first", required=True),
    ),
    _row(
        "register",
        "worker",
        "What a device is. The first thing a worker says.",
        Field("device_info", DEVICE_INFO, required=True),
        Field("hardware_specs", HARDWARE_SPECS, nullable=True),
        Field("capabilities", ListOf(NAME, 256), nullable=True),
        Field("protocol_version", Integer(1, 1000), nullable=True),
        Field("slots", Integer(1, 4096), "tasks it runs at the same time; default 1", nullable=True),
        Field("prefetch", Integer(0, 1024), "short tasks it queues beyond its slots; default 0", nullable=True),
        Field("task_types", ListOf(TYPE_NAME, 1024), "what it offers; left out: everything", nullable=True),
        Field(
            "task_schemas",
            MapOf(AnyObject(), MAX_SCHEMAS, TYPE_NAME),
            "JSON Schemas of the payloads of plug-ins' types; those that are not understood check nothing",
            nullable=True,
        ),
        Field("isolation", Integer(0, 3), "the strongest isolation level it reaches", nullable=True),
        Field("fences", FENCES, "what isolates tasks on it, as it was tried there", nullable=True),
        Field("speed", Number(0.001, 1000), "relative to a common device, which has 1", nullable=True),
        Field("tools", TOOLS, "programs that were found, with versions where they are known", nullable=True),
        Field("sources", SOURCES, "where each fact of device_info and hardware_specs came from", nullable=True),
        Field("tags", ListOf(NAME, 64), nullable=True),
        Field("labels", LABELS, nullable=True),
        Field("attempts", ListOf(CLAIMED_ATTEMPT, 10_000), "what its journal holds", nullable=True),
        Field("wake_on_lan", Boolean(), "its owner lets it be woken when it sleeps", nullable=True),
        Field(
            "cpus_offered",
            Number(0, 4096),
            "processors that tasks may use, where they are fewer than the device has",
            nullable=True,
        ),
        Field("availability", Record(AVAILABILITY), "as in `availability`; left out: available", nullable=True),
        AUTH,
        early=True,
    ),
    _row(
        "register_ack",
        "main",
        "Welcome, what to go on with, and how often to report.",
        Field("accepted", Boolean(), required=True),
        Field("device_id", DEVICE_ID, required=True),
        Field("session_no", Integer(1), required=True),
        Field("heartbeat_interval_s", Number(0.01, 86_400), required=True),
        Field("offline_after_s", Number(0.01, 864_000), required=True),
        Field("lease_s", Number(0.01, 864_000), "how long attempts are held without a renewal", required=True),
        Field("resume", ListOf(ATTEMPT, 10_000), "claimed attempts that are current: go on", required=True),
        Field("stop", ListOf(STOPPED, 10_000), "claimed attempts that are not: stop and forget", required=True),
        Field("task_limits", LIMIT_FIELDS, "what tasks may use that do not say", nullable=True),
        Field("files", FILES_DOOR, "where tasks' files are, for this session", nullable=True),
        Field("policy", POLICY, "the cluster's defaults; the owner's own come before them", nullable=True),
        Field("signals", SIGNALS, "as in `signals`", nullable=True),
        Field("rest", Record(REST), "as in `rest`", nullable=True),
    ),
    _row(
        "availability",
        "worker",
        "Whether the owner's policy lets the device work, and why not. While it is paused it is given nothing new.",
        *AVAILABILITY,
    ),
    _row(
        "signals",
        "main",
        "Signals from outside (a tariff, the sun), for policies: all that hold now, in place of those before.",
        Field("signals", SIGNALS, required=True),
    ),
    _row("rest", "main", "A person wants the device left alone for a while; what was said before is void.", *REST),
    _row(
        "heartbeat",
        "worker",
        "I am here, this is how I do, and these attempts I hold.",
        Field("system_metrics", SYSTEM_METRICS, nullable=True),
        Field("status", NAME, nullable=True),
        Field("active_tasks", Integer(0, 1_000_000), nullable=True),
        Field("last_activity", NAME, "UTC, ISO 8601", nullable=True),
        Field("attempts", ListOf(ATTEMPT, 10_000), "left out: all it was given", nullable=True),
        spared=frozenset({"system_metrics", "status", "active_tasks", "last_activity"}),
    ),
    _row(
        "heartbeat_ack",
        "main",
        "What was renewed, and what to stop.",
        Field("renewed", ListOf(ATTEMPT, 10_000), required=True),
        Field("stop", ListOf(STOPPED, 10_000), required=True),
        Field("lease_s", Number(0.01, 864_000), required=True),
        Field("left_out", ListOf(LEFT_OUT, MAX_LEFT_OUT), "what made no sense: all else was taken in", nullable=True),
    ),
    _row(
        "task_assign",
        "main",
        "Run this.",
        Field("task", AnyObject(), "a task's fields and the epoch", required=True),
    ),
    _row("task_started", "worker", "The task's process runs.", TASK, EPOCH_OPTIONAL),
    _row(
        "task_refused",
        "worker",
        "It was not or cannot be run here, or is handed back; not charged.",
        TASK,
        EPOCH_OPTIONAL,
        REASON,
    ),
    _row(
        "task_progress",
        "worker",
        "How far it is.",
        TASK,
        EPOCH_OPTIONAL,
        Field("percent", Number(0, 100), nullable=True),
        Field("message", Text(1000, multiline=True), nullable=True),
    ),
    _row(
        "task_output",
        "worker",
        "A piece of what it prints, while it runs.",
        TASK,
        EPOCH_OPTIONAL,
        Field("stream", Text(choices=("stdout", "stderr")), required=True),
        Field("seq", Integer(0), "0, 1, 2, ... over both streams", required=True),
        Field("data", OUTPUT_TEXT, required=True),
    ),
    _row(
        "task_result",
        "worker",
        "How it ended; sent again until result_ack comes.",
        TASK,
        EPOCH_OPTIONAL,
        Field("status", Text(choices=OUTCOMES), required=True),
        Field("execution_time", Number(), "seconds", nullable=True),
        Field("result", RESULT, nullable=True),
        Field("error", OneOf((TASK_ERROR, OUTPUT_TEXT)), "why it failed", nullable=True),
        Field(
            "artifacts",
            ListOf(AnyObject(), 1024),
            "files that it left, uploaded before: {name, sha256, size_bytes} each",
            nullable=True,
        ),
    ),
    _row(
        "result_ack",
        "main",
        "The result is on disk, or refused for a reason; either way it need not be kept.",
        TASK,
        EPOCH_OPTIONAL,
        Field("accepted", Boolean(), required=True),
        REASON,
        Field("final", Boolean(), "the task is over: no other attempt of it follows", nullable=True),
    ),
    _row("task_cancel", "main client", "Stop it.", TASK, EPOCH_OPTIONAL, REASON, AUTH, early=True),
    _row("drain", "main worker", "No new tasks, please.", REASON),
    _row("undrain", "main worker", "New tasks are welcome again.", REASON),
    _row("ping", "main worker client", "Are you there?", early=True),
    _row("pong", "main worker client", "Yes.", early=True),
    _row("shutdown", "main", "End what runs and leave.", REASON),
    _row(
        "broadcast",
        "main",
        "A word to all devices.",
        Field("message", Text(10_000, multiline=True), required=True),
    ),
    _row("status", "client", "The cluster's figures; answered with `ack`.", early=True),
    _row("list_devices", "client", "All devices; answered with `ack`.", early=True),
    _row(
        "device_info",
        "client",
        "One device; answered with `ack`.",
        Field("device_id", DEVICE_ID, required=True),
        early=True,
    ),
    _row(
        "task_submit",
        "client",
        "A new task; answered with `ack` once it is on disk.",
        Field("task", TASK_FIELDS, required=True),
        AUTH,
        early=True,
    ),
    _row("task_status", "client", "One task; answered with `ack`.", TASK, early=True),
    _row(
        "ack",
        "main",
        "The answer to a client's request.",
        Field("original_message_id", Text(200), nullable=True),
        Field("result", Anything(), required=True),
        early=True,
    ),
    _row(
        "disconnect",
        "main worker client",
        "A graceful end. A worker whose device goes to sleep gives the reason `asleep`.",
        REASON,
        Field("returning", Boolean(), "a worker goes on with what it runs, and connects again", nullable=True),
        early=True,
    ),
    _row(
        "error",
        "main worker client",
        "What was wrong with a message.",
        Field("code", NAME, required=True),
        Field("message", Text(2000, multiline=True), required=True),
        Field("field", Text(400), nullable=True),
        early=True,
    ),
)

ENVELOPE = Record(
    (
        Field("message_type", Text(64, 1), required=True),
        Field("sender_id", Text(128), "who speaks, by its own word", nullable=True),
        Field("timestamp", Text(64), "UTC, ISO 8601 with Z", nullable=True),
        Field("target_id", Text(128), nullable=True),
        Field("receiver_id", Text(128), "the original's name for target_id", nullable=True),
        Field("message_id", Text(200), nullable=True),
        Field("in_reply_to", Text(200), nullable=True),
        Field("data", AnyObject(), nullable=True),
    )
)


@frozen
class Message:
    """One checked message. `data` is what the catalogue says of `kind`; unknown fields may be in it too."""

    kind: MessageType
    data: Mapping[str, Any]
    sender_id: str = ""
    message_id: str | None = None
    in_reply_to: str | None = None
    left_out: tuple[Problem, ...] = ()
    """What was wrong in fields that are spared; it is not in `data`."""

    @property
    def name(self) -> str:
        return self.kind.name


def kind_of(document: dict[str, Any], senders: frozenset[str]) -> MessageType:
    """The row of a decoded line from a peer that may be any of `senders`; its data is not looked at yet.

    Raises ClusterError: missing_field, bad_field, unknown_type, wrong_direction.
    """
    problems = ENVELOPE.problems(document)
    if problems:
        raise invalid(problems)
    name = document["message_type"]
    kind = MESSAGES.get(name)
    if kind is None:
        near = nearest(name, MESSAGES)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(MESSAGES)}"
        raise ClusterError("unknown_type", f"message_type: {name!a} is not known; {hint}", field="message_type")
    if not kind.senders & senders:
        allowed = " or ".join(sorted(kind.senders))
        raise ClusterError("wrong_direction", f"{name} is for the {allowed} to send", field="message_type")
    return kind


def read_data(kind: MessageType, document: dict[str, Any]) -> Message:
    """The message, its data checked. Raises ClusterError: missing_field, bad_field.

    Fields are named from the top, as in `data.hardware_specs.cpu_cores`.
    """
    data = document.get("data") or {}
    left_out: tuple[Problem, ...] = ()
    problems = kind.data.problems(data, "data")
    if problems and kind.spared:
        data, left_out, problems = _spared(kind, data)
    if problems:
        raise invalid(problems)
    sender_id = document.get("sender_id") or ""
    return Message(kind, data, sender_id, document.get("message_id"), document.get("in_reply_to"), left_out)


def _spared(kind: MessageType, data: dict[str, Any]) -> tuple[dict[str, Any], tuple[Problem, ...], Problems]:
    """The data without what is wrong in fields that are spared; what that was; and what else is wrong."""
    sound, left_out = dict(data), []
    for name in kind.spared & data.keys():
        found: Problems = []
        sound[name] = sound_part(kind.data.by_name[name].type, data[name], f"data.{name}", found)
        left_out += found
    return sound, tuple(left_out), kind.data.problems(sound, "data")


def read_message(document: dict[str, Any], senders: frozenset[str]) -> Message:
    """Check a decoded line whole; raises as `kind_of` and `read_data`."""
    return read_data(kind_of(document, senders), document)
