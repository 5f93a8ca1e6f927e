"""The fence of a runner: what it puts on itself at its start, and on each child. See docs/isolation.md.

Levels 0 and 1 need nothing here. The modules that talk to the kernel are loaded from level 2 on.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    from retirecluster.worker.runner.landlock import Landlock

KEPT_RULESETS = 128


class NotFenced(Exception):
    """A layer that the level needs cannot be put on; the text says which, and why."""


class Fence:
    """The fence around one runner. `put_on` changes this process for good."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.level: int = settings.get("level", 1)
        self.layers: list[str] = []
        self._settings = settings
        self._landlock: Landlock | None = None
        self._rulesets: dict[str | None, int] = {}

    @property
    def spawns(self) -> bool:
        """Whether a command may be spawned: not where each child has to restrict itself."""
        return self.level < 2

    def put_on(self) -> None:
        """Raises NotFenced where a mandatory layer is missing: then nothing may be run."""
        if self.level < 2:
            return
        from retirecluster.worker.runner import landlock, seccomp, system_calls

        for layer, act in (
            ("own user", self._change_user),
            ("capabilities", self._drop_capabilities),
            ("no_new_privs", system_calls.no_new_privileges),
            ("Landlock", self._restrict),
            ("seccomp", seccomp.deny_dangerous_calls),
        ):
            try:
                act()
            except Exception as error:  # whatever it is: no fence, no tasks
                raise NotFenced(f"{layer}: {getattr(error, 'strerror', None) or error}") from None
        self.layers += ["no_new_privs", f"landlock {landlock.version()}", "seccomp"]

    def _change_user(self) -> None:
        uid = self._settings.get("uid")
        if uid is None:
            return
        if os.geteuid() != uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            from retirecluster.worker.runner.system_calls import PR_SET_DUMPABLE, prctl

            # After a change of user /proc/self belongs to root, and no task could read its own.
            prctl(PR_SET_DUMPABLE, 1)
        self.layers.append("own user")

    def _drop_capabilities(self) -> None:
        """Root without its rights is a user like others, who happens to own the system's files."""
        if os.geteuid() == 0:
            from retirecluster.worker.runner.system_calls import drop_capabilities

            drop_capabilities()
            self.layers.append("no capabilities")

    def _restrict(self) -> None:
        from retirecluster.worker.runner.landlock import Landlock, restrict_self

        self._landlock = Landlock()
        if self._landlock.scoped:
            self.layers.append("signals")
        groups = self._settings.get("groups", {}).get("bases", {})
        rules = self._rules([self._settings["root"], *groups.values()])
        restrict_self(rules)
        os.close(rules)

    def _rules(self, writable: list[str]) -> int:
        assert self._landlock is not None
        return self._landlock.ruleset(self._settings["readable"], writable, self._settings["devices"])

    def rules_for(self, folder: str | None) -> int:
        """A ruleset for a child with this folder, kept for the next one; -1 where there is none."""
        if self._landlock is None:
            return -1
        rules = self._rulesets.get(folder)
        if rules is None:
            if len(self._rulesets) >= KEPT_RULESETS:
                os.close(self._rulesets.pop(next(iter(self._rulesets))))
            rules = self._rulesets[folder] = self._rules([] if folder is None else [folder])
        return rules

    def rules_with(self, folders: list[str]) -> int:
        """A ruleset for a child with more folders than its own, to be closed after use; -1 where there is none."""
        return -1 if self._landlock is None else self._rules(folders)

    def forget(self, folder: str | None) -> None:
        """The folder is gone, or not ours to use again."""
        rules = self._rulesets.pop(folder, -1)
        if rules >= 0:
            os.close(rules)


def enter_group(home: str | None) -> None:
    """Move to a control group of its own, so that everything that comes from here can be killed at once."""
    if home is None:
        return
    try:
        with open(f"{home}/cgroup.procs", "wb", buffering=0) as door:
            door.write(b"0")
    except OSError:  # it is there already, or the way is not open: then strays are found in other ways
        return


def enter(settings: dict[str, Any], command: list[str]) -> None:
    """Become the program that makes the namespaces, under the fence's own user; it starts this one again inside."""
    uid = settings.get("uid")
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    os.execv(command[0], command)
