"""What attempts use, seen through /proc; and the limits that only looking enforces.

Most tasks are over before the first look, and cost nothing here. One look reads the whole of /proc once, for all
attempts: their trees are found by parent and by session.
"""

from __future__ import annotations

import os
import signal

from retirecluster.worker.runner import limits, processes

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from retirecluster.worker.runner.attempt import Attempt
    from retirecluster.worker.runner.processes import Ended
    from retirecluster.worker.runner.warm_process import WarmProcess

FOREVER = float("inf")
LOOKED_FOR = frozenset({"memory_bytes", "cpu_time_s", "cpu_cores", "processes", "disk_bytes"})
DISK_PAUSE_S = 0.5
OVER, UNDER = 1, 0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


class Tree:
    """What all processes of one attempt use together."""

    __slots__ = ("cpu_s", "memory_bytes", "pids", "processes")

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self.memory_bytes = 0
        self.processes = 0
        """Threads included, as the kernel counts them."""
        self.pids: list[int] = []


class _Watched:
    __slots__ = ("attempt", "cpu_seen_s", "credit_s", "disk_at", "every_s", "held", "last_at", "measurer", "next_at")

    def __init__(self, attempt: Attempt | WarmProcess, now: float) -> None:
        limited = not LOOKED_FOR.isdisjoint(attempt.limits)
        self.attempt = attempt
        self.every_s = limits.LIMITED_SAMPLE_S if limited else limits.SAMPLE_S
        self.next_at = now + (limits.LIMITED_SAMPLE_S if limited else limits.FIRST_SAMPLE_S)
        self.last_at = now
        self.cpu_seen_s = 0.0
        self.credit_s = 0.0
        self.held = False
        self.disk_at = now
        self.measurer: int | None = None


class Watcher:
    """Looks at the attempts of one runner when it is time: `next_at`, in monotonic seconds."""

    def __init__(self) -> None:
        self.next_at = FOREVER
        self._watched: dict[int, _Watched] = {}
        self._measurers: dict[int, _Watched] = {}

    def add(self, attempt: Attempt | WarmProcess, now: float) -> None:
        watched = self._watched[attempt.number] = _Watched(attempt, now)
        if watched.next_at < self.next_at:
            self.next_at = watched.next_at

    def remove(self, attempt: Attempt | WarmProcess) -> None:
        watched = self._watched.pop(attempt.number, None)
        if watched is not None and watched.measurer is not None:
            self._measurers.pop(watched.measurer, None)
            processes.kill(watched.measurer, signal.SIGKILL)
        if not self._watched:
            self.next_at = FOREVER

    def look(self, now: float) -> set[int]:
        """Measure those whose time it is; the ids of processes that were started for it."""
        due = [each for each in self._watched.values() if each.next_at <= now]
        if due:
            trees = find_trees([each.attempt.pid for each in due])
            for each in due:
                self._look_at(each, trees[each.attempt.pid], now)
                each.attempt.look_at_file()
                each.next_at = now + each.every_s
        self.next_at = min((each.next_at for each in self._watched.values()), default=FOREVER)
        return self._measure_disks(due, now)

    def _look_at(self, watched: _Watched, tree: Tree, now: float) -> None:
        attempt = watched.attempt
        attempt.cpu_s = max(attempt.cpu_s, tree.cpu_s)
        attempt.memory_peak_bytes = max(attempt.memory_peak_bytes, tree.memory_bytes)
        asked = attempt.limits
        group = attempt.started.group
        over = ""
        if tree.cpu_s >= asked.get("cpu_time_s", FOREVER):
            over = "cpu_time_s"
        elif group is not None:
            over = group.limit_hit()
        if not over and tree.memory_bytes > asked.get("memory_bytes", FOREVER):
            over = "memory_bytes"
        if not over and tree.processes > asked.get("processes", limits.PROCESSES):
            over = "processes"
        if over:
            return _kill_all(attempt, tree, over)
        stopped = attempt.kill_at is not None or attempt.suspended_at is not None
        if "cpu_cores" in asked and not stopped and not (group is not None and group.counts("cpu_cores")):
            _throttle(watched, tree, now, asked["cpu_cores"])

    # Disk

    def _measure_disks(self, due: list[_Watched], now: float) -> set[int]:
        started = set()
        for each in due:
            folder, allowed = each.attempt.started.folder, each.attempt.limits.get("disk_bytes")
            if folder is None or allowed is None or each.measurer is not None or now < each.disk_at:
                continue
            try:
                each.measurer = _measure_in_background(folder, allowed)
            except OSError:
                continue
            each.disk_at = now
            self._measurers[each.measurer] = each
            started.add(each.measurer)
        return started

    def measured(self, ended: Ended) -> None:
        """A process of `look` has ended; others are ignored."""
        watched = self._measurers.pop(ended.pid, None)
        if watched is None:
            return
        watched.measurer = None
        watched.disk_at += DISK_PAUSE_S + 4 * ended.cpu_s
        if ended.code == OVER:
            watched.attempt.kill_for("disk_bytes")


