"""Readers of event streams that come and go at random, while tasks run and the main is killed and started again."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from random import Random
from typing import Any

import pytest
from attrs import define, field

from tests.integration.cluster import RealCluster, eventually
from tests.web.http import dechunked

pytestmark = pytest.mark.integration
ECHO = {"task_type": "echo", "payload": {"message": "hello"}}
SEED = 6


@define(eq=False)
class Reader:
    """A client of one stream. It leaves at random, within an event, too, and resumes after the last whole one."""

    cluster: RealCluster
    path: str
    subject: str
    """What its events are about; empty for everything."""
    random: Random
    stays: bool = False
    """Whether it keeps its connections as long as something comes."""
    last_id: int = 0
    seen: list[dict[str, str]] = field(factory=list)
    connections: int = 0
    awake: threading.Event = field(factory=threading.Event)
    reading: bool = False
    done_at: int | None = None
    """The number of the event after which it may stop; None: not known yet."""

    def run(self) -> None:
        """Read until all is seen."""
        while self.done_at is None or self.last_id < self.done_at:
            self.awake.wait()
            try:
                self._connection()
            except OSError:  # the main is not there, or it was killed
                time.sleep(0.05)

    def _connection(self) -> None:
        taken, wanted = b"", 10**9 if self.stays else int(10 ** self.random.uniform(0, 4.3))
        with socket.create_connection(("127.0.0.1", self.cluster.web_port), timeout=1) as connection:
            connection.sendall(self._request())
            self.connections += 1
            self.reading = True
            try:
                while len(taken) < wanted and self.awake.is_set():
                    piece = connection.recv(min(wanted - len(taken), self.random.choice((1, 100, 4096))))
                    if not piece:
                        break
                    taken += piece
            except TimeoutError:
                pass  # nothing more for a while: as good a moment to leave as any
            finally:
                self._take(taken)
                self.reading = False

    def _request(self) -> bytes:
        query = header = ""
        if self.random.random() < 0.5:
            query = f"?last_event_id={self.last_id}"
        else:
            header = f"Last-Event-ID: {self.last_id}\r\n"
        return f"GET {self.path}{query} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode()

    def _take(self, data: bytes) -> None:
        head, _, rest = data.partition(b"\r\n\r\n")
        assert b"HTTP/1.1 200 OK".startswith(head[:15]), head
        body = dechunked(rest)
        whole = body[: body.rfind(b"\n\n") + 2].decode()
        for block in whole.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
            if "data" in fields and "id" in fields:
                self.seen.append(fields)
                self.last_id = int(fields["id"])


def log_of(cluster: RealCluster) -> dict[int, dict[str, Any]]:
    """The event log as pages of it tell."""
    found: dict[int, dict[str, Any]] = {}
    after: int | None = 0
    while after is not None:
        page = cluster.get(f"events?after={after}&limit=1000")
        found |= {each["event_no"]: each for each in page["events"]}
        after = page["next_after"]
    return found


def forget(cluster: RealCluster, until: int) -> None:
    """Remove events from the log of a main that does not run, as retention does."""
    with sqlite3.connect(cluster.folder / "main" / "cluster.db") as database:
        database.execute("DELETE FROM events WHERE event_no <= ?", (until,))
    database.close()


def check(reader: Reader, log: dict[int, dict[str, Any]], forgotten: int) -> int:
    """Everything once and in order, as it stands in the log; or a reset that is due. How many of those there were."""
    at, resets = 0, 0
    wanted = numbers_of(log, reader.subject)
    for each in reader.seen:
        number, document = int(each["id"]), json.loads(each["data"])
        if each["event"] == "reset":
            assert at < forgotten, "history was there to be replayed"
            assert document["event_no"] == number >= forgotten and ("status" in document or "tasks" in document)
            resets += 1
        else:
            missed = [between for between in wanted if at < between < number]
            assert number > at and not missed, f"{reader.path}: {number} came after {at}, without {missed[:9]}"
            assert document == log[number]
        at = number
    assert not [after for after in wanted if after > at]
    return resets


def numbers_of(log: dict[int, dict[str, Any]], subject: str) -> list[int]:
    """The numbers of the events about tasks, or of all, in order."""
    return sorted(number for number, each in log.items() if not subject or each["task_id"])


def kill_and_forget(cluster: RealCluster, late: Reader) -> int:
    """Kill the main, take away what one reader has not seen yet, and start it again; the last event that is gone."""
    eventually(lambda: not late.reading, what="the end of its connection")
    cluster.kill("main")
    forgotten = late.last_id + 5
    forget(cluster, forgotten)
    cluster.start_main()
    return forgotten


def test_readers_that_come_and_go_see_everything_once_or_are_told(cluster: RealCluster) -> None:
    random = Random(SEED)
    cluster.start_main()
    cluster.start_worker("one", "--slots", "2")
    streams = [("/stream/events", ""), ("/stream/tasks", "task")] * 2
    readers = [Reader(cluster, *each, Random(SEED + number)) for number, each in enumerate(streams)]
    late = Reader(cluster, "/stream/events", "", Random(SEED), stays=True)
    everybody = [*readers, late]
    threads = [threading.Thread(target=each.run, daemon=True) for each in everybody]
    for each, thread in zip(everybody, threads, strict=True):
        each.awake.set()
        thread.start()
    ids: list[str] = []
    for batch in range(12):
        ids += cluster.submit(*[ECHO] * random.randrange(5, 25))
        time.sleep(random.random() / 5)
        if batch == 2:
            late.awake.clear()
        if batch == 6:
            before, forgotten = log_of(cluster), kill_and_forget(cluster, late)
            late.awake.set()
    for task_id in ids:
        assert cluster.ended(task_id)["status"] == "completed"
    log = before | log_of(cluster)
    assert list(log) == list(range(1, len(log) + 1))
    for each in everybody:
        each.done_at = numbers_of(log, each.subject)[-1]
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    resets = [check(each, log, forgotten) for each in everybody]
    assert resets[-1] == 1, "the one that was late is told"
    assert all(each.connections > 10 for each in readers), "they came and went"
