"""Outputs on their way to the main: they stay in the cache until the result that names them is acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.worker.files.cache import FileCache
from retirecluster.worker.files.fetching import KIND, Session
from retirecluster.worker.files.memory import give_back
from retirecluster.worker.journal import Key

if TYPE_CHECKING:
    from retirecluster.transfer import FileDoor

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
GIVE_UP_S = 900.0
"""How long a main that answers and takes nothing (its disk is full, say) is asked again."""
_HOPELESS = frozenset({"too_large", "bad_field", "conflict", "forbidden", "not_found"})
Done = Callable[[Key, "dict[str, Any] | None"], None]
"""Told that a result may be sent; with new data where its files cannot be kept."""


@define(eq=False)
class Uploads:
    """Sends the files of results. A session that ends stops what is under way; the next one begins it again."""

    session: Session
    cache: FileCache
    random: Random
    log = Logger()
    _pinned: dict[Key, list[str]] = field(factory=dict)
    _sending: dict[Key, Deferred[None]] = field(factory=dict)

    def keep(self, key: Key, data: Mapping[str, Any]) -> None:
        """A result is kept until it is acknowledged, and so are its files."""
        if key not in self._pinned and data.get("artifacts"):
            self._pinned[key] = [each["sha256"] for each in data["artifacts"]]
            self.cache.pin(self._pinned[key])

    def release(self, key: Key) -> None:
        """A result is kept no longer."""
        sending = self._sending.get(key)
        if sending is not None:
            sending.cancel()
        self.cache.unpin(self._pinned.pop(key, ()))

    def send(self, key: Key, data: Mapping[str, Any], done: Done) -> None:
        """Upload the files of a result, then call `done`. Without a session nothing happens: the next one asks."""
        door = self.session.door
        if door is None or key in self._sending:
            return
        sending = ensureDeferred(self._send(key, data, door))
        self._sending[key] = sending
        sending.addBoth(self._over, key, done, sending)

    def stop(self) -> None:
        """The session is over."""
        # Forgotten first: what takes a moment to end must not keep the next session from beginning anew.
        stopped, self._sending = self._sending, {}
        for sending in stopped.values():
            sending.cancel()

    def _over(self, result: object, key: Key, done: Done, sending: Deferred[Any]) -> None:
        if self._sending.get(key) is not sending:
            return  # of a session that is over, whatever it came to: what its token is refused means nothing any more
        del self._sending[key]
        if not self._sending:
            give_back()
        if isinstance(result, Failure):
            if not result.check(CancelledError):
                self.log.failure("the files of {key} could not be uploaded", result, key=key)
            return
        done(key, result if isinstance(result, dict) else None)

    async def _send(self, key: Key, data: Mapping[str, Any], door: FileDoor) -> Any:
        """None when all is there; a failed result instead where that cannot be."""
        began_s, pause_s = self.session.reactor.seconds(), FIRST_PAUSE_S
        while True:
            try:
                return await self._send_all(key, data["artifacts"], door)
            except OSError as error:
                return _without_files(data, f"an output is lost on the device: {error.strerror}", True)
            except ClusterError as error:
                if error.code in _HOPELESS or self.session.reactor.seconds() - began_s > GIVE_UP_S:
                    return _without_files(data, error.message, error.code not in ("too_large",))
                self.log.info("uploading the files of {key} is tried again: {why}", key=key, why=error.message)
            except CancelledError:
                raise
            except Exception as error:  # our own fault, and still an end for the attempt
                self.log.failure("the files of {key} could not be uploaded", key=key)
                return _without_files(data, f"the worker made a mistake: {error}", True)
            await deferLater(self.session.reactor, self.random.uniform(pause_s / 2, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _send_all(self, key: Key, artifacts: Iterable[Mapping[str, Any]], door: FileDoor) -> None:
        query = {"task_id": key[0], "epoch": str(key[1])}
        for digest in dict.fromkeys(each["sha256"] for each in artifacts):
            await door.send(digest, self.cache.path(digest), query)


def _without_files(data: Mapping[str, Any], why: str, retryable: bool) -> dict[str, Any]:
    """A result whose files cannot be kept by the main: a failed one. One that failed keeps its own reason."""
    changed = {name: value for name, value in data.items() if name != "artifacts"}
    if data["status"] == "completed":
        message = f"what it left could not be uploaded: {why}"
        changed |= {"status": "failed", "error": {"kind": KIND, "message": message, "retryable": retryable}}
    return changed
