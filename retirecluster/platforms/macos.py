"""macOS: what the standard library gives; psutil, where it is installed, gives the rest."""

from __future__ import annotations

from retirecluster.platforms.base import Platform


class MacOS(Platform):
    """A Mac."""

    name = "darwin"

    def has_default_route(self) -> bool | None:
        """A socket that sends nothing: the system finds a route for it, or says there is none."""
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))
            except OSError:
                return False
        return True
