"""ETags: who asks again for what has not changed is told so with 304 and no body.

The validator is a hash of the answer. An event number would be cheaper, but progress, reasons to wait and what devices
report change without an event; and under load there is always a new one.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from twisted.web.http_headers import Headers

from retirecluster.web.answers import Answer

_NUMBERS = (b"last_seen_s", b"uptime_s", b"throughput_per_s", b"since_s", b"for_s", b"probe_in_s")
_VOLATILE = {rb'"%b":' % name: re.compile(rb'"%b":[-+0-9.e]+' % name) for name in _NUMBERS}
"""Figures of JSON that change by the mere passing of time. A quote within text is escaped: nothing there looks so.

One pattern for each, and first a look whether it is there at all: one pattern for all of them is ten times slower.
"""
_VOLATILE_TEXT = re.compile(rb'"(?:uptime|throughput)":"[^"]*"')
"""The same as /text/status has them in its JSON."""
_VOLATILE_LINES = re.compile(rb"^(?:last_seen_s|uptime|throughput)(?:: |,|\t).*$", re.IGNORECASE | re.MULTILINE)
"""The same in the lines of text, CSV and TSV, which begin with names of ours."""
NO_CACHE = (b"Cache-Control", b"no-cache")


def validated(answer: Answer, asked: Headers) -> Answer:
    """The answer with a validator, or 304 if the caller has it already.

    The validator is weak: figures that change by the mere passing of time do not count.
    """
    body = lasting(answer.body) if answer.media_type.endswith("json") else _VOLATILE_LINES.sub(b"", answer.body)
    digest = blake2b(body, digest_size=9).hexdigest()
    etag = b'W/"' + digest.encode("ascii") + b'"'
    kept = tuple(each for each in answer.headers if each[0] != b"Cache-Control")
    headers = (*kept, (b"ETag", etag), NO_CACHE)
    if matches(asked, etag):
        return Answer(304, b"", answer.media_type, headers)
    return Answer(answer.status, answer.body, answer.media_type, headers)


def lasting(body: bytes) -> bytes:
    """A JSON document without the figures that change by themselves."""
    if b'_s":' in body:
        for name, figure in _VOLATILE.items():
            if name in body:
                body = figure.sub(b"", body)
    return _VOLATILE_TEXT.sub(b"", body) if b'"throughput":"' in body else body


def matches(asked: Headers, etag: bytes) -> bool:
    """Whether If-None-Match names a validator."""
    values = asked.getRawHeaders(b"If-None-Match")
    if not values:
        return False
    named = [each.strip().removeprefix(b"W/") for value in values for each in value.split(b",")]
    return b"*" in named or etag.removeprefix(b"W/") in named
