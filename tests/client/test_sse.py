"""The event stream parser: whatever the cuts, the same events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.client import sse
from retirecluster.client.sse import ServerSentEvent, SseParser
from retirecluster.domain.errors import ClusterError

line_ends = st.sampled_from(["\n", "\r", "\r\n"])
values = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
lines = st.one_of(
    st.just(""),
    st.builds(
        lambda name, value: f"{name}:{value}", st.sampled_from(["data", "event", "id", "retry", "x", ""]), values
    ),
    st.builds(lambda name, value: f"{name}: {value}", st.sampled_from(["data", "event", "id"]), values),
    values,
)
streams = st.lists(st.tuples(lines, line_ends), max_size=20).map(lambda parts: "".join(a + b for a, b in parts))


def all_events(data: bytes) -> list[ServerSentEvent]:
    return SseParser().feed(data)


@given(streams, st.data())
def test_any_chunking_gives_the_same_events(text: str, draw: st.DataObject) -> None:
    data = text.encode()
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    parser, events = SseParser(), []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        events += parser.feed(data[start:end])
    whole = SseParser()
    assert events == whole.feed(data)
    assert (parser.last_event_id, parser.retry_s) == (whole.last_event_id, whole.retry_s)


@given(st.binary(max_size=200))
def test_byte_by_byte_is_the_same_for_any_bytes(data: bytes) -> None:
    parser = SseParser()
    events = [event for byte in data for event in parser.feed(bytes([byte]))]
    assert events == all_events(data)


@given(st.lists(values, min_size=1, max_size=4), values.filter(lambda text: "\0" not in text))
def test_what_was_written_is_what_is_read(data: list[str], event_id: str) -> None:
    written = f"id: {event_id}\nevent: task_update\n" + "".join(f"data: {line}\n" for line in data) + "\n"
    assert all_events(written.encode()) == [ServerSentEvent("task_update", "\n".join(data), event_id)]


def test_the_example_of_the_standard() -> None:
    text = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
    assert all_events(text.encode()) == [
        ServerSentEvent("message", "first event", "1"),
        ServerSentEvent("message", "second event", ""),
        ServerSentEvent("message", " third event", ""),
    ]


def test_retry_is_in_seconds_and_nonsense_is_ignored() -> None:
    parser = SseParser()
    parser.feed(b"retry: 3000\nretry: soon\n\n")
    assert parser.retry_s == 3.0


def test_a_byte_order_mark_is_not_part_of_the_first_line() -> None:
    assert all_events(b"\xef\xbb\xbfdata: x\n\n") == [ServerSentEvent("message", "x")]


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_CHARS", 1000)
    parser = SseParser()
    with pytest.raises(ClusterError) as caught:
        for _ in range(20):
            parser.feed(b"data: " + b"x" * 90 + b"\n")
    assert caught.value.code == "too_large"


def test_many_short_events_are_not_an_endless_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_CHARS", 1000)
    parser = SseParser()
    assert sum(len(parser.feed(b"data: " + b"x" * 90 + b"\n\n")) for _ in range(50)) == 50
