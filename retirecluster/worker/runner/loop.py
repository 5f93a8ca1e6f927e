"""The runner's event loop: the channel to the worker, timers, and the attempts that run."""

from __future__ import annotations

import errno
import os
import select
import signal
import time

from retirecluster.worker.runner import limits, processes
from retirecluster.worker.runner.attempt import Attempt
from retirecluster.worker.runner.lines import decode_line, encode_line
from retirecluster.worker.runner.starting import CannotStart, Starter
from retirecluster.worker.runner.warm import WarmPool
from retirecluster.worker.runner.warm_process import WarmProcess
from retirecluster.worker.runner.watching import Watcher

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FOREVER = float("inf")


class Runner:
    """Everything the runner holds. `orders` and `reports` are the descriptors of the channel, both non-blocking.

    `facts` go into the `ready` report.
    """

    def __init__(self, orders: int, reports: int, starter: Starter, facts: dict[str, Any] | None = None) -> None:
        self._orders = orders
        self._reports = reports
        self._starter = starter
        self._facts = facts or {}
        self._watcher = Watcher()
        self._warm = WarmPool(
            starter, self._watcher, self.say, self._watch, self._unwatch, self._highest_fd, self._enter_warm
        )
        self._poll = select.poll()
        self._readers: dict[int, Callable[[float], None]] = {}
        self._attempts: dict[int, Attempt] = {}
        self._by_pid: dict[int, Attempt | WarmProcess] = {}
        self._by_pipe: dict[int, Attempt] = {}
        self._cleaners: set[int] = set()
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._resting: set[int] = set()
        self._congested = False
        self._writing = False
        self._leaving = False
        self._unreaped = False

    def run(self, wakeup: int) -> None:
        """Serve until the channel closes; then kill everything. `wakeup` is where signals write a byte."""
        self._watch(self._orders, self._read_orders)
        self._watch(wakeup, lambda now: self._woken(wakeup))
        self.say({"e": "ready", "pid": os.getpid(), **self._facts})
        while not self._leaving:
            self._flush()
            self._turn()
        self._kill_everything()

    def _turn(self) -> None:
        events = self._poll.poll(self._wait_ms(time.monotonic()))
        now = time.monotonic()
        for fd, _ in events:
            attempt = self._by_pipe.get(fd)
            if attempt is not None:
                self._read_task(attempt, fd, now)
            elif (reader := self._readers.get(fd)) is not None:
                reader(now)
            elif fd == self._reports:
                self._flush()
        if self._unreaped:
            self._reap()
        if self._resting:
            self._wake_resting(now)
        for attempt in self._attempts.values():
            attempt.tick(now)
        self._warm.tick(now)
        if now >= self._watcher.next_at:
            self._look(now)

    def _look(self, now: float) -> None:
        """Measure attempts that have run for a while, and enforce those limits that the kernel does not."""
        self._cleaners |= self._watcher.look(now)
        processes.kill_strays(self._by_pid.keys() | self._cleaners, self._by_pid)

    def _wait_ms(self, now: float) -> float | None:
        if self._unreaped:
            return 0.0
        wakes = [wake for each in self._attempts.values() if (wake := each.next_wake()) is not None]
        if (wake := self._warm.next_wake()) is not None:
            wakes.append(wake)
        if self._watcher.next_at < FOREVER:
            wakes.append(self._watcher.next_at)
        if self._resting:
            wakes.append(now + limits.TURN_S)
        return max(0.0, min(wakes) - now) * 1000 + 0.5 if wakes else None

    def _watch(self, fd: int, reader: Callable[[float], None]) -> None:
        self._readers[fd] = reader
        self._poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._readers.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _highest_fd(self) -> int:
        return max(*self._readers, *self._by_pipe, self._reports)

    def _enter_warm(self, process: WarmProcess) -> None:
        self._by_pid[process.pid] = process

    # The channel

    def say(self, message: dict[str, Any]) -> None:
        """Send one message to the worker. It leaves at the end of the turn."""
        self._outgoing += encode_line(message)

    def _flush(self) -> None:
        while self._outgoing:
            try:
                sent = os.write(self._reports, self._outgoing)
            except BlockingIOError:
                break
            except OSError:  # nobody listens any more
                self._leaving = True
                return
            del self._outgoing[:sent]
        self._set_writing(bool(self._outgoing))
        self._set_congested(len(self._outgoing) > (0 if self._congested else limits.CONGESTED_BYTES))

    def _set_writing(self, writing: bool) -> None:
        if writing and not self._writing:
            self._poll.register(self._reports, select.POLLOUT)
        elif self._writing and not writing:
            self._poll.unregister(self._reports)
        self._writing = writing

    def _set_congested(self, congested: bool) -> None:
        """While the worker does not keep up, tasks are not read: they wait in their own `write`."""
        if congested == self._congested:
            return
        self._congested = congested
        self._warm.set_congested(congested)
        for attempt in self._attempts.values():
            for fd in attempt.pipes:
                if fd not in self._resting:
                    self._poll.unregister(fd) if congested else self._poll.register(fd, select.POLLIN)

    def _read_orders(self, now: float) -> None:
        try:
            data = os.read(self._orders, limits.READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._leaving = True
            return
        self._incoming += data
        if b"\n" not in data:
            return
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = rest
        for line in lines:
            self._obey(decode_line(bytes(line)), now, line)

    def _obey(self, order: dict[str, Any], now: float, line: bytes | bytearray) -> None:
        if order["do"] == "run":
            self._warm.run(order, bytes(line), now) if "lane" in order else self._run(order, now)
        elif order["do"] == "recall":
            self._warm.recall(order["lane"])
        elif order["do"] == "cancel":
            attempt = self._attempts.get(order["n"])
            if attempt is None:
                self._warm.cancel(order, now)
            elif not attempt.timed_out:
                attempt.cancelled = True
                attempt.stop(now, order.get("grace", attempt.grace_s))
        elif order["do"] in ("pause", "continue"):
            attempt = self._attempts.get(order["n"])
            if attempt is None:
                self._warm.suspend(order["n"], order["do"] == "pause", now)
            else:
                attempt.suspend(now) if order["do"] == "pause" else attempt.resume(now)

    # Tasks

    def _run(self, job: dict[str, Any], now: float) -> None:
        number = job["n"]
        try:
            started = self._starter.start(job, self._highest_fd())
        except CannotStart as error:
            return self._cannot(number, error.kind, str(error), retryable=False, code=127)
        except OSError as error:
            why = error.strerror or errno.errorcode.get(error.errno or 0)
            return self._cannot(number, "fork", f"no process could be started: {why}", retryable=True)
        attempt = Attempt(job, started, now, self.say)
        self._attempts[number] = self._by_pid[attempt.pid] = attempt
        self._watcher.add(attempt, now)
        for fd in attempt.pipes:
            os.set_blocking(fd, False)
            self._by_pipe[fd] = attempt
            if not self._congested:
                self._poll.register(fd, select.POLLIN)
        self.say({"e": "started", "n": number, "pid": attempt.pid})

    def _cannot(self, number: int, kind: str, message: str, retryable: bool, **more: int) -> None:
        error = {"kind": kind, "message": message, "retryable": retryable}
        self.say({"e": "end", "n": number, "error": error, **more})

    def _read_task(self, attempt: Attempt, fd: int, now: float) -> None:
        if not attempt.read(fd, now):
            self._forget(fd)
        elif not attempt.has_turn(now):
            self._poll.unregister(fd)
            self._resting.add(fd)
        if len(self._outgoing) > limits.CONGESTED_BYTES:
            self._flush()

    def _wake_resting(self, now: float) -> None:
        for attempt in self._attempts.values():
            for fd in self._resting.intersection(attempt.pipes):
                if attempt.has_turn(now):
                    self._resting.discard(fd)
                    if not self._congested:
                        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        del self._by_pipe[fd]
        if fd in self._resting:
            self._resting.discard(fd)
        elif not self._congested:
            self._poll.unregister(fd)

    # Ends

    def _woken(self, wakeup: int) -> None:
        os.read(wakeup, 4096)
        self._reap()

    def _reap(self) -> None:
        """Everything that has ended. An attempt is over once nothing of it lives, and only then is it reported."""
        over: list[tuple[Attempt | WarmProcess, processes.Ended]] = []
        while True:
            reaped, more = processes.reap(self._by_pid)
            self._unreaped = len(reaped) >= processes.AT_ONCE
            for ended in reaped:
                attempt = self._by_pid.pop(ended.pid, None)
                if attempt is not None:
                    over.append((attempt, ended))
                elif ended.pid in self._cleaners:
                    self._cleaners.discard(ended.pid)
                    self._watcher.measured(ended)
                else:
                    self._count_in(ended, over)
            # Each stray that dies hands its own children to us: again, until there are none.
            if not more or not processes.kill_strays(self._by_pid.keys() | self._cleaners, self._by_pid):
                break
        for attempt, ended in over:
            cleaner = self._finish(attempt, ended)
            if cleaner is not None:
                self._cleaners.add(cleaner)

    def _count_in(self, ended: processes.Ended, over: list[tuple[Attempt | WarmProcess, processes.Ended]]) -> None:
        """An orphan's processor time belongs to the attempt whose session it was in, or else to the one just over."""
        attempt = self._by_pid.get(ended.session)
        for each, _ in over:
            if each.pid == ended.session or (attempt is None and len(over) == 1):
                attempt = each
        if attempt is not None:
            attempt.add_orphan(ended)

    def _finish(self, attempt: Attempt | WarmProcess, ended: processes.Ended) -> int | None:
        """Report its end; the id of a process that cleans up after it."""
        if isinstance(attempt, WarmProcess):
            return self._warm.ended(attempt, ended)
        del self._attempts[attempt.number]
        self._watcher.remove(attempt)
        for fd in attempt.pipes:
            self._forget(fd)
        attempt.finish(ended, time.monotonic())
        return self._starter.end(attempt.started)

    def _kill_everything(self) -> None:
        """The worker is gone. No task outlives it."""
        for pid in self._by_pid:
            processes.kill_group(pid, signal.SIGKILL)
        give_up_at = time.monotonic() + 5.0
        while time.monotonic() < give_up_at:
            for ended in processes.reap(self._by_pid)[0]:
                self._by_pid.pop(ended.pid, None)
            strays = processes.kill_strays(self._by_pid.keys(), self._by_pid)
            if not self._by_pid and not strays:
                break
            time.sleep(0.005)
        self._starter.close()
