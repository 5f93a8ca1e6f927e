"""The rules that tell what is current from what is late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.devices import DeviceProfile, Presence
from retirecluster.domain.fencing import Reception, is_current, lease_end, reception
from retirecluster.domain.scheduler import Device


def test_only_the_open_session_is_current() -> None:
    device = Device("d", DeviceProfile("d"), presence=Presence.ONLINE, session_no=3)
    assert is_current(device, 3)
    assert not is_current(device, 2) and not is_current(device, 4) and not is_current(None, 3)
    for presence in (Presence.DISCONNECTED, Presence.OFFLINE):
        device.presence = presence
        assert not is_current(device, 3)


def test_an_assignment_counts_once_and_in_its_own_session() -> None:
    key, known = ("t", 2), {("t", 1)}
    assert reception(key, 3, 3, known) is Reception.TAKE
    assert reception(("t", 1), 3, 3, known) is Reception.KNOWN
    for of_session, session_no in ((2, 3), (4, 3), (3, None)):
        assert reception(key, of_session, session_no, known) is Reception.LATE


@given(st.floats(0, 1e6), st.floats(0.01, 864_000))
def test_a_worker_has_stopped_before_the_main_gives_its_tasks_away(asked_at_s: float, lease_s: float) -> None:
    end = lease_end(asked_at_s, lease_s)
    assert asked_at_s <= end.at_s <= end.at_s + end.grace_s <= asked_at_s + lease_s
    assert end.grace_s >= 0
