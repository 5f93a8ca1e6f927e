"""Failpoints: named moments at which a daemon can be made to die, so that tests can prove what survives.

Armed by the environment variable RETIRE_CLUSTER_FAILPOINT alone, as `name` or `name:nth`: when the moment comes for
the nth time the process is killed as if by `kill -9`. The killing itself is handed in by the service modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from attrs import frozen

from retirecluster.domain.errors import ClusterError

VARIABLE = "RETIRE_CLUSTER_FAILPOINT"
Reached = Callable[[str], None]
"""Told the name of each failpoint that is passed."""

AFTER_DECIDE = "after-decide-before-commit"
AFTER_PERSIST = "after-persist-before-ack"
AFTER_GRANT = "after-grant-commit-before-send"
AFTER_RESULT = "after-result-commit-before-ack"
MIGRATING = "between-migration-steps"
AFTER_ACCEPT = "after-accept-before-start"
AFTER_EXEC = "after-exec-before-started"
AFTER_SPOOL = "after-spool-before-send"
AFTER_UPLOAD = "after-upload-before-result"
AFTER_SENT = "after-result-sent-before-ack"
STOPPING = "while-stopping"


@frozen
class Failpoint:
    """One moment in the life of a daemon (`main` or `worker`)."""

    name: str
    daemon: str
    doc: str


FAILPOINTS = {
    each.name: each
    for each in (
        Failpoint(AFTER_DECIDE, "main", "a turn was decided in memory; nothing of it is on disk"),
        Failpoint(AFTER_PERSIST, "main", "new tasks are on disk; whoever submitted them was not told"),
        Failpoint(AFTER_GRANT, "main", "grants are on disk; no device was told"),
        Failpoint(AFTER_RESULT, "main", "results are on disk; the devices were not told"),
        Failpoint(MIGRATING, "main", "one numbered schema file was applied; what follows it was not done"),
        Failpoint(AFTER_ACCEPT, "worker", "an attempt is in the journal; it was not started"),
        Failpoint(AFTER_EXEC, "worker", "the process of an attempt runs; neither its number is kept nor the main told"),
        Failpoint(AFTER_SPOOL, "worker", "a result is in the journal; it was not sent"),
        Failpoint(AFTER_UPLOAD, "worker", "the main has the files of a result; the result was not sent"),
        Failpoint(AFTER_SENT, "worker", "the main acknowledged a result; the journal still has it"),
        Failpoint(STOPPING, "worker", "it was told to end and its tasks are over; they were not handed back"),
    )
}


def unarmed(name: str) -> None:
    """What every failpoint is while none is armed: nothing."""


def armed(daemon: str, environ: Mapping[str, str], die: Callable[[], None]) -> Reached:
    """What a daemon calls at its failpoints: `unarmed`, or a counter that calls `die` when the time has come.

    A failpoint of the other daemon is ignored, so that both may have the same environment. Raises ClusterError
    bad_config for a name that is not in the table.
    """
    text = environ.get(VARIABLE, "")
    if not text:
        return unarmed
    name, nth = _read(text)
    if FAILPOINTS[name].daemon != daemon:
        return unarmed
    left = nth

    def reached(passed: str) -> None:
        nonlocal left
        if passed == name:
            left -= 1
            if left == 0:
                die()

    return reached


def _read(text: str) -> tuple[str, int]:
    name, _, nth = text.partition(":")
    if name not in FAILPOINTS or (nth and not nth.isdecimal()) or nth == "0":
        known = ", ".join(FAILPOINTS)
        raise ClusterError("bad_config", f"{VARIABLE}: {text!a} must be NAME or NAME:COUNT, NAME one of {known}")
    return name, int(nth or 1)
