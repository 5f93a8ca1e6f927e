"""The demo's results: fetched from the cluster, made in one process, merged, and compared by digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from attrs import field, frozen
from twisted.internet.task import deferLater

from retirecluster.client.api import ClusterApi, Document
from retirecluster.client.demo_input import Input
from retirecluster.client.running import at_most
from retirecluster.client.word_index import index_texts

Index = dict[str, list[int]]


@frozen
class Outcome:
    """What became of one task: its document, its result, and the index that it printed (None if it is none)."""

    task: Document
    result: Document
    part: Document | None = field(default=None, repr=False)

    @property
    def device_id(self) -> str:
        """The device that ran it to its end."""
        attempts = self.task.get("attempts") or []
        return str((attempts[-1]["device_id"] if attempts else self.task.get("device_id")) or "-")

    @property
    def problem(self) -> str:
        """Why this is no result that counts; empty if it is one."""
        if self.task["status"] != "completed":
            return f"{self.task['task_id']} {self.task['status']}: {self.task.get('reason') or 'no reason was given'}"
        if self.part is None:
            cut = "its output was cut off" if self.result.get("truncated") else "its output is not an index"
            return f"{self.task['task_id']}: {cut}"
        return ""


@frozen
class Merged:
    """The index of everything. `digest` is SHA-256 over its canonical JSON."""

    texts: list[Document]
    index: Index = field(repr=False)
    digest: str

    @property
    def words(self) -> int:
        return sum(times for times, _ in self.index.values())

    def top(self, count: int) -> list[tuple[str, int, int]]:
        """The most frequent words with how often and in how many texts they stand."""
        ordered = sorted(self.index.items(), key=lambda entry: (-entry[1][0], entry[0]))
        return [(word, times, texts) for word, (times, texts) in ordered[:count]]


async def collect(api: ClusterApi, task_ids: list[str]) -> list[Outcome]:
    """The outcomes of tasks that have ended, in the order of the ids."""
    found: dict[str, Outcome] = {}

    async def one(task_id: str) -> None:
        task, result = await api.task(task_id), await api.result(task_id)
        found[task_id] = Outcome(task, result, _part(result))

    await at_most(6, [lambda task_id=task_id: one(task_id) for task_id in task_ids])  # type: ignore[misc]
    return [found[task_id] for task_id in task_ids]


def _part(result: Document) -> Document | None:
    output = result.get("output")
    try:
        part = json.loads(output) if isinstance(output, str) else output
    except ValueError:
        return None
    return part if isinstance(part, dict) and part.keys() >= {"texts", "index"} else None


async def in_one_process(reactor: Any, found: Input) -> Merged:
    """The same work by the same function, here; part by part, so that Ctrl+C is heard in between."""
    parts = []
    for part in found.parts:
        parts.append(index_texts(part.texts()))
        await deferLater(reactor, 0)
    return merge(parts)


def merge(parts: Iterable[Document]) -> Merged:
    """One index out of those of the parts, whatever their order."""
    texts: list[Document] = []
    index: Index = {}
    for part in parts:
        texts.extend(part["texts"])
        for word, (times, within) in part["index"].items():
            entry = index.setdefault(word, [0, 0])
            entry[0] += times
            entry[1] += within
    texts.sort(key=lambda text: (text["name"], text["piece"]))
    canonical = json.dumps({"texts": texts, "index": index}, sort_keys=True, separators=(",", ":"))
    return Merged(texts, index, hashlib.sha256(canonical.encode("ascii")).hexdigest())
