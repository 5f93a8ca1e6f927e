"""`verify: 2`: copies on different devices, majority, what is said where nobody can tell, and who is blamed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.requirements import REQUIREMENT_FIELDS, Requirements
from retirecluster.domain.scheduler import Task
from retirecluster.domain.scheduler.verifications import VERIFY_WITHIN_S, Verification, digest_of
from retirecluster.domain.tasks import spec_from_document
from retirecluster.domain.units import GIB
from tests.domain.test_placement import Bed


class Verified:
    """A task that is to be verified on some devices."""

    def __init__(self, *devices: str, **document: object) -> None:
        self.bed = Bed()
        for name in devices:
            self.bed.device(name)
        [self.task] = self.bed.submit(1, verify=2, **document)
        self.record: Verification = self.bed.scheduler.verifications.pending[self.task.task_id]

    def copy(self) -> tuple[Task, str]:
        """The copy that a device has just been given."""
        [(task_id, device_id)] = self.bed.grants()
        task = self.bed.scheduler.task(task_id)
        assert task is not None
        return task, device_id

    def answer(self, output: object) -> str:
        """The next copy is granted and gives this; where it ran."""
        task, device_id = self.copy()
        assert task.attempt is not None
        document = {"status": "completed", "result": {"output": output, "metrics": {"cpu_time": hash(device_id)}}}
        self.bed.scheduler.attempts.result(task, task.attempt, document, self.bed.now)
        return device_id

    def fail(self) -> str:
        task, device_id = self.copy()
        assert task.attempt is not None
        document = {"status": "failed", "error": {"message": "broken", "retryable": False}}
        self.bed.scheduler.attempts.result(task, task.attempt, document, self.bed.now)
        return device_id

    def end(self) -> State:
        self.bed.scheduler.take_turn(self.bed.now)
        assert not self.bed.scheduler.verifications.pending and not self.bed.scheduler.verifications.by_copy
        assert not self.bed.scheduler.ledger.tasks
        return self.task.state

    def figures(self, device_id: str) -> tuple[int, int]:
        """(good, wrong) results of a device."""
        ledger = self.bed.scheduler.devices[device_id].ledger
        return round(ledger.good), round(ledger.wrong)


def test_two_that_agree() -> None:
    case = Verified("a", "b")
    assert case.task.state is State.BLOCKED
    first, second = case.answer("4"), case.answer("4")
    assert {first, second} == {"a", "b"}
    assert case.end() is State.COMPLETED
    assert (case.record.state, case.task.device_id) == ("agreed", first)
    assert case.figures("a") == case.figures("b") == (1, 0)


def test_a_verified_task_has_begun_when_its_first_copy_has() -> None:
    case = Verified("a", "b")
    began_at = case.bed.now.wall_s
    case.answer("4")
    case.bed.mono_s += 5
    case.answer("4")
    assert case.end() is State.COMPLETED and case.task.started_at == began_at


def test_a_third_decides_against_the_first() -> None:
    case = Verified("a", "b", "c")
    wrong, right = case.answer("5"), case.answer("4")
    third = case.answer("4")
    assert case.end() is State.COMPLETED and {wrong, right, third} == {"a", "b", "c"}
    assert case.figures(wrong) == (0, 1) and case.figures(right) == case.figures(third) == (1, 0)
    assert case.task.device_id == right and case.record.reason == f"{right} and {third} agree, {wrong} differs"


def test_the_result_that_counts_is_one_of_the_majority() -> None:
    case = Verified("a", "b", "c")
    for output in ("5", "4", "4"):
        case.answer(output)
    turn = case.bed.scheduler.take_turn(case.bed.now)
    [adopted] = turn.adopted
    assert (adopted.task_seq, adopted.from_seq) == (case.task.seq, case.record.copies[1].seq)


def test_two_that_differ_and_no_third_one() -> None:
    case = Verified("a", "b")
    case.answer("4")
    case.answer("5")
    assert case.end() is State.FAILED
    digests = [each.sha256[:12] for each in case.record.copies]
    assert case.task.reason.startswith("results_differ: ") and all(each in case.task.reason for each in digests)
    assert case.figures("a") == case.figures("b") == (0, 0)  # nobody knows who was wrong


def test_all_differ() -> None:
    """So is a task that gives something else each time: no device is blamed for it."""
    case = Verified("a", "b", "c", "d", "e")
    for output in "1234":
        case.answer(output)
    assert case.end() is State.FAILED and len(case.record.copies) == 4
    assert all(case.figures(name) == (0, 0) for name in "abcde")


def test_no_other_device() -> None:
    case = Verified("a")
    case.answer("4")
    assert case.end() is State.COMPLETED
    assert (case.record.state, case.task.reason) == ("impossible", "verification impossible: no other device fits")


def test_another_device_that_is_offline_or_set_aside_is_not_waited_for() -> None:
    case = Verified("a", "b", "c", requirements={"not_devices": ["z"]})
    scheduler = case.bed.scheduler
    scheduler.fleet.set_flags(scheduler.devices["b"], case.bed.now, cordoned=True)
    scheduler.left(scheduler.devices["c"], case.bed.now, "off")
    assert case.answer("4") == "a"
    assert case.end() is State.COMPLETED and case.record.state == "impossible"


def test_a_second_device_that_never_gets_to_it() -> None:
    case = Verified("a", "b")
    first = case.answer("4")
    other = "b" if first == "a" else "a"
    case.bed.scheduler.fleet.set_flags(case.bed.scheduler.devices[first], case.bed.now, cordoned=True)
    case.bed.scheduler.disconnected(case.bed.scheduler.devices[other], case.bed.now, "gone", closed=False)
    assert case.bed.grants() == []
    case.bed.mono_s += VERIFY_WITHIN_S + 1000
    case.bed.scheduler.run_timers(case.bed.now)
    assert case.end() is State.COMPLETED and case.record.state == "impossible"
    assert "expired" in case.task.reason


def test_a_copy_that_fails_is_tried_on_another_device() -> None:
    case = Verified("a", "b", "c")
    devices = {case.answer("4"), case.fail(), case.answer("4")}
    assert case.end() is State.COMPLETED and case.record.state == "agreed" and len(devices) == 3


def test_a_first_copy_that_fails_fails_the_task() -> None:
    case = Verified("a", "b")
    case.fail()
    assert case.end() is State.FAILED and "broken" in case.task.reason


@pytest.mark.parametrize("ran", [False, True])
def test_cancelled(ran: bool) -> None:
    case = Verified("a", "b")
    if ran:
        case.answer("4")
    case.bed.scheduler.tasks.cancel(case.task, case.bed.now, "not wanted")
    copy = next(task for task in case.bed.scheduler.ledger.tasks.values() if task is not case.task) if not ran else None
    assert case.end() is State.CANCELLED and case.record.state == ("stopped")
    assert copy is None or copy.state is State.CANCELLED


def test_its_deadline_stops_the_copies() -> None:
    case = Verified(deadline_s=10)
    case.bed.mono_s += 11
    case.bed.scheduler.run_timers(case.bed.now)
    assert case.end() is State.EXPIRED


def test_it_cannot_be_held() -> None:
    case = Verified("a")
    with pytest.raises(ClusterError, match="runs as copies"):
        case.bed.scheduler.tasks.hold(case.task, case.bed.now, "later")


def test_a_copy_that_a_person_cancels() -> None:
    case = Verified("a", "b")
    case.answer("4")
    copy, _ = case.copy()
    scheduler = case.bed.scheduler
    scheduler.tasks.cancel(copy, case.bed.now, "not wanted")
    assert copy.attempt is not None
    scheduler.attempts.result(copy, copy.attempt, {"status": "cancelled"}, case.bed.now)
    assert case.end() is State.COMPLETED and case.record.state == "impossible"


def test_at_most_once_is_refused() -> None:
    with pytest.raises(ClusterError, match="verify: runs a task on two devices") as caught:
        spec_from_document({"task_type": "echo", "verify": 2, "delivery": "at_most_once"})
    assert caught.value.code == "bad_field"


def test_a_key_of_before_there_was_verify_is_the_same_request() -> None:
    document = {"task_type": "echo", "idempotency_key": "k"}
    digest = spec_from_document(document).request_digest
    assert spec_from_document(document | {"verify": 1}).request_digest == digest
    assert spec_from_document(document | {"verify": 2}).request_digest != digest


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"result": {"output": "a"}}, {"result": {"output": "b"}}, False),
        ({"result": {"output": "a", "exit_code": 0}}, {"result": {"output": "a"}}, True),
        ({"result": {"output": "a", "exit_code": 1}}, {"result": {"output": "a"}}, False),
        ({"result": {"output": {"x": 1, "y": [2]}}}, {"result": {"output": {"y": [2], "x": 1}}}, True),
        ({"result": {"stderr": "x", "metrics": {"cpu_time": 1}}, "execution_time": 3}, {}, True),
        ({"artifacts": [{"name": "a", "sha256": "0"}]}, {"artifacts": [{"name": "a", "sha256": "1"}]}, False),
        ({"artifacts": [{"name": "a", "sha256": "0"}]}, {}, False),
    ],
)
def test_what_is_compared(one: dict[str, object], other: dict[str, object], same: bool) -> None:
    assert (digest_of(one) == digest_of(other)) is same


@given(
    st.builds(
        Requirements,
        min_cpu_cores=st.floats(0, 4096),
        min_memory_bytes=st.floats(0, 1e6).map(lambda size: int(size * GIB)),
        min_storage_bytes=st.floats(0, 1e9).map(lambda size: int(size * GIB)),
        platform=st.sampled_from(["", "linux"]),
        role=st.sampled_from(["", "mobile"]),
        tags=st.frozensets(st.sampled_from("xyz")),
        gpu=st.booleans(),
        internet=st.booleans(),
        device=st.sampled_from(["", "a"]),
        isolation=st.integers(0, 3),
        python=st.sampled_from(["", "3.11"]),
        not_devices=st.frozensets(st.sampled_from("abc")),
    )
)
def test_requirements_are_written_as_they_are_read(demand: Requirements) -> None:
    document = demand.document()
    assert REQUIREMENT_FIELDS.problems(document, "") == []
    assert Requirements.from_document(document) == demand
