"""Which device has which files: what each fetched lately, as the main handed it out.

A device's cache drops what was not used for longest, and so does this. It is a guess that costs a download when it is
wrong, kept in memory only: after a restart of the main it is learned anew.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from itertools import islice

from attrs import define, field

KEPT_EACH = 512
"""Digests remembered for each device."""
LOOKED_AT = 16
"""The most inputs of a task, and the most devices that have them, which one placement looks at."""


@define(eq=False)
class Holdings:
    """Digests by device, and devices by digest."""

    _of_device: dict[str, OrderedDict[str, None]] = field(factory=dict)
    _holders: dict[str, dict[str, None]] = field(factory=dict)

    def fetched(self, device_id: str, digest: str) -> None:
        """A device fetched a file: it has it from now on."""
        mine = self._of_device.setdefault(device_id, OrderedDict())
        mine[digest] = None
        mine.move_to_end(digest)
        holders = self._holders.setdefault(digest, {})
        holders.pop(device_id, None)
        holders[device_id] = None
        if len(mine) > KEPT_EACH:
            self._drop(device_id, mine.popitem(last=False)[0])

    def forget(self, device_id: str) -> None:
        """A device was removed."""
        for digest in self._of_device.pop(device_id, {}):
            self._drop(device_id, digest)

    def count(self, device_id: str, digests: Sequence[str]) -> int:
        """How many of `digests` the device has."""
        mine = self._of_device.get(device_id)
        return sum(each in mine for each in digests) if mine else 0

    def best(self, digests: Sequence[str]) -> list[str]:
        """Devices that have some of `digests`, those with the most first: at most `LOOKED_AT`."""
        found: Counter[str] = Counter()
        for digest in digests[:LOOKED_AT]:
            holders = self._holders.get(digest, {})
            found.update(islice(reversed(holders), LOOKED_AT))
        return [device_id for device_id, _ in found.most_common(LOOKED_AT)]

    def _drop(self, device_id: str, digest: str) -> None:
        holders = self._holders.get(digest)
        if holders is not None:
            holders.pop(device_id, None)
            if not holders:
                del self._holders[digest]
