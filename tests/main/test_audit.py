"""The audit trail: every change by a person, and what was refused to devices and strangers, within bounds."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.audit import IN_ALL, PER_ACTOR, TCP_CLIENT, WINDOW_S, AuditEntry, Refusals
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.scheduler import Moment
from retirecluster.domain.trust import Blame
from retirecluster.main import cleaning
from tests.main.test_bad_claims import REGISTER, device, held_by_one, result, submit
from tests.support import connect


async def trail(node: Any, **wanted: Any) -> list[dict[str, Any]]:
    """What is in the trail, oldest first."""
    await node.rooms.turns.committed()
    given = {"before_no": None, "actor": "", "action": "", "limit": 1000} | wanted
    found, _ = await node.rooms.cluster.audit_trail(**given)
    return list(reversed(found))


def in_short(rows: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(row["actor"], row["action"], row["subject"]) for row in rows]


@pytest_twisted.ensureDeferred
async def test_what_people_do(node: Any) -> None:
    cluster = node.rooms.cluster
    one, _ = await device(node, "one", attempts=[])
    await cluster.device_action("one", "cordon")
    first, second = await submit(node), await submit(node)
    await cluster.hold(first, "later")
    await cluster.release(first)
    await cluster.cancel(first, "not wanted")
    again = await cluster.retry(first)
    await cluster.device_action("one", "drain", 5.0)
    await cluster.set_role("one", "nas")
    one.say("task_cancel", {"task_id": second, "reason": "x", "auth": {"token": node.rooms.token._token.decode()}})
    await one.expect("ack")
    one.say("disconnect", {"reason": "switched off"})
    await one.closed
    await cluster.remove_device("one")
    rows = await trail(node)
    assert in_short(rows) == [
        ("admin", "device.cordon", "one"),
        ("admin", "task.hold", first),
        ("admin", "task.release", first),
        ("admin", "task.cancel", first),
        ("admin", "task.retry", first),
        ("admin", "device.drain", "one"),
        ("admin", "device.role", "one"),
        ("tcp client", "task.cancel", second),
        ("admin", "device.remove", "one"),
    ]
    details = [row["detail"] for row in rows]
    assert details[1] == {"status": "held", "reason": "later"}
    assert details[4] == {"task_id": again.task_id}
    assert details[5] == {"deadline_s": 5.0}
    assert details[6] == {"role": "nas"}
    assert [row["audit_no"] for row in rows] == list(range(1, 10))
    assert rows[0]["at"].endswith("Z")


@pytest_twisted.ensureDeferred
async def test_what_a_household_says(node: Any) -> None:
    cluster = node.rooms.cluster
    one, _ = await device(node, "one", attempts=[])
    await cluster.household.keep_quiet(60, "continue", "exam")
    await cluster.household.end_rest()
    await cluster.household.borrow("one", 30, "hand_back", "film")
    await cluster.household.end_rest("one")
    await cluster.household.set_signal("tariff", 0.2, 90.0, TCP_CLIENT)
    await cluster.household.remove_signal("tariff")
    for doing in (cluster.household.remove_signal("none"), cluster.household.borrow("nobody", 3, "continue", "")):
        with pytest.raises(ClusterError):
            await doing
    rows = await trail(node)
    assert in_short(rows) == [
        ("admin", "cluster.quiet", ""),
        ("admin", "cluster.quiet_end", ""),
        ("admin", "device.borrow", "one"),
        ("admin", "device.give_back", "one"),
        ("tcp client", "signal.set", "tariff"),
        ("admin", "signal.remove", "tariff"),
    ]
    details = [row["detail"] for row in rows]
    assert all(details[index].pop("until").endswith("Z") for index in (0, 2, 4))
    assert details[0] == {"for_s": 60, "running": "continue", "reason": "exam"}
    assert details[2] == {"for_s": 30, "running": "hand_back", "reason": "film"}
    assert details[4] == {"value": 0.2, "for_s": 90.0}
    await one.leave()


@pytest_twisted.ensureDeferred
async def test_the_release_of_a_device(node: Any) -> None:
    cluster, scheduler = node.rooms.cluster, node.rooms.scheduler
    one, _ = await device(node, "one", attempts=[])
    with pytest.raises(ClusterError, match="neither suspect nor in quarantine"):
        await cluster.release_device("one")
    for _ in range(2):
        scheduler.standing.note(scheduler.devices["one"], Blame.WRONG, node.rooms.turns.moment())
    shown = cluster.device("one")
    assert (shown["status"], shown["trust_ledger"]["wrong"]) == ("quarantined", 2)
    assert shown["reason"] == shown["quarantine"]["reason"] == "2 wrong results in 2 verified tasks"
    assert (await cluster.release_device("one"))["trust"] == 1
    [row] = await trail(node)
    assert (row["actor"], row["action"], row["subject"]) == ("admin", "device.release", "one")
    assert row["detail"] == {"was": "quarantined", "reason": shown["reason"]}
    await one.leave()


@pytest_twisted.ensureDeferred
async def test_what_was_not_done_is_not_in_it(node: Any) -> None:
    cluster, task_id = node.rooms.cluster, await submit(node)
    for doing in (
        cluster.release(task_id),
        cluster.cancel("task-none", "x"),
        cluster.retry(task_id),
        cluster.remove_device("nobody"),
        cluster.set_role("nobody", "nas"),
    ):
        with pytest.raises(ClusterError):
            await doing
    assert await trail(node) == []


@pytest_twisted.ensureDeferred
async def test_what_devices_get_wrong(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    two.say("task_result", result(task_id), sender_id="two")
    await two.expect("result_ack")
    two.say("task_result", result("task-000000000000", 7), sender_id="two")
    await two.expect("result_ack")
    two.say("task_started", {"task_id": task_id, "epoch": 1}, sender_id="two")
    await two.expect("error")
    two.say("task_started", {"task_id": task_id, "epoch": "1"}, sender_id="two")
    await two.expect("error")
    claims = [{"task_id": task_id, "epoch": 1}, {"task_id": task_id, "epoch": 9}, {"task_id": "task-x", "epoch": 1}]
    two.say("heartbeat", {"system_metrics": {}, "status": "online", "attempts": claims}, sender_id="two")
    await two.expect("heartbeat_ack")
    rows = await trail(node)
    assert in_short(rows) == [
        ("device:two", "result.refused", task_id),
        ("device:two", "result.refused", "task-000000000000"),
        ("device:two", "message.refused", task_id),
        ("device:two", "message.refused", ""),
        ("device:two", "claims.refused", "two"),
    ]
    details = [row["detail"] for row in rows]
    assert (details[0]["kind"], details[0]["epoch"]) == ("not_holder", 1)
    assert (details[1]["kind"], details[1]["epoch"]) == ("not_found", 7)
    assert (details[2]["code"], details[2]["message_type"], details[2]["epoch"]) == ("not_holder", "task_started", 1)
    assert (details[3]["code"], details[3]["field"]) == ("bad_field", "data.epoch")
    assert details[4] == {"claimed": 3, "of_others": 1, "never_granted": 1, "over": 1}
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_a_hundred_thousand_claimed_attempts(node: Any) -> None:
    """As many as a message may hold are counted in one row; more than that, or than a line, are one clear error."""
    fits = [{"task_id": f"t{n}", "epoch": 1, "state": "running"} for n in range(10_000)]
    one, answer = await device(node, "one", attempts=fits)
    assert len(answer["stop"]) == 10_000
    [row] = await trail(node)
    assert (row["actor"], row["action"]) == ("device:one", "claims.refused")
    assert row["detail"] == {"claimed": 10_000, "of_others": 0, "never_granted": 0, "over": 10_000}
    two = await connect(node.worker_port)
    many = [{"task_id": "t", "epoch": 1, "state": "died"}] * 20_000
    two.say("register", REGISTER | {"attempts": many}, sender_id="two")
    assert "attempts" in (await two.expect("error"))["data"]["field"]
    three = await connect(node.worker_port)
    three.say("register", REGISTER | {"attempts": fits * 10}, sender_id="three")
    assert (await three.expect("error"))["data"]["code"] == "line_too_long"
    await three.closed
    codes = [row["detail"].get("code") for row in await trail(node, actor="peer:127.0.0.1")]
    assert codes == ["bad_field", "line_too_long"]
    assert node.rooms.scheduler.devices.keys() == {"one"} and not node.rooms.scheduler.devices["one"].attempts
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_what_is_over_is_no_news_in_a_heartbeat_and_one_row_at_a_registration(node: Any) -> None:
    claim = {"task_id": "task-gone", "epoch": 1}
    one, _ = await device(node, "one", attempts=[claim | {"state": "spooled"}])
    for _ in range(3):
        one.say("heartbeat", {"system_metrics": {}, "status": "online", "attempts": [claim]}, sender_id="one")
        await one.expect("heartbeat_ack")
    assert in_short(await trail(node)) == [("device:one", "claims.refused", "one")]
    await one.leave()


@pytest_twisted.ensureDeferred
async def test_who_sends_a_thousand_mistakes_fills_twenty_rows(node: Any) -> None:
    one, _ = await device(node, "one")
    for number in range(300):
        one.say("task_result", result(f"task-{number}"), sender_id="one")
    for _ in range(300):
        await one.expect("result_ack")
    assert len(await trail(node)) == PER_ACTOR
    assert node.rooms.scheduler.ledger.refusals.left_out == {"device:one": 300 - PER_ACTOR}
    await one.leave()


def entry(actor: str) -> AuditEntry:
    return AuditEntry(1.0, actor, "message.refused", "", {})


def test_what_was_left_out_is_told_in_the_next_hour() -> None:
    refusals, now = Refusals(), Moment(0.0, 0.0)
    for actor in range(1000):
        for _ in range(PER_ACTOR + 5):
            refusals.admit(entry(f"peer:{actor}"), now)
    assert refusals.written.total() == IN_ALL and set(refusals.written.values()) == {PER_ACTOR}
    assert len(refusals.left_out) <= IN_ALL + 1, "what is kept in memory is bounded, too"
    told, another = refusals.admit(entry("device:a"), Moment(WINDOW_S, 5.0))
    assert (told.actor, told.action, another.actor) == ("main", "refusals.left_out", "device:a")
    assert told.detail["in_all"] == 1000 * (PER_ACTOR + 5) - IN_ALL
    assert refusals.admit(entry("device:a"), Moment(2 * WINDOW_S, 6.0)) == [entry("device:a")], "nothing was left out"


@pytest_twisted.ensureDeferred
async def test_rows_stay_as_they_are_and_the_oldest_go_first(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task_id = await submit(node)
    for _ in range(5):
        await node.rooms.cluster.hold(task_id, "x")
        await node.rooms.cluster.release(task_id)
    monkeypatch.setattr(cleaning, "AUDIT_KEPT", 4)
    await node.rooms.cleaner.clean()
    assert [row["audit_no"] for row in await trail(node)] == [7, 8, 9, 10]
    page, before = await node.rooms.cluster.audit_trail(None, "", "task.hold", 1)
    assert ([row["audit_no"] for row in page], before) == ([9], 9)
    page, before = await node.rooms.cluster.audit_trail(before, "", "task.hold", 1)
    assert ([row["audit_no"] for row in page], before) == ([7], 7)
    connection = sqlite3.connect(node.rooms.database.path)
    with pytest.raises(sqlite3.IntegrityError, match="never changes"):
        connection.execute("UPDATE audit SET actor = 'nobody'")
    connection.close()


@pytest_twisted.ensureDeferred
async def test_it_is_written_with_what_it_tells_of(node: Any) -> None:
    """One transaction: no change by a person without its row, no row without the change."""
    task_id, commits = await submit(node), node.rooms.turns.commits
    await node.rooms.cluster.cancel(task_id, "x")
    assert node.rooms.turns.commits == commits + 1
    await trail(node)
    assert node.rooms.turns.commits == commits + 1
