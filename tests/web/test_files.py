"""Files over the real resource tree: uploads, downloads, ranges, quotas, and what devices may do."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.units import MIB
from retirecluster.main import file_store
from retirecluster.web.downloads import attachment, wanted_range
from tests.web.conftest import http_of
from tests.web.device import played
from tests.web.http import Http, Response, wire
from tests.web.test_guard import guard, refusal

CONTENT = b"what a task needs\n" * 100
FILES = "/api/v1/files"


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def address(data: bytes, query: str = "") -> str:
    return f"{FILES}/{digest(data)}{query}"


async def put(http: Http, data: bytes, **headers: str) -> Response:
    return await http.call("PUT", address(data), body=data, **headers)


async def piece(http: Http, whole: bytes, start: int, end: int, query: str = "", **headers: str) -> Response:
    return await http.call(
        "PUT",
        address(whole, f"?offset={start}{query}"),
        body=whole[start:end],
        Upload_Length=str(len(whole)),
        **headers,
    )


def folder(node: Any) -> Path:
    return node.rooms.files.store.folder


def on_disk(node: Any) -> set[str]:
    return {path.name for path in folder(node).rglob("*") if path.is_file()}


@pytest_twisted.ensureDeferred
async def test_a_small_file_in_one_request(node: Any, http: Http) -> None:
    answer = await put(http, CONTENT)
    assert answer.status == 201
    assert answer.data == {"sha256": digest(CONTENT), "size_bytes": len(CONTENT), "complete": True}
    assert (folder(node) / digest(CONTENT)[:2] / digest(CONTENT)[2:4] / digest(CONTENT)).read_bytes() == CONTENT
    assert (await put(http, CONTENT, Content_Type="application/octet-stream")).status == 201  # again: no harm
    answer = await http.get(address(CONTENT))
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["etag"] == f'"{digest(CONTENT)}"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert answer.headers["content-security-policy"].endswith("; sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await http.get(address(CONTENT), If_None_Match=f'"{digest(CONTENT)}"')).status == 304
    answer = await http.call("HEAD", address(CONTENT), token=False)
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, str(len(CONTENT)), b"")
    assert (await put(http, b"")).status == 201
    assert (await http.get(address(b""))).body == b""


@pytest_twisted.ensureDeferred
async def test_pieces_offsets_and_a_wrong_hash(node: Any, http: Http) -> None:
    assert (await http.call("HEAD", address(CONTENT))).status == 404
    answer = await piece(http, CONTENT, 0, 500)
    assert (answer.status, answer.data["complete"], answer.headers["upload-offset"]) == (202, False, "500")
    head = await http.call("HEAD", address(CONTENT))
    assert (head.status, head.headers["upload-offset"]) == (204, "500")
    assert (await http.get(address(CONTENT))).status == 404
    for start in (0, 400, 501, 1800):
        answer = await piece(http, CONTENT, start, start + 10)
        assert (answer.status, answer.code, answer.headers["upload-offset"]) == (409, "conflict", "500"), start
    answer = await piece(http, CONTENT, 500, len(CONTENT))
    assert (answer.status, answer.headers["upload-offset"]) == (201, str(len(CONTENT)))
    assert (await http.get(address(CONTENT))).body == CONTENT
    # A content that is not what it is called is refused, and nothing of it stays.
    wrong = await http.call("PUT", f"{FILES}/{'0' * 64}", body=b"garbage")
    assert (wrong.status, wrong.code, wrong.json["errors"][0]["field"]) == (422, "bad_field", "sha256")
    assert (await http.call("HEAD", f"{FILES}/{'0' * 64}")).status == 404
    assert on_disk(node) == {digest(CONTENT)}
    assert node.rooms.files.store.used_bytes == len(CONTENT)


@pytest_twisted.ensureDeferred
async def test_a_new_life_goes_on_where_the_old_one_stopped(make_node: Any) -> None:
    first = make_node()
    http = http_of(first)
    await piece(http, CONTENT, 0, 700)
    await put(http, b"whole")
    await put(http, b"will be lost")
    await put(http, b"will be cut")
    place = folder(first)
    await first.stopService()
    lost, cut, unsaid = (next(place.rglob(digest(each))) for each in (b"will be lost", b"will be cut", b"whole"))
    lost.unlink()
    cut.write_bytes(b"will")
    # As a death between the name and the row leaves it.
    unsaid_digest = digest(b"nobody was told")
    (place / unsaid_digest[:2] / unsaid_digest[2:4]).mkdir(parents=True)
    (place / unsaid_digest[:2] / unsaid_digest[2:4] / unsaid_digest).write_bytes(b"nobody was told")
    (place / "ab").mkdir(exist_ok=True)
    (place / "ab" / "README").write_text("not ours")
    second = make_node()
    http = http_of(second)
    assert second.rooms.files.store.used_bytes == 700 + len(b"whole") + len(b"nobody was told")
    assert (await http.call("HEAD", address(CONTENT))).headers["upload-offset"] == "700"
    assert (await piece(http, CONTENT, 700, len(CONTENT))).status == 201
    assert (await http.get(address(b"nobody was told"))).body == b"nobody was told"
    assert (await http.get(address(b"whole"))).body == b"whole"
    assert (await http.get(address(b"will be lost"))).status == 404
    assert (await http.get(address(b"will be cut"))).status == 404
    assert (await put(http, b"will be cut")).status == 201
    assert not unsaid.is_symlink()


@pytest_twisted.ensureDeferred
async def test_what_an_upload_may_not_be(http: Http) -> None:
    for name in ("abc", "A" * 64, "0" * 63, "0" * 65, "..%2f..%2fcluster.db", "g" * 64):
        assert (await http.call("PUT", f"{FILES}/{name}", body=b"x")).status == 404, name
    answer = await http.call("PUT", address(b"x", "?offset=0"), body=b"x")
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "Upload-Length")
    answer = await http.call("PUT", address(b"xx", "?offset=0"), body=b"xx", Upload_Length="1")
    assert answer.status == 422
    for length in ("-1", "x", "1" * 20, "1.5", ""):
        answer = await http.call("PUT", address(b"xx", "?offset=0"), body=b"xx", Upload_Length=length)
        assert answer.status == 422, length
    for media_type in ("application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        answer = await http.call("PUT", address(b"x"), body=b"x", Content_Type=media_type)
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
    answer = await http.call("PUT", address(b"x"), body=b"x", token=False)
    assert answer.status == 401


@pytest_twisted.ensureDeferred
async def test_a_piece_has_at_most_8_mib(http: Http) -> None:
    connection = await wire(http.port)
    connection.send(
        f"PUT {address(b'x')} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {http.token}\r\n"
        f"Content-Length: {8 * MIB + 1}\r\n\r\n".encode()
    )
    assert (await connection.end()).startswith(b"HTTP/1.1 413 ")  # before it was sent
    data = os.urandom(8 * MIB)
    assert (await put(http, data)).status == 201


@pytest_twisted.ensureDeferred
async def test_quotas(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node(max_file_bytes=1000, max_files_bytes=1500)
    http = http_of(node)
    answer = await piece(http, b"x" * 1001, 0, 10)
    assert (answer.status, answer.code) == (413, "too_large") and "max_file_bytes" in answer.json["detail"]
    assert (await put(http, b"a" * 1000)).status == 201
    answer = await piece(http, b"b" * 600, 0, 10)
    assert (answer.status, answer.code) == (507, "no_space") and "max_files_bytes" in answer.json["detail"]
    assert (await put(http, b"b" * 500)).status == 201
    assert (await http.call("DELETE", address(b"a" * 1000))).status == 200
    assert node.rooms.files.store.used_bytes == 500
    assert (await put(http, b"c" * 1000)).status == 201
    assert on_disk(node) == {digest(b"b" * 500), digest(b"c" * 1000)}
    monkeypatch.setattr(node.rooms.files.store, "quotas", file_store.Quotas(1000, 10_000, 2**60))
    answer = await put(http, b"d")
    assert (answer.status, answer.code) == (507, "no_space") and "min_free_bytes" in answer.json["detail"]
    assert answer.headers["retry-after"]


@pytest_twisted.ensureDeferred
async def test_ranges(http: Http) -> None:
    await put(http, CONTENT)
    size = len(CONTENT)
    for asked, start, end in (
        ("0-0", 0, 1),
        ("5-9", 5, 10),
        ("1790-", 1790, size),
        ("-3", size - 3, size),
        ("0-99999", 0, size),
    ):
        answer = await http.get(address(CONTENT), Range=f"bytes={asked}")
        assert (answer.status, answer.body) == (206, CONTENT[start:end]), asked
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for ignored in ("bytes=0-1,5-6", "lines=1-2", "bytes=9-5", "bytes=-", "bytes=a-b"):
        answer = await http.get(address(CONTENT), Range=ignored)
        assert (answer.status, answer.body) == (200, CONTENT), ignored
    answer = await http.get(address(CONTENT), Range=f"bytes={size}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    answer = await http.get(address(CONTENT), Range="bytes=0-1", If_Range='"other"')
    assert (answer.status, len(answer.body)) == (200, size)


@given(st.text(max_size=30), st.integers(0, 50))
def test_a_range_is_within_the_file_or_none(text: str, size: int) -> None:
    try:
        found = wanted_range(text, size)
    except ValueError:
        return
    assert found is None or 0 <= found.start < found.end <= size


@given(st.text(min_size=1, max_size=60))
def test_the_name_in_a_header_is_a_name(name: str) -> None:
    value = attachment(name)[1].decode("ascii")
    assert value.isprintable() and value.count('"') == 2
    plain = value.split('"')[1]
    assert "/" not in plain and "\\" not in plain


@pytest_twisted.ensureDeferred
async def test_a_reader_that_leaves_and_one_that_is_slow(node: Any, http: Http) -> None:
    data = os.urandom(8 * MIB)
    await put(http, data)
    connection = await wire(http.port)
    connection.transport.pauseProducing()
    connection.send(f"GET {address(data)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    other = await http.get(address(data), Range="bytes=0-9")
    assert other.body == data[:10]
    connection.transport.resumeProducing()
    assert (await connection.end()).endswith(data[-1000:])
    connection = await wire(http.port)
    connection.send(f"GET {address(data)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await connection.until(b"200 OK")
    await connection.leave()
    assert (await http.get("/ready")).status == 200


@pytest_twisted.ensureDeferred
async def test_tasks_name_their_inputs(node: Any, http: Http) -> None:
    task = {"task_type": "echo", "files": {"inputs": [{"name": "a/b.txt", "sha256": digest(CONTENT)}]}}
    await piece(http, CONTENT, 0, 10)  # begun is not complete
    answer = await http.post("/api/v1/tasks", task)
    assert (answer.status, answer.code) == (422, "bad_field")
    [problem] = answer.json["errors"]
    assert problem["field"] == "files.inputs[0].sha256" and digest(CONTENT) in problem["message"]
    answer = await http.post("/api/v1/tasks", [{"task_type": "echo"}, task])
    assert answer.json["errors"][0]["field"] == "[1].files.inputs[0].sha256"
    assert (await http.get("/api/v1/tasks")).data["tasks"] == []
    await piece(http, CONTENT, 10, len(CONTENT))
    task_id = (await http.post("/api/v1/tasks", task)).data["task_id"]
    found = (await http.get(f"/api/v1/tasks/{task_id}/files")).data
    wanted = {"name": "a/b.txt", "sha256": digest(CONTENT), "size_bytes": len(CONTENT)}
    assert found["inputs"] == [wanted | {"present": True, "executable": False}] and found["outputs"] == []
    for path in ("a/b.txt", "a%2fb.txt"):
        answer = await http.get(f"/api/v1/tasks/{task_id}/files/{path}")
        assert (answer.status, answer.body) == (200, CONTENT)
        assert 'filename="b.txt"' in answer.headers["content-disposition"]
    for path in ("b.txt", "a/../a/b.txt", "a//b.txt", "..%2f..%2fcluster.db", "a/b.txt/"):
        assert (await http.get(f"/api/v1/tasks/{task_id}/files/{path}")).status == 404, path
    assert (await http.get(f"/api/v1/tasks/{task_id}/files/a/b.txt?direction=output")).status == 404
    answer = await http.call("DELETE", address(CONTENT))
    assert (answer.status, answer.code) == (409, "conflict")
    listed = await http.call("GET", f"{FILES}?limit=1")
    assert [each["sha256"] for each in listed.data["files"]] == [digest(CONTENT)] and listed.data["files"][0]["named"]
    assert (await http.call("GET", f"{FILES}?after={listed.data['next_after']}")).data["files"] == []


async def assigned(node: Any, http: Http, data: bytes = CONTENT) -> tuple[Any, dict[str, Any], str]:
    """A device that holds an attempt with an input; the task, and the device's token."""
    await put(http, data)
    device = await played(node)
    token = device.welcome["files"]["token"]
    assert device.welcome["files"]["port"] == node.web_port
    task = {"task_type": "echo", "files": {"inputs": [{"name": "in", "sha256": digest(data)}], "outputs": ["**"]}}
    await http.post("/api/v1/tasks", task)
    return device, await device.take(), token


