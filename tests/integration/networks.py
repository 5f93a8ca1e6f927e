"""Networks that can be broken: namespaces joined by virtual cables, and a TCP proxy that is slow.

Nothing of the machine's own network is touched: cables are made from namespace to namespace, and all is removed in the
end, with whatever still runs inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.cluster import RealCluster

CLONE_NEWNET = 0x40000000


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def why_not() -> str:
    """Why namespaces cannot be used here; empty if they can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    missing = [name for name in ("ip", "iptables") if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (packages iproute2 and iptables)"
    name = f"rc-probe-{os.getpid()}"
    try:
        run("ip", "netns", "add", name)
    except subprocess.SubprocessError:
        return "network namespaces cannot be made here"
    try:
        run("ip", "netns", "exec", name, "iptables", "-L")
    except subprocess.SubprocessError:
        return "iptables does not work in a namespace here"
    finally:
        run("ip", "netns", "del", name)
    return ""


class Islands(RealCluster):
    """A cluster in which the main and every worker have a network namespace of their own, joined by cables."""

    host = "10.77.0.1"

    def __init__(self, folder: Path, workers: tuple[str, ...]) -> None:
        super().__init__(folder)
        self.worker_port, self.web_port = 8080, 5000
        self.tag = f"rc{os.getpid()}"
        self.workers = workers

    def build(self) -> None:
        """Make the namespaces and the cables."""
        for name in ("main", *self.workers):
            run("ip", "netns", "add", self.island(name))
            self.ip(name, "link", "set", "lo", "up")
        self.ip("main", "address", "add", f"{self.host}/32", "dev", "lo")
        for number, name in enumerate(self.workers, 1):
            here, there = self.island("main"), self.island(name)
            cable = ["type", "veth", "peer", "name", "up0", "netns", there]
            run("ip", "link", "add", f"to-{name}", "netns", here, *cable)
            self.ip("main", "address", "add", f"10.77.{number}.1/24", "dev", f"to-{name}")
            self.ip("main", "link", "set", f"to-{name}", "up")
            self.ip(name, "address", "add", f"10.77.{number}.2/24", "dev", "up0")
            self.ip(name, "link", "set", "up0", "up")
            self.ip(name, "route", "add", self.host, "via", f"10.77.{number}.1")

    def remove(self) -> None:
        """End everything, and take the namespaces away; what they hold goes with them."""
        try:
            self.stop()
        finally:
            for name in ("main", *self.workers):
                subprocess.run(["ip", "netns", "del", self.island(name)], capture_output=True, timeout=20, check=False)

    def island(self, name: str) -> str:
        return f"{self.tag}-{name}"

    def ip(self, name: str, *arguments: str) -> None:
        run("ip", "-n", self.island(name), *arguments)

    def prefix(self, name: str) -> list[str]:
        return ["ip", "netns", "exec", self.island(name)]

    def start_main(self, *options: str, **rest: Any) -> None:
        super().start_main("--host", self.host, "--trusted-network", *options, **rest)

    def request(self, *arguments: Any, **named: Any) -> Any:
        with self._there("main"):
            return super().request(*arguments, **named)

    def unplug(self, name: str) -> None:
        """Pull the cable between the main and a worker."""
        self.ip("main", "link", "set", f"to-{name}", "down")

    def plug(self, name: str) -> None:
        """Put the cable back."""
        self.ip("main", "link", "set", f"to-{name}", "up")

    def lose(self, name: str, chain: str, share: float = 1.0) -> None:
        """Lose packets (all, or each with that probability) one way: INPUT (from the worker) or OUTPUT (to it)."""
        self._table(name, "-A", chain, share)

    def lose_no_more(self, name: str, chain: str, share: float = 1.0) -> None:
        """As much as was said to `lose`."""
        self._table(name, "-D", chain, share)

    def _table(self, name: str, change: str, chain: str, share: float) -> None:
        side = "-i" if chain == "INPUT" else "-o"
        some = () if share == 1.0 else ("-m", "statistic", "--mode", "random", "--probability", str(share))
        run(*self.prefix("main"), "iptables", "-w", change, chain, side, f"to-{name}", *some, "-j", "DROP")

    @contextlib.contextmanager
    def _there(self, name: str) -> Iterator[None]:
        """Open sockets in another namespace meanwhile. For this thread alone."""
        setns = ctypes.CDLL(None, use_errno=True).setns
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.island(name)}") as away:
            if setns(away.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                setns(home.fileno(), CLONE_NEWNET)


PROXY = """
import asyncio, random, sys
listen, target, delay_s, stall_s, stalls = int(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:])

async def carry(reader, writer):
    # What is read now is written later, in order; now and then a packet is "lost" and sent again.
    pending = asyncio.Queue()
    async def write():
        while (piece := await pending.get()) is not None:
            at, data = piece
            await asyncio.sleep(max(0.0, at - asyncio.get_running_loop().time()))
            writer.write(data)
            await writer.drain()
        writer.close()
    task = asyncio.create_task(write())
    try:
        while data := await reader.read(65536):
            late_s = delay_s * random.uniform(0.5, 1.5) + (stall_s if random.random() < stalls else 0.0)
            pending.put_nowait((asyncio.get_running_loop().time() + late_s, data))
    except OSError:
        pass
    pending.put_nowait(None)
    await asyncio.gather(task, return_exceptions=True)

async def serve(reader, writer):
    try:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
    except OSError:
        return writer.close()
    await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", listen)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class SlowProxy:
    """A process that carries bytes to a port, late. `stalls`: the share of pieces that are `stall_s` later still."""

    def __init__(self, target: int, delay_s: float = 0.0, stall_s: float = 0.0, stalls: float = 0.0) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self._arguments = [str(self.port), str(target), str(delay_s), str(stall_s), str(stalls)]
        self._script = Path(tempfile.mkdtemp(prefix="proxy-")) / "proxy.py"
        self._script.write_text(PROXY)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(self._script), *self._arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        """As a kill -9 ends a process: the kernel closes its connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._script.parent, ignore_errors=True)
