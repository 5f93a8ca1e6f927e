"""http_request: what it may reach, and what it brings back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from retirecluster.worker.runner import http_request as client
from retirecluster.worker.runner.addresses import is_own_network
from retirecluster.worker.runner.addresses import is_public as client_is_public
from tests.worker.runner_client import RunnerClient

ALLOWED = {"http_allow_private": True}


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        body = f"{self.command} {self.path} {self.headers.get('X-Mine')}".encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.upper())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert client.is_public(address) is public


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://localhost/", "http://[::1]/", "http://2130706433/"])
def test_private_targets_are_refused(url: str) -> None:
    with pytest.raises(client.Refused, match="public addresses only"):
        client.request({"url": url}, {}, 5.0)


def test_other_schemes_are_refused() -> None:
    for url in ("file:///etc/passwd", "ftp://example.org/", "http:///nothing"):
        with pytest.raises(client.Refused):
            client.request({"url": url}, ALLOWED, 5.0)


def test_a_redirect_to_a_private_target_is_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = client.checked_addresses

    def only_the_first(host: str, port: int, allow_private: bool) -> Any:
        return real(host, port, allow_private=host == "127.0.0.1")

    monkeypatch.setattr(client, "checked_addresses", only_the_first)
    assert client.request({"url": f"{site}/a"}, {}, 5.0)["status"] == 200
    with pytest.raises(client.Refused):
        client.request({"url": f"{site}/to/http://localhost:1/"}, {}, 5.0)


def test_the_connection_goes_to_the_address_that_was_checked(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to something else at the second look gains nothing: there is no second look."""
    looks = []
    real = socket.getaddrinfo

    def once(host: str, *arguments: Any, **more: Any) -> Any:
        looks.append(host)
        return real("127.0.0.1", *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    port = site.rpartition(":")[2]
    assert client.request({"url": f"http://rebinding.example:{port}/x"}, ALLOWED, 5.0)["status"] == 200
    assert looks == ["rebinding.example"]


def test_mixed_answers_lose_their_private_part(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(2, 1, 6, "", (address, 80)) for address in ("10.0.0.1", "93.184.216.34")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **more: found)
    assert client.checked_addresses("mixed.example", 80, False) == found[1:]


def test_answers(site: str) -> None:
    answer = client.request({"url": f"{site}/p?q=1", "headers": {"X-Mine": "yes"}}, ALLOWED, 5.0)
    assert (answer["status"], answer["body"]) == (200, "GET /p?q=1 yes")
    assert client.request({"url": f"{site}/missing"}, ALLOWED, 5.0)["status"] == 404
    assert client.request({"url": f"{site}/to//there"}, ALLOWED, 5.0)["body"] == "GET /there None"
    assert client.request({"url": site, "method": "POST", "body": "loud"}, ALLOWED, 5.0)["body"] == "LOUD"
    short = client.request({"url": f"{site}/p", "max_bytes": 3}, ALLOWED, 5.0)
    assert (short["body"], short["truncated"]) == ("GET", True)
    with pytest.raises(client.HTTPException, match="redirects"):
        client.request({"url": f"{site}/to/" + "/to/" * 20}, ALLOWED, 5.0)


def test_in_the_runner(runner: RunnerClient, site: str) -> None:
    refused = runner.run("http_request", {"url": site})["error"]
    assert (refused["kind"], refused["retryable"]) == ("refused", False)
    answer = runner.run("http_request", {"url": f"{site}/x"}, options=ALLOWED)
    assert answer["value"]["body"] == "GET /x None"
    failed = runner.run("http_request", {"url": "http://127.0.0.1:1/"}, options=ALLOWED)["error"]
    assert (failed["kind"], failed["retryable"]) == ("http", True)


@pytest.mark.parametrize(
    "address",
    [
        "::7f00:1",  # IPv4 in ::/96
        "fec0::1",  # site-local
        "64:ff9b:1::7f00:1",  # NAT64 of a local network
        "2001:0:53aa:64c:0:5efe:7f00:1",  # Teredo
        "2606:4700::5efe:a00:1",  # ISATAP
        "2606:4700::200:5efe:a00:1",
        "::ffff:0:7f00:1",  # translated
        "2001:db8::1",
        "100::1",
        "192.0.0.8",
        "198.18.0.1",
        "240.0.0.1",
        "0.1.2.3",
    ],
)
def test_other_ways_to_write_a_private_address(address: str) -> None:
    assert not client_is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.1/",
        "http://0/",
        "http://[::ffff:7f00:1]/",
        "http://[64:ff9b::127.0.0.1]/",
        "http://[2002:7f00:1::]/",
        "http://localhost./",
    ],
)
def test_other_ways_to_write_loopback_are_refused(url: str) -> None:
    try:
        with pytest.raises(client.Refused, match="public addresses only"):
            client.request({"url": url}, {}, 5.0)
    except socket.gaierror:  # what cannot be resolved cannot be reached either
        pass


