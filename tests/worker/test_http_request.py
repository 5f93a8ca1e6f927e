"""http_request: what it may reach, and what it brings back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from retirecluster.worker.runner import http_request as client
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
