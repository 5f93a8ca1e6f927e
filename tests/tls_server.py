"""A server whose TLS is not ours: blocking sockets in a thread, which do what the test says."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from retirecluster.main.certificates import Authority


def server_context(authority: Authority, **more: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.folder / "main.crt", authority.folder / "main.key")
    context.load_verify_locations(authority.folder / "ca.crt")
    for name, value in more.items():
        setattr(context, name, value)
    return context


class Server:
    """Serves one connection after the other."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, args=(serve,), daemon=True)
        self.thread.start()

    def _run(self, serve: Callable[[socket.socket], None]) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(20)
            with connection, suppress(OSError):
                serve(connection)

    def close(self) -> None:
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # else a thread would wait in accept for ever
        self.listener.close()
        self.thread.join(20)
        assert not self.thread.is_alive()