def _kill_all(attempt: Attempt | WarmProcess, tree: Tree, limit: str) -> None:
    """Stopped first, so that a tree that grows by forking does not grow while it is cut."""
    processes.kill_group(attempt.pid, signal.SIGSTOP)
    for pid in tree.pids:
        processes.kill(pid, signal.SIGSTOP)
    attempt.kill_for(limit)
    for pid in tree.pids:
        processes.kill(pid, signal.SIGKILL)


def _throttle(watched: _Watched, tree: Tree, now: float, cores: float) -> None:
    """A duty cycle: stopped while it has used more than its share, never saving up more than one period."""
    used_s = max(0.0, tree.cpu_s - watched.cpu_seen_s)
    watched.cpu_seen_s = max(watched.cpu_seen_s, tree.cpu_s)
    watched.credit_s = min(watched.credit_s + cores * (now - watched.last_at) - used_s, cores * watched.every_s)
    watched.last_at = now
    hold = watched.credit_s < 0
    if hold == watched.held and not hold:
        return
    # Those that were forked since the last look are stopped too.
    watched.held = hold
    for pid in tree.pids:
        processes.kill(pid, signal.SIGSTOP if hold else signal.SIGCONT)


def find_trees(roots: list[int]) -> dict[int, Tree]:
    """The tree of each root: its session and its descendants."""
    trees = {root: Tree() for root in roots}
    rows = {row[0]: row for row in _read_all()}
    home: dict[int, int | None] = {}
    for pid, row in rows.items():
        root = _root_of(pid, rows, trees, home)
        if root is None:
            continue
        tree = trees[root]
        tree.pids.append(pid)
        tree.cpu_s += row[3]
        tree.memory_bytes += row[4]
        tree.processes += row[5]
    return trees


Row = tuple[int, int, int, float, int, int]


def _root_of(pid: int, rows: dict[int, Row], trees: dict[int, Tree], home: dict[int, int | None]) -> int | None:
    seen = []
    found: int | None = None
    while pid in rows:
        if pid in home:
            found = home[pid]
            break
        seen.append(pid)
        home[pid] = None
        session = rows[pid][2]
        if pid in trees or session in trees:
            found = pid if pid in trees else session
            break
        pid = rows[pid][1]
    for each in seen:
        home[each] = found
    return found


def _read_all() -> list[Row]:
    """Process, parent, session, processor seconds with those of reaped children, resident bytes, threads."""
    rows = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fields = os.read(fd, 1024).rpartition(b")")[2].split()
        except OSError:
            continue
        finally:
            os.close(fd)
        cpu_s = sum(map(int, fields[11:15])) / _TICKS
        rows.append((int(name), int(fields[1]), int(fields[3]), cpu_s, int(fields[21]) * _PAGE, int(fields[17])))
    return rows


def _measure_in_background(folder: str, allowed: int) -> int:
    """A process that adds up the folder and ends with OVER or UNDER: a million files must not stop the loop."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            code = OVER if _is_over(folder, allowed) else UNDER
        except BaseException:
            code = UNDER
        finally:
            os._exit(code)
    return pid


def _is_over(folder: str, allowed: int) -> bool:
    """What its files take on the disk; links are not followed, and it stops as soon as it knows."""
    total, waiting = 0, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if total > allowed:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return False
