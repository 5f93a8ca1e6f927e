"""A cluster beyond loopback, of real processes: devices join by join strings, and speak TLS for everything."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import TWISTD, RealCluster, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="needs 127.0.0.2, which other systems have not set up"),
]
PROGRAM = "import sys; from retirecluster.client.cli import main; sys.exit(main())"
SHORT = {"heartbeat_interval_s": 0.5, "offline_after_s": 3, "lease_s": 5, "beacon": False}


class SecuredCluster(RealCluster):
    """A main that listens where others could reach it, and so speaks TLS. For it 127.0.0.2 is such an address."""

    host = "127.0.0.2"
    descriptors = 0

    def start_main(self, *options: str, **rest: Any) -> None:
        config = self.folder / "main.json"
        config.write_text(json.dumps(SHORT))
        super().start_main("--host", self.host, "--config", str(config), *options, **rest)
        self.tls = ssl.create_default_context(cafile=self.folder / "main" / "tls" / "ca.crt")

    def prefix(self, name: str) -> list[str]:
        limited = name == "main" and self.descriptors
        return ["prlimit", f"--nofile={self.descriptors}:{self.descriptors}"] if limited else []

    def join_string(self, **body: Any) -> str:
        made: str = self.request("POST", "join-tokens", body)["join_string"]
        return made

    def start_joining(self, name: str, text: str) -> None:
        """Start a worker with a join string alone, as in a container."""
        arguments = ["retire-worker", "--data-dir", str(self.folder / name), "--device-id", name]
        self._start(name, arguments, {"RETIRE_CLUSTER_JOIN": text})

    def test_joining(self, name: str, text: str) -> subprocess.CompletedProcess[str]:
        """Join, and end."""
        command = [*TWISTD, "-n", "--pidfile=", f"--logfile={self.folder}/{name}-test.log", "retire-worker"]
        command += ["--data-dir", str(self.folder / name), "--device-id", name, "--test"]
        environ = {"PATH": "/usr/bin:/bin", "RETIRE_CLUSTER_JOIN": text}
        return subprocess.run(
            command, env=environ, capture_output=True, text=True, timeout=60, cwd=self.folder, check=False
        )


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[SecuredCluster]:
    made = SecuredCluster(tmp_path)
    try:
        yield made
    finally:
        made.stop()
    made.assert_no_tracebacks()


def test_a_device_joins_works_with_files_and_survives_a_kill_of_the_main(secured: SecuredCluster) -> None:
    secured.start_main()
    text = secured.join_string(role="storage")
    secured.start_joining("one", text)
    secured.wait_online("one")
    assert secured.get("devices/one")["role"] == "storage"
    content = b"film " * 700_000  # several pieces each way
    digest = _upload(secured, content)
    files = {"inputs": [{"name": "in", "sha256": digest}], "outputs": ["out"]}
    task = {"task_type": "command", "payload": {"argv": ["sh", "-c", "cat in in > out"]}, "files": files}
    ended = secured.ended(secured.submit(task)[0])
    assert ended["status"] == "completed", ended
    [out] = secured.get(f"tasks/{ended['task_id']}/files")["outputs"]
    assert out["sha256"] == hashlib.sha256(content * 2).hexdigest()
    secured.kill("main")
    secured.start_main()
    secured.wait_online("one")
    echo = {"task_type": "echo", "payload": {"message": "again"}}
    assert secured.ended(secured.submit(echo)[0])["status"] == "completed"
    secured.kill("one")
    secured.start_joining("one", text)  # the string is used up, and not needed any more
    eventually(lambda: secured.logs("one").count("registered as one") >= 3, what="the third registration")


def test_nothing_readable_goes_over_the_wire(secured: SecuredCluster) -> None:
    secured.start_main()
    for port in (secured.worker_port, secured.web_port):
        with socket.create_connection((secured.host, port), 10) as connection:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)  # not even a greeting, before the other side speaks TLS


def test_the_command_line_joins_and_leaves(secured: SecuredCluster) -> None:
    secured.start_main()
    folder = secured.folder / "one"
    text = secured.join_string()
    command = [sys.executable, "-c", PROGRAM, "join", text, "--name", "one", "--foreground", "--data-dir", str(folder)]
    with (secured.folder / "one-0.log").open("wb") as log:
        secured.processes["one"] = subprocess.Popen(command, stdout=log, stderr=log, cwd=secured.folder)
    secured.wait_online("one")
    settings = json.loads((folder / "worker.json").read_text())
    assert settings["join"] == f"{secured.host}:{secured.worker_port}"
    secret = text.removeprefix("rc1-")
    assert not any(secret.encode() in each.read_bytes() for each in folder.iterdir() if each.is_file())
    worker = secured.processes["one"].pid
    assert secret.encode() not in Path(f"/proc/{worker}/cmdline").read_bytes()
    secured.kill("one")
    leave = [sys.executable, "-c", PROGRAM, "leave", "--data-dir", str(folder)]
    done = subprocess.run(leave, capture_output=True, text=True, timeout=60, cwd=secured.folder, check=False)
    assert done.returncode == 0, done.stderr
    assert not (folder / "tls" / "device.pem").exists()


def test_a_plain_worker_is_told_what_to_do(secured: SecuredCluster) -> None:
    secured.start_main()
    secured.start_worker("one")
    eventually(lambda: "let the device join by a join string" in secured.logs("one"), 10, "the hint")
    eventually(lambda: "did not speak TLS" in secured.logs("main"), 10, "the line in the main's log")
    assert not secured.devices()


def test_a_revoked_device_is_out_within_a_second_and_stays_out(secured: SecuredCluster) -> None:
    secured.start_main()
    secured.start_joining("one", secured.join_string())
    secured.wait_online("one")
    secured.request("POST", "devices/one/revoke", {})
    eventually(lambda: secured.devices()["one"] != "online", 1.0, "the end of its session")
    secured.kill("main")
    secured.start_main()
    eventually(lambda: "was revoked" in secured.logs("one"), what="what it is told")
    assert secured.devices()["one"] != "online"
    assert secured.request("GET", "ca")["certificates"][0]["status"] == "revoked"


def test_of_two_processes_with_one_string_one_is_let_in(secured: SecuredCluster) -> None:
    secured.start_main()
    text = secured.join_string()
    for name in ("one", "two"):
        secured.start_joining(name, text)
    eventually(lambda: len(secured.devices()) == 1, what="one device")
    eventually(lambda: "used by another device" in secured.logs("one") + secured.logs("two"), what="a refusal")
    assert len(secured.request("GET", "ca")["certificates"]) == 1


def test_many_half_handshakes_and_few_descriptors(secured: SecuredCluster) -> None:
    """64 descriptors, and strangers who begin TLS and go no further: the device that is there stays there."""
    secured.descriptors = 64
    secured.start_main()
    secured.start_joining("one", secured.join_string())
    secured.wait_online("one")
    held, text = [], secured.join_string()
    for number in range(200):
        connection = socket.socket()
        connection.settimeout(2)
        try:
            connection.connect((secured.host, secured.worker_port))
            connection.sendall(b"\x16\x03\x01\x02\x00\x01"[: 1 + number % 6])
        except OSError:
            pass
        held.append(connection)
    session = _session(secured)
    eventually(lambda: secured.test_joining("two", text).returncode == 0, 60, "room for a new one")
    assert _session(secured) == session, "the device that was there lost its connection"
    for connection in held:
        connection.close()


def _session(secured: SecuredCluster) -> list[str]:
    return [line for line in secured.logs("one").splitlines() if "registered as one" in line]


def _upload(secured: SecuredCluster, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    request = urllib.request.Request(
        f"https://{secured.host}:{secured.web_port}/api/v1/files/{digest}",
        content,
        {"Authorization": f"Bearer {secured.token}", "Content-Type": "application/octet-stream"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=60, context=secured.tls) as answer:
        assert answer.status == 201
    return digest
