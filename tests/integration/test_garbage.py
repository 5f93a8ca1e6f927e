"""Garbage on either port: never a traceback, never an end of the service."""

from __future__ import annotations

import contextlib
import os
import socket
from random import Random

import pytest

from tests.integration.cluster import RealCluster

pytestmark = pytest.mark.integration


def throw(port: int, data: bytes) -> bytes:
    """Send bytes, close our side, and read what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while len(received) < 1_000_000:
                piece = connection.recv(65536)
                if not piece:
                    break
                received += piece
        except OSError:  # it was refused before all was sent, or waits for more
            pass
        return received


def garbage() -> list[bytes]:
    random = Random(7)
    valid = b'{"message_type":"register","sender_id":"x","data":{"device_info":{"platform":"linux"}}}\n'
    made = [
        b"",
        b"\n" * 10_000,
        b"\x00" * 5000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"[" * 200_000 + b"\n",
        b"x" * 1_100_000,
        b"9" * 100_000 + b"\n",
        b'{"message_type":' + b'{"a":' * 20_000 + b"\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/tasks?limit=\xff&status=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.0\r\n\r\n",
        b"NONSENSE\r\n\r\n",
    ]
    made += [random.randbytes(random.randrange(1, 3000)) for _ in range(60)]
    for _ in range(60):
        spoiled = bytearray(valid * 3)
        for _ in range(random.randrange(1, 6)):
            spoiled[random.randrange(len(spoiled))] = random.randrange(256)
        made.append(bytes(spoiled))
    return made


def test_garbage_on_both_ports(cluster: RealCluster) -> None:
    cluster.start_main()
    for data in garbage():
        throw(cluster.worker_port, data)
        throw(cluster.web_port, data)
    assert cluster.get("cluster/health")["status"] == "ok"
    cluster.start_worker("one")
    [task_id] = cluster.submit({"task_type": "echo", "payload": {"message": "still here"}})
    assert cluster.ended(task_id)["status"] == "completed"
    cluster.assert_no_tracebacks()


def test_a_worker_takes_no_garbage_from_a_main(cluster: RealCluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        cluster.worker_port = listener.getsockname()[1]
        cluster.start_worker("one")
        listener.settimeout(20)
        for data in (
            os.urandom(2000) + b"\n",
            b'{"message_type":"task_assign","data":{"task":{}}}\n',
            b"x" * 1_200_000,
        ):
            connection, _ = listener.accept()
            connection.sendall(data)
            connection.settimeout(2)
            with contextlib.suppress(TimeoutError):
                connection.recv(65536)
            connection.close()
    assert cluster.processes["one"].poll() is None