@pytest_twisted.ensureDeferred
async def test_what_a_device_may_do(node: Any, http: Http) -> None:
    device, task, token = await assigned(node, http)
    bearer = f"Bearer {token}"
    query = f"?task_id={task['task_id']}&epoch={task['epoch']}"
    assert (await http.get(address(CONTENT), Authorization=bearer)).body == CONTENT
    await put(http, b"somebody else's")
    assert (await http.get(address(b"somebody else's"), Authorization=bearer)).status == 403
    assert (await http.call("HEAD", address(b"somebody else's"), token=False, Authorization=bearer)).status == 403
    out = b"result" * 1000
    answer = await piece(http, out, 0, 100, query.replace("?", "&"), Authorization=bearer)
    assert answer.status == 202
    head = await http.call("HEAD", address(out, query), Authorization=bearer)
    assert head.headers["upload-offset"] == "100"
    # Somebody else's upload of the same is another matter.
    assert (await http.call("HEAD", address(out))).status == 404
    assert (await piece(http, out, 100, len(out), query.replace("?", "&"), Authorization=bearer)).status == 201
    for wrong in ("", f"?task_id={task['task_id']}", f"?task_id={task['task_id']}&epoch=2", "?task_id=task-x&epoch=1"):
        answer = await http.call("PUT", address(b"x", wrong), body=b"x", Authorization=bearer)
        assert (answer.status, answer.code) == (403, "forbidden"), wrong
    for method, path in (
        ("GET", "/api/v1/devices"),
        ("GET", "/api/v1/files"),
        ("DELETE", address(CONTENT)),
        ("POST", "/api/v1/tasks"),
        ("GET", f"/api/v1/tasks/{task['task_id']}/files"),
        ("GET", f"/api/v1/tasks/{task['task_id']}/files/in"),
        ("GET", "/"),
        ("GET", "/stream/tasks"),
    ):
        answer = await http.call(method, path, {} if method == "POST" else None, Authorization=bearer)
        assert (answer.status, answer.code) == (403, "forbidden"), path
    artifact = {"name": "out/r.bin", "sha256": digest(out), "size_bytes": len(out)}
    await device.finish(task, artifacts=[artifact])
    assert (await http.get(f"/api/v1/tasks/{task['task_id']}")).data["status"] == "completed"
    found = (await http.get(f"/api/v1/tasks/{task['task_id']}/files")).data["outputs"]
    assert found == [artifact | {"epoch": 1, "present": True}]
    assert (await http.get(f"/api/v1/tasks/{task['task_id']}/files/out/r.bin")).body == out
    # It is over: the device holds nothing any more.
    assert (await http.get(address(CONTENT), Authorization=bearer)).status == 403
    assert (await http.call("PUT", address(b"y", query), body=b"y", Authorization=bearer)).status == 403
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_a_token_dies_with_its_session(node: Any, http: Http) -> None:
    device, _, token = await assigned(node, http)
    other = await played(node, "other")
    assert (await http.get(address(CONTENT), Authorization=f"Bearer {other.welcome['files']['token']}")).status == 403
    await other.leave()
    await device.leave()
    answer = await http.get(address(CONTENT), Authorization=f"Bearer {token}")
    assert (answer.status, answer.code) == (401, "unauthorized")
    again = await played(node)
    assert again.welcome["files"]["token"] != token
    assert (await http.get(address(CONTENT), Authorization=f"Bearer {token}")).status == 401
    assert (await http.get(address(CONTENT), Authorization="Bearer nonsense")).status == 401
    await again.leave()


