"""What `tasks why` says in one sentence: of tasks that nobody takes, and of those that stand still."""

from __future__ import annotations

from retirecluster.domain.devices import Presence
from retirecluster.domain.explain import explain
from retirecluster.domain.scheduler import Task
from retirecluster.domain.scheduler.picture import Pause
from tests.domain.test_placement import Bed

QUIET = "the cluster is quiet for 1h, until 2026-07-01 13:00 UTC"


def reason(bed: Bed, task: Task) -> str:
    return str(explain(task, bed.scheduler.devices.values())["reason"])


def test_a_device_that_is_there_and_rests_is_named() -> None:
    bed = Bed()
    for number in range(62):
        bed.device(f"w{number}")
    devices = bed.scheduler.devices
    [task] = bed.submit()
    for device in devices.values():
        device.presence = Presence.OFFLINE
    assert reason(bed, task) == "none of the 62 devices that fit is there"
    devices["w3"].presence, devices["w3"].rests = Presence.ONLINE, (QUIET,)
    assert reason(bed, task) == (
        f"none of the 62 devices that fit takes tasks now: w3 is paused: {QUIET}; 61 are not there"
    )
    for name in ("w4", "w5"):
        devices[name].presence, devices[name].rests = Presence.ONLINE, (QUIET,)
    devices["w6"].presence, devices["w6"].cordoned = Presence.ONLINE, True
    assert reason(bed, task) == (
        f"none of the 62 devices that fit takes tasks now: w3 is paused: {QUIET}; "
        "of the others 2 are paused, 1 is cordoned; 58 are not there"
    )


def test_a_task_that_stands_still_says_why() -> None:
    bed = Bed()
    bed.device("w3")
    [task] = bed.submit()
    [(_, attempt)] = [(grant, task.attempt) for grant in bed.grants()]
    assert attempt is not None
    bed.scheduler.attempts.started(task, attempt, bed.now)
    assert reason(bed, task) == "on w3, attempt 1"
    device = bed.scheduler.devices["w3"]
    device.pause = Pause("battery 31 % < 40 %", "continue", 0.0)
    assert reason(bed, task) == "on w3, attempt 1", "it goes on"
    device.pause = Pause("battery 31 % < 40 %", "suspend", 0.0)
    assert reason(bed, task) == "suspended: battery 31 % < 40 % (on w3, attempt 1)"
