"""Which warm process a task goes to."""

from __future__ import annotations

from retirecluster.worker.lanes import AHEAD, KEPT_KEYS, STUCK_S, Lane, Lanes


def taken(
    lanes: Lanes, number: int, *, slot: bool, key: str = "a", ahead: bool = True, now: float = 0.0
) -> Lane | None:
    return lanes.take(key, number, now, slot=slot, ahead=ahead)


def short(lanes: Lanes, key: str = "a") -> None:
    """Let the lanes learn that tasks of this key are short."""
    lane = taken(lanes, -1, slot=True, key=key)
    assert lane is not None
    lanes.leave(lane, -1, 0.0, 0.0001)


def test_each_slot_has_a_lane_and_it_is_used_again() -> None:
    lanes = Lanes()
    first, second = taken(lanes, 1, slot=True), taken(lanes, 2, slot=True)
    assert first is not None and second is not None and first.name != second.name
    lanes.leave(first, 1, 1.0, 0.5)
    assert taken(lanes, 3, slot=True) is first


def test_tasks_go_ahead_only_once_they_are_known_to_be_short() -> None:
    lanes = Lanes()
    taken(lanes, 1, slot=True)
    assert taken(lanes, 2, slot=False) is None
    lanes = Lanes()
    short(lanes)
    lane = taken(lanes, 1, slot=True)
    assert taken(lanes, 2, slot=False) is lane and lanes.ahead == 1
    assert taken(lanes, 3, slot=False, key="b") is None, "other submitters have lanes of their own"
    assert taken(lanes, 4, slot=False, ahead=False) is None


def test_a_lane_holds_so_many_and_the_count_is_right() -> None:
    lanes = Lanes()
    short(lanes)
    lane = taken(lanes, 1, slot=True)
    assert lane is not None
    for number in range(2, AHEAD + 1):
        assert taken(lanes, number, slot=False) is lane
    assert taken(lanes, 100, slot=False) is None and lanes.ahead == AHEAD - 1
    for number in range(1, AHEAD + 1):
        lanes.leave(lane, number, 0.0, 0.0001)
        lanes.leave(lane, number, 0.0, 0.0001)  # a second time changes nothing
    assert lanes.ahead == 0 and not lane.holds


def test_those_behind_a_long_one_are_called_back_once_and_no_others_sent_there() -> None:
    lanes = Lanes()
    short(lanes)
    lane = taken(lanes, 1, slot=True)
    assert lane is not None
    taken(lanes, 2, slot=False)
    assert lanes.stuck(STUCK_S / 2) == []
    assert lanes.stuck(STUCK_S) == [lane]
    assert lanes.stuck(2 * STUCK_S) == []
    lanes.leave(lane, 2, 1.0)
    assert lanes.ahead == 0 and taken(lanes, 3, slot=False) is None
    lanes.leave(lane, 1, 9.0, 9.0)
    assert taken(lanes, 4, slot=False) is None, "the long one counts"


def test_keys_of_the_past_are_forgotten() -> None:
    lanes = Lanes()
    for number in range(10 * KEPT_KEYS):
        short(lanes, f"key {number}")
    assert len(lanes._lanes) <= KEPT_KEYS
