"""Ties the rows of the audit trail together: each has a hash over itself and the hash of the row before.

Whoever changes, removes, swaps or puts in a row afterwards breaks the chain at that row. Who can write the database can
also write the whole chain anew from there; against that helps only a hash that was noted elsewhere before (see
`Chain.last_hash`, which `retire-cluster audit verify` prints).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from attrs import define, frozen

COLUMNS = ("audit_no", "at", "actor", "role", "address", "request_id", "action", "subject", "detail")
"""What a hash covers, in this order; `detail` as the JSON text that is stored."""
Columns = tuple[Any, ...]


@frozen
class Chain:
    """The ends of the trail: the last row that clean-up removed (0 and no hash before the first), and the last."""

    first_no: int
    first_hash: str
    last_no: int
    last_hash: str


@frozen
class BadRow:
    """The first row that is not as it was written, and what is wrong there."""

    audit_no: int
    why: str


def row_hash(previous: str, row: Columns) -> str:
    """The hash of a row (its COLUMNS) that comes after the one with the hash `previous`."""
    return sha256(f"{previous}\n{json.dumps(row)}".encode()).hexdigest()


@define(eq=False)
class ChainWriter:
    """Gives row after row its hash."""

    last_hash: str = ""

    def add(self, *row: Any) -> str:
        """The hash of the next row."""
        self.last_hash = row_hash(self.last_hash, row)
        return self.last_hash


def first_bad(chain: Chain, rows: Iterable[tuple[Columns, str]]) -> BadRow | None:
    """The first row that is not as it was written, None if all are. `rows` are (COLUMNS, hash), by number."""
    wanted_no, writer = chain.first_no + 1, ChainWriter(chain.first_hash)
    for row, stored in rows:
        if row[0] != wanted_no:
            gone = row[0] > wanted_no
            return BadRow(wanted_no, "is missing") if gone else BadRow(row[0], "had been removed, and is there again")
        if wanted_no > chain.last_no:
            return BadRow(wanted_no, "was not written by this program")
        if writer.add(*row) != stored:
            return BadRow(wanted_no, "is not what was written there")
        wanted_no += 1
    if wanted_no <= chain.last_no:
        return BadRow(wanted_no, "is missing")
    if writer.last_hash != chain.last_hash:
        return BadRow(chain.last_no, "is not the row that was written last")
    return None
