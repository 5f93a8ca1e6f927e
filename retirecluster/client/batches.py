"""Many tasks as request bodies: each body stays under what the main reads in one request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import MIB, format_bytes

MAX_BATCH_BYTES = 4 * MIB
"""Well under the cap of 16 MiB on a body, so that progress shows and one batch never stops the main for long."""
MAX_BATCH_TASKS = 1000


@frozen
class Batch:
    """A JSON array of `count` task documents, ready to be sent."""

    body: bytes
    count: int


def encode(document: object) -> bytes:
    """A document as compact ASCII JSON. Raises ClusterError for what JSON cannot say."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError) as error:
        raise ClusterError("not_json", f"the task cannot be written as JSON: {error}") from None


def batches(
    documents: Iterable[Mapping[str, Any]], max_bytes: int = MAX_BATCH_BYTES, max_tasks: int = MAX_BATCH_TASKS
) -> Iterator[Batch]:
    """The documents in order, in as few batches as the limits allow.

    Raises ClusterError (`too_large`) if one document alone is larger than `max_bytes`.
    """
    held: list[bytes] = []
    held_bytes = 2
    for index, document in enumerate(documents):
        encoded = encode(document)
        if len(encoded) + 2 > max_bytes:
            size = format_bytes(len(encoded))
            raise ClusterError("too_large", f"[{index}]: the task is {size} as JSON; at most {format_bytes(max_bytes)}")
        if held and (held_bytes + len(encoded) + 1 > max_bytes or len(held) == max_tasks):
            yield _batch(held)
            held, held_bytes = [], 2
        held.append(encoded)
        held_bytes += len(encoded) + 1
    if held:
        yield _batch(held)


def _batch(encoded: list[bytes]) -> Batch:
    return Batch(b"[" + b",".join(encoded) + b"]", len(encoded))