def test_devices_come_from_elsewhere() -> None:
    from retirecluster.web.guard import Guard

    check = Guard.create((), lambda token: None, trusted_network=False, devices={"dev": "pixel"}.get)
    assert refusal(check, peer="192.168.1.7", Authorization="Bearer dev") == ""
    assert refusal(check, peer="192.168.1.7", Authorization="Bearer other") == "unauthorized"
    assert refusal(guard(), peer="192.168.1.7", Authorization="Bearer dev") == "unauthorized"


@pytest.mark.parametrize(
    ("artifact", "said"),
    [
        ({"name": "../../../etc/cron.d/x"}, "name"),
        ({"name": "/etc/passwd"}, "name"),
        ({"name": "a\\b"}, "name"),
        ({"name": "nul"}, "device"),
        ({"sha256": "0" * 64}, "was not uploaded"),
        ({"sha256": "../../cluster.db"}, "sha256"),
        ({"size_bytes": 5}, "has 1800 bytes, not 5"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"name": 5}, "name"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_a_device_says_of_its_files_is_not_believed(
    node: Any, http: Http, artifact: dict[str, Any], said: str
) -> None:
    device, task, _ = await assigned(node, http)
    good = {"name": "r", "sha256": digest(CONTENT), "size_bytes": len(CONTENT)}
    await device.finish(task, artifacts=[good, good | {"name": "s"} | artifact])
    document = (await http.get(f"/api/v1/tasks/{task['task_id']}")).data
    assert document["status"] == "retrying" and said in document["reason"]
    assert (await http.get(f"/api/v1/tasks/{task['task_id']}/files")).data["outputs"] == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_files_go_when_nobody_names_them_any_more(
    make_node: Any, monkeypatch: pytest.MonkeyPatch, logged_failures: Any
) -> None:
    node = make_node(keep_tasks_days=0)
    http = http_of(node)
    device, task, _ = await assigned(node, http)
    await put(http, b"nobody's")
    await piece(http, b"never completed", 0, 5)
    store = node.rooms.files.store
    assert await store.clean() == 0  # all of them are young
    monkeypatch.setattr(file_store, "UNWANTED_AFTER_S", -10.0)
    assert await store.clean() == 2
    assert on_disk(node) == {digest(CONTENT)} and store.used_bytes == len(CONTENT)
    await device.finish(task)
    await node.rooms.cleaner.clean()
    assert (await http.get(f"/api/v1/tasks/{task['task_id']}")).status == 404
    assert on_disk(node) == set() and store.used_bytes == 0
    await device.leave()
