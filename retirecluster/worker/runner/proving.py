"""Tries, behind the fence, what no task may do. Every layer that is announced was seen to hold here."""

from __future__ import annotations

import errno
import os
import socket

from retirecluster.worker.runner.fence import NotFenced
from retirecluster.worker.runner.system_calls import prctl_get_no_new_privs, unshare_user

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from retirecluster.worker.runner.fence import Fence


def prove(fence: Fence, settings: dict[str, Any], scratch: str) -> list[str]:
    """The layers that hold. Raises NotFenced for one that does not; this process is of no other use afterwards."""
    asked = settings["prove"]
    if not prctl_get_no_new_privs():
        raise NotFenced("no_new_privs: it is not set")
    _must_fail("seccomp", "a new user namespace", unshare_user, errno.EPERM)
    rules = fence.rules_for(scratch)
    from retirecluster.worker.runner.landlock import restrict_self

    restrict_self(rules)
    _must_fail("Landlock", "reading the worker's folder", lambda: os.listdir(asked["hidden"]))
    _must_fail("Landlock", "reading the root folder", lambda: os.listdir("/"), errno.EACCES)
    _must_fail("Landlock", "writing outside its folder", lambda: os.mkdir(f"{scratch}/../beside"))
    with open(f"{scratch}/file", "w") as file:
        file.write("a task can work")
    os.unlink(f"{scratch}/file")
    with open(__file__, "rb") as source:
        source.read(1)
    layers = list(fence.layers)
    if asked["namespaces"]:
        _own_namespaces(asked["namespaces"])
        layers += ["namespaces", "no network"]
    return layers


def _own_namespaces(outside: dict[str, str]) -> None:
    for name, other in outside.items():
        if os.readlink(f"/proc/self/ns/{name}") == other:
            raise NotFenced(f"namespaces: the {name} namespace is the device's own")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        # A documentation address: where there is a network, connecting a datagram socket to it works.
        _must_fail("no network", "a route to outside", lambda: sender.connect(("192.0.2.1", 9)))


def _must_fail(layer: str, what: str, act: Callable[[], object], code: int | None = None) -> None:
    try:
        act()
    except OSError as error:
        if code in (None, error.errno):
            return
        raise NotFenced(f"{layer}: {what} fails with {error.strerror} here") from None
    raise NotFenced(f"{layer}: {what} is not prevented here")