def test_a_neighbour_with_a_public_address_is_refused() -> None:
    """The own /64 of IPv6, and an own IPv4 address, whatever its range."""
    assert is_own_network(socket.AF_INET, ("127.0.0.1", 80))
    assert is_own_network(socket.AF_INET6, ("::1", 80, 0, 0)) or not socket.has_ipv6
    assert not is_own_network(socket.AF_INET, ("203.0.113.9", 80))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "1\r\nX-B: 2"},
        {"X-A": "1\n folded"},
        {"X-A": "nul\0"},
        {"X-A\r\nX-B": "1"},
        {"X A": "1"},
        {"": "1"},
        {"Host": "internal.example"},
        {"content-length": "3"},
        {"Transfer-Encoding": "chunked"},
        {"Connection": "upgrade"},
    ],
)
def test_headers_that_would_change_the_request_are_refused(site: str, headers: dict[str, str]) -> None:
    with pytest.raises(client.Refused, match="header"):
        client.request({"url": f"{site}/x", "headers": headers}, ALLOWED, 5.0)


@pytest.mark.parametrize(
    "path", ["/a\r\nX-Mine: yes", "/a b", "/a\\b", "/\x7f", "@127.0.0.1/", "http://user:word@127.0.0.1/"]
)
def test_urls_that_would_change_the_request_are_refused(site: str, path: str) -> None:
    url = path if path.startswith("http") else site + path
    with pytest.raises(client.Refused):
        client.request({"url": url}, ALLOWED, 5.0)


def test_other_alphabets_in_a_path_are_escaped(site: str) -> None:
    assert client.request({"url": f"{site}/grüße?q=ü"}, ALLOWED, 5.0)["body"].startswith(
        "GET /gr%C3%BC%C3%9Fe?q=%C3%BC "
    )


class Wire:
    """A server that answers each connection with given bytes, slowly or not, and keeps what it heard."""

    def __init__(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        self.heard = b""
        self._pieces, self._pause_s = pieces, pause_s
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        try:
            connection = self._server.accept()[0]
        except OSError:
            return
        with connection:
            self.heard = connection.recv(65_536)
            for piece in self._pieces:
                try:
                    connection.sendall(piece)
                except OSError:
                    return
                if self._over.wait(self._pause_s):
                    return

    def close(self) -> None:
        self._over.set()
        self._server.close()
        self._thread.join()


@pytest.fixture
def wire() -> Iterator[Any]:
    made: list[Wire] = []

    def make(*pieces: bytes, pause_s: float = 0.0) -> Wire:
        made.append(Wire(*pieces, pause_s=pause_s))
        return made[-1]

    yield make
    for each in made:
        each.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


def test_a_server_that_answers_byte_by_byte_is_given_up(wire: Any) -> None:
    """Each byte comes in time, the answer never does."""
    for pieces in ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n"] * 90, [OK] + [b"x"] * 1000):
        server = wire(*pieces, pause_s=0.05)
        with pytest.raises(TimeoutError):
            client.request({"url": server.url}, ALLOWED, 0.5)


def test_a_long_answer_is_cut_and_headers_are_bounded(wire: Any) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (index, b"v" * 100) for index in range(90))
    server = wire(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n" + many + b"\r\n" + b"x" * 300_000)
    answer = client.request({"url": server.url, "max_bytes": 1000}, ALLOWED, 5.0)
    assert (len(answer["body"]), answer["truncated"]) == (1000, True)
    assert answer["headers"]["Set-Cookie"] == "a=1, b=2"
    assert sum(len(name) + len(value) for name, value in answer["headers"].items()) < 5000


@pytest.mark.parametrize("charset", ["idna", "punycode", "base64", "no-such", "undefined", "utf-7", "rot13"])
def test_what_a_server_says_of_its_charset_cannot_break_it(wire: Any, charset: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset={charset}\r\nContent-Length: 4\r\n\r\n"
    assert isinstance(client.request({"url": wire(head.encode(), b"\xff\xfeab").url}, ALLOWED, 5.0)["body"], str)


def test_secrets_do_not_follow_a_redirect_to_another_door(wire: Any) -> None:
    second = wire(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    first = wire(f"HTTP/1.1 307 Go\r\nLocation: {second.url}/\r\nContent-Length: 0\r\n\r\n".encode())
    headers = {"Authorization": "Bearer secret", "Cookie": "a=b", "X-Mine": "kept"}
    client.request({"url": first.url, "headers": headers, "method": "POST", "body": "data"}, ALLOWED, 5.0)
    assert b"secret" in first.heard and b"a=b" in first.heard
    assert b"secret" not in second.heard and b"a=b" not in second.heard
    assert second.heard.startswith(b"POST / ") and b"X-Mine: kept" in second.heard


@pytest.mark.parametrize("place", ["file:///etc/passwd", "gopher://x/", "http://[::1/", "//user@127.0.0.1/"])
def test_redirects_to_what_is_no_target_are_refused(wire: Any, place: str) -> None:
    server = wire(f"HTTP/1.1 302 Go\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode())
    with pytest.raises((client.Refused, ValueError)):
        client.request({"url": server.url}, ALLOWED, 5.0)


def test_an_answer_that_is_no_http_is_a_failure_of_the_task(runner: RunnerClient, wire: Any) -> None:
    report = runner.run("http_request", {"url": wire(b"SSH-2.0-x\r\n").url}, options=ALLOWED)
    assert report["error"]["kind"] == "http"
