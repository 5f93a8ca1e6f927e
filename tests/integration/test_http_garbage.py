"""Requests that are wrong in every way we could think of: each is answered by a problem document, never with 5xx."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Iterator
from random import Random

import pytest
from attrs import define

from tests.integration.cluster import RealCluster
from tests.web.http import Response, dechunked

pytestmark = pytest.mark.integration
TASK = json.dumps({"task_type": "echo", "payload": {"message": "grün"}})
LONG = "9" * 400


@pytest.fixture(scope="module")
def main(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """One main for all of these: what one of them breaks the next ones find."""
    made = RealCluster(tmp_path_factory.mktemp("garbage"))
    try:
        made.start_main()
        made.submit({"task_type": "echo", "payload": {}})
        yield made
    finally:
        made.stop()
    made.assert_no_tracebacks()


@define
class Exchange:
    """What is sent, and the statuses that answer it well. Empty statuses: the connection ends without an answer."""

    data: bytes
    statuses: tuple[int, ...]


def get(path: str | bytes, *statuses: int, **headers: str | bytes) -> Exchange:
    return Exchange(request("GET", path, headers), statuses)


def post(body: bytes, *statuses: int, path: str = "/api/v1/tasks", **headers: str | bytes) -> Exchange:
    given: dict[str, str | bytes] = {"Content_Type": "application/json", "Content_Length": str(len(body))} | headers
    return Exchange(request("POST", path, given) + body, statuses)


def request(method: str, path: str | bytes, headers: dict[str, str | bytes], version: str = "HTTP/1.1") -> bytes:
    """The head of a request. Names of headers are written with _ for -; an empty value leaves one out."""
    given: dict[str, str | bytes] = {"Host": "localhost", "Authorization": "Bearer TOKEN", "Connection": "close"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [method.encode() + b" " + as_bytes(path) + b" " + version.encode()]
    lines += [name.encode() + b": " + as_bytes(value) for name, value in given.items() if value]
    return b"\r\n".join([*lines, b"", b""])


def as_bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def chunked(*pieces: bytes, status: int | None = None) -> Exchange:
    statuses = () if status is None else (status,)
    return post(b"".join(pieces), *statuses, Content_Length="", Transfer_Encoding="chunked")


WHOLE = b"%x\r\n%b\r\n" % (len(TASK), TASK.encode("ascii"))
BODIES = {
    "utf-8": post(TASK.encode(), 201),
    "utf-8 with a mark": post(b"\xef\xbb\xbf" + TASK.encode(), 400),
    "utf-16": post(TASK.encode("utf-16"), 400),
    "utf-32": post(TASK.encode("utf-32-be"), 400),
    "latin-1": post(b'{"task_type":"echo","payload":{"message":"gr\xfcn"}}', 400),
    "overlong utf-8": post(b'{"task_type":"\xc0\xafecho","payload":{}}', 400),
    "half a surrogate": post(b'{"task_type":"echo","payload":{"message":"\\ud800"}}', 400),
    "NUL in a name": post(b'{"task_type":"echo","payload":{},"name":"a\\u0000b"}', 422),
    "NUL instead of JSON": post(b"\x00" * 50, 400),
    "gzip that says so": post(gzip.compress(TASK.encode()), 415, Content_Encoding="gzip"),
    "gzip that does not": post(gzip.compress(TASK.encode()), 400),
    "another charset": post(TASK.encode(), 201, Content_Type="application/json; charset=latin-1"),
    "two media types": post(TASK.encode(), 415, Content_Type="application/json, text/plain"),
    "a form": post(b"task_type=echo", 415, Content_Type="application/x-www-form-urlencoded"),
    "no media type": post(TASK.encode(), 415, Content_Type=""),
    "nothing": post(b"", 400),
    "white space": post(b" \r\n\t", 400),
    "two documents": post(TASK.encode() * 2, 400),
    "very deep": post(b"[" * 30_000, 400),
    "a number without end": post(b'{"priority":' + b"9" * 30_000 + b"}", 400),
    "an exponent without end": post(b'{"timeout":1e999999,"task_type":"echo","payload":{}}', 400),
    "the same name twice": post(b'{"task_type":"echo","task_type":"sleep","payload":{}}', 400),
}
LENGTHS = {
    "negative": post(TASK.encode(), 400, Content_Length="-1"),
    "with a plus": post(TASK.encode(), 400, Content_Length="+5"),
    "hexadecimal": post(TASK.encode(), 400, Content_Length="0x10"),
    "a list": post(TASK.encode(), 400, Content_Length="5, 5"),
    "not ASCII": post(TASK.encode(), 400, Content_Length="٥"),
    "a fraction": post(TASK.encode(), 400, Content_Length="5.0"),
    "beyond 64 bits": post(TASK.encode(), 413, Content_Length=LONG),
    "a terabyte": post(TASK.encode(), 413, Content_Length="1099511627776"),
    "two of them": post(TASK.encode(), 400, Content_Length="5\r\nContent-Length: 6"),
    "beside chunked": post(WHOLE + b"0\r\n\r\n", 400, Transfer_Encoding="chunked"),
    "more than comes": post(b"{}", Content_Length="100"),
}
CHUNKS = {
    "as it should be": chunked(WHOLE, b"0\r\n\r\n", status=201),
    "a byte each": chunked(*(b"1\r\n%c\r\n" % each for each in TASK.encode("ascii")), b"0\r\n\r\n", status=201),
    "with an extension": chunked(WHOLE.replace(b"\r\n", b";a=b\r\n", 1), b"0\r\n\r\n", status=201),
    "with a trailer": chunked(WHOLE, b"0\r\nX-Trailer: 1\r\n\r\n", status=201),
    "an empty body": chunked(b"0\r\n\r\n", status=400),
    "no size": chunked(b"\r\n", status=400),
    "a negative size": chunked(b"-5\r\nhello\r\n", status=400),
    "a size that is none": chunked(b"zz\r\nhello\r\n", status=400),
    "a size beyond 64 bits": chunked(b"f" * 30 + b"\r\n"),
    "a size without end": chunked(b"1" * 20_000, status=400),
    "more than its size": chunked(b"2\r\nhello\r\n", status=400),
    "an unknown coding": post(TASK.encode(), 400, Transfer_Encoding="gzip", Content_Length=""),
    "chunked twice": post(WHOLE + b"0\r\n\r\n", 400, Transfer_Encoding="chunked, chunked", Content_Length=""),
}
ADDRESSES = {
    "a broken escape": get("/api/v1/devices/%zz", 404),
    "an escape cut off": get("/api/v1/devices/%", 404),
    "an escape of another world": get("/api/v1/devices/%u1234", 404),
    "an escape that is not UTF-8": get("/api/v1/devices/%ff", 400),
    "bytes that are not ASCII": get(b"/api/v1/devices/\xff\xfe", 400, 404),
    "bytes that Twisted lets pass": get(b"/api/v1/devices/\x8e\xb0", 400),
    "NUL, escaped": get("/api/v1/devices/a%00b", 404),
    "NUL": get(b"/api/v1/devices/a\x00b", 400, 404),
    "a line end, escaped": get("/api/v1/tasks/%0d%0aX-Forged:1", 404),
    "slashes, escaped": get("/api/v1/devices/..%2f..%2fetc%2fpasswd", 404),
    "a way up": get("/static/../../etc/passwd", 404),
    "empty parts": get("//api//v1//devices", 404),
    "a fragment": get("/ready#part", 404),
    "an absolute one": get("http://localhost/ready", 200, 404),
    "another machine's": get("http://evil.example/ready", 400, 404),
    "a star": get("*", 404),
    "nothing but a question mark": get("?", 400, 404),
    "blanks": get("/api/v1/de vices", 400),
    "too long": get("/" + "a" * 20_000, 400),
    "long, but not too long": get("/api/v1/devices/" + "a" * 10_000, 404),
}
QUERIES = {
    "a field twice": get("/api/v1/tasks?limit=1&limit=2", 422),
    "a field twice with one value": get("/api/v1/tasks?limit=1&limit=1", 422),
    "a field a thousand times": get("/api/v1/tasks?" + "&".join(["a=1"] * 1000), 422),
    "a thousand fields": get("/api/v1/tasks?" + "&".join(f"a{number}=1" for number in range(1000)), 422),
    "NUL": get("/api/v1/tasks?type=%00", 422),
    "broken escapes": get("/api/v1/tasks?type=%zz", 422),
    "not UTF-8": get("/api/v1/tasks?type=%ff", 422),
    "bytes that are not ASCII": get(b"/api/v1/tasks?type=\xff", 400, 422),
    "a name that is not UTF-8": get("/api/v1/tasks?%ff=1", 422),
    "no name": get("/api/v1/tasks?=1", 422),
    "no value": get("/api/v1/tasks?limit=", 422),
    "marks alone": get("/api/v1/tasks?&&&", 200),
    "semicolons": get("/api/v1/tasks?limit=1;limit=2", 422),
    "a number beyond 64 bits": get(f"/api/v1/events?after={LONG}", 422),
    "a negative number": get("/api/v1/events?after=-1", 422),
    "digits that are not ASCII": get("/api/v1/events?after=%D9%A5", 422),
    "an exponent": get("/api/v1/events?after=1e3", 422),
    "not a number": get("/api/v1/tasks/x?wait=nan", 422),
    "infinity": get("/api/v1/tasks/x?wait=inf", 422),
    "a cursor of nobody": get("/api/v1/tasks?cursor=AAAA", 422),
    "an empty cursor": get("/api/v1/tasks?cursor=", 422),
    "a cursor beyond 64 bits": get(f"/api/v1/tasks?cursor=t{LONG}", 422),
    "a cursor that is too far": get("/api/v1/tasks?cursor=t999999999999999999", 200),
    "a cursor before everything": get("/api/v1/tasks?cursor=t0", 200),
    "a cursor of files": get("/api/v1/files?after=%2e%2e", 422),
}
HEADERS = {
    "an ETag of nobody": get("/api/v1/devices", 200, If_None_Match="rubbish"),
    "an ETag without end": get("/api/v1/devices", 200, If_None_Match='"' + "x" * 15_000),
    "ten thousand ETags": get("/api/v1/devices", 200, If_None_Match='W/"a",' * 2000),
    "an ETag of bytes": get("/api/v1/devices", 200, If_None_Match=b'"\xff\x80"'),
    "commas instead of an ETag": get("/api/v1/devices", 200, If_None_Match=",,,"),
    "any ETag": get("/api/v1/devices", 304, If_None_Match="*"),
    "an Accept of nobody": get("/text/devices", 406, Accept="rubbish"),
    "weights that are none": get("/text/devices", 200, 406, Accept="text/plain;q=nan, text/csv;q=inf, */*;q=-1"),
    "an Accept of bytes": get("/text/devices", 406, Accept=b"\xff/\xfe;q=\x80"),
    "an Accept without end": get("/text/devices", 406, Accept="a/b," * 3000),
    "a Range of nobody": get("/api/v1/files/" + "0" * 64, 404, Range="bytes=9-1,-,x"),
    "a Last-Event-ID of bytes": get("/stream/tasks/x", 404, Last_Event_ID=b"\xff"),
    "a token of bytes": get("/api/v1/files", 401, Authorization=b"Bearer \xff\x80"),
    "a token without end": get("/api/v1/files", 401, Authorization="Bearer " + "x" * 15_000),
    "a token of another kind": get("/api/v1/files", 401, Authorization="Basic YTpi"),
    "no scheme": get("/api/v1/files", 401, Authorization="TOKEN"),
    "a request id with a line end": get("/ready", 200, X_Request_Id="a\\r\\nX-Forged: 1"),
    "NUL": get("/ready", 200, 400, X_Nul=b"a\x00b"),
    "one that is too large": get("/ready", 400, X_Large="x" * 70_000),
    "a thousand": get("/ready", 400, **{f"X_{number}": "1" for number in range(1000)}),
    "one that goes on in the next line": get("/ready", 200, 400, X_Folded="a\r\n b"),
    "a name with a blank": get("/ready", 400, **{"X Blank": "1"}),
    "no name": get("/ready", 200, 400, **{" ": "1"}),
    "no Host": get("/ready", 400, Host=""),
    "two Hosts": get("/ready", 400, Host="localhost\r\nHost: localhost"),
    "a Host of bytes": get("/ready", 400, Host=b"\xff"),
    "a Host with a user": get("/ready", 400, Host="localhost@evil.example"),
    "an expectation that is none": get("/ready", 200, 417, Expect="a miracle"),
    "an upgrade": get("/ready", 200, Upgrade="websocket", Sec_WebSocket_Key="x"),
    "a key without end": post(TASK.encode(), 422, Idempotency_Key="x" * 5000),
    "a key of bytes": post(TASK.encode(), 201, 422, Idempotency_Key=b"\xff\x80"),
    "a submitter of bytes": post(TASK.encode(), 422, Submitter=b"\xff"),
}
LINES = {
    "HTTP/1.0": Exchange(request("GET", "/ready", {}, "HTTP/1.0"), (200,)),
    "HTTP/1.0 without Host": Exchange(b"GET /ready HTTP/1.0\r\n\r\n", (400,)),
    "HTTP/1.0 that stays": Exchange(request("GET", "/ready", {"Connection": "keep-alive"}, "HTTP/1.0"), (200,)),
    "HTTP/1.0, a list": Exchange(request("GET", "/api/v1/tasks", {}, "HTTP/1.0"), (200,)),
    "HTTP/0.9": Exchange(b"GET /ready\r\n\r\n", (400,)),
    "HTTP/2": Exchange(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400,)),
    "HTTP/1.2": Exchange(request("GET", "/ready", {}, "HTTP/1.2"), (200, 400)),
    "a version that is none": Exchange(request("GET", "/ready", {}, "HTTP/x.y"), (400,)),
    "a method in small letters": Exchange(request("get", "/ready", {}), (200, 405)),
    "a method without end": Exchange(request("M" * 10_000, "/ready", {}), (400, 405)),
    "a method that is none": Exchange(request("G\x00T", "/ready", {}), (400, 405)),
    "CONNECT": Exchange(request("CONNECT", "localhost:443", {}), (404, 405)),
    "TRACE": Exchange(request("TRACE", "/ready", {}), (405,)),
    "a line end alone": Exchange(b"GET /ready HTTP/1.1\nHost: localhost\nConnection: close\n\n", ()),
    "empty lines before": Exchange(b"\r\n\r\n" + request("GET", "/ready", {}), (200, 400)),
    "TLS": Exchange(b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + b"\x00" * 160 + b"\r\n\r\n", ()),
}
EVERYTHING = {
    f"{kind}: {name}": each
    for kind, table in (
        ("body", BODIES),
        ("length", LENGTHS),
        ("chunks", CHUNKS),
        ("address", ADDRESSES),
        ("query", QUERIES),
        ("header", HEADERS),
        ("line", LINES),
    )
    for name, each in table.items()
}


def exchanged(main: RealCluster, data: bytes, *, ends: bool = False, patience_s: float = 20) -> bytes:
    """What comes back for these bytes on a connection of their own. `ends`: we say that nothing more will be sent."""
    with socket.create_connection(("127.0.0.1", main.web_port), timeout=patience_s) as connection:
        received = b""
        try:
            connection.sendall(data.replace(b"Bearer TOKEN", b"Bearer " + main.token.encode()))
            if ends:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
        except OSError:  # it was refused before all was sent, or waits for more
            pass
        return received


def answer_of(data: bytes) -> Response:
    """The one answer in these bytes, taken apart strictly."""
    head, mark, body = data.partition(b"\r\n\r\n")
    assert mark, data[:200]
    first, *lines = head.decode("ascii").split("\r\n")
    assert first.startswith(("HTTP/1.1 ", "HTTP/1.0 ")), first
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines) and "X-Forged" not in headers
    body = dechunked(body) if "Transfer-Encoding" in headers else body
    assert len(body) == int(headers.get("Content-Length", len(body))), (headers, body[:200])
    return Response(int(first.split()[1]), {name.lower(): value for name, value in headers.items()}, body)


def check(answer: Response) -> None:
    """What holds for every answer; a problem is one by RFC 9457, and tells its request by an id."""
    assert answer.status < 500, answer.body
    assert answer.headers["x-request-id"] and "default-src 'none'" in answer.headers["content-security-policy"]
    if answer.status >= 400:
        problem = answer.json
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["status"], problem["request_id"]) == (answer.status, answer.headers["x-request-id"])


@pytest.mark.parametrize("name", EVERYTHING)
def test_what_is_wrong_is_answered(main: RealCluster, name: str) -> None:
    each = EVERYTHING[name]
    received = exchanged(main, each.data, ends=not each.statuses)
    if not each.statuses:
        assert received == b""
        return
    answer = answer_of(received)
    check(answer)
    assert answer.status in each.statuses, (answer.status, answer.body[:300])


def test_what_is_spoiled_at_random_is_answered(main: RealCluster) -> None:
    random = Random(9)
    sound = [each.data for name, each in EVERYTHING.items() if name.startswith(("body", "chunks", "query", "header"))]
    statuses = set()
    for _ in range(200):
        spoiled = bytearray(random.choice(sound)[:3000])
        for _ in range(random.randrange(1, 5)):
            spoiled[random.randrange(len(spoiled))] = random.randrange(256)
        received = exchanged(main, bytes(spoiled), patience_s=0.3)
        if received:  # one that never comes as a whole has no answer
            answer = answer_of(received)
            check(answer)
            statuses.add(answer.status)
    assert {200, 400, 401, 404, 422} <= statuses


def test_requests_one_behind_the_other_are_answered_in_order(main: RealCluster) -> None:
    ids = [f"n-{number}" for number in range(200)]
    paths = ("/ready", "/api/v1/devices/nobody", "/nowhere", "/api/v1/tasks?limit=x")
    keep = {"Connection": ""}
    data = b"".join(request("GET", paths[number % 4], {"X-Request-Id": each} | keep) for number, each in enumerate(ids))
    received = exchanged(main, data + request("GET", "/ready", {"X-Request-Id": "last"}))
    found = [line[14:].decode() for line in received.split(b"\r\n") if line.startswith(b"X-Request-Id: ")]
    assert found == [*ids, "last"]


def test_afterwards_all_is_well(main: RealCluster) -> None:
    assert main.get("cluster/health")["status"] == "ok"
    assert ',status="5' not in main.text("text/metrics")
