"""From what was typed for a task to task documents: an id, a unique prefix of one, `last`, or `all`."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

from retirecluster.domain.errors import ClusterError

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi, Document

SEARCHED = 20_000
"""How many of the newest tasks a prefix is looked for in."""


async def one_task(api: ClusterApi, selector: str) -> Document:
    """The task that the selector names. ClusterError (`not_found`, `ambiguous`) where it names none or several."""
    if selector == "all":
        raise ClusterError("ambiguous", "one task is needed here, not all; `retire-cluster tasks list` shows them")
    if selector == "last":
        return await _last(api)
    try:
        return await api.task(selector)
    except ClusterError as error:
        if error.code != "not_found":
            raise
    return await _by_prefix(api, selector)


async def tasks_for(api: ClusterApi, selectors: list[str], states: Container[str]) -> list[Document]:
    """The tasks that the selectors name, each once, in order. `all` means all in one of `states`."""
    chosen: dict[str, Document] = {}
    for selector in selectors:
        if selector == "all":
            async for document in api.tasks():
                if document["status"] in states:
                    chosen[document["task_id"]] = document
        else:
            document = await one_task(api, selector)
            chosen[document["task_id"]] = document
    return list(chosen.values())


async def _last(api: ClusterApi) -> Document:
    async for document in api.tasks(limit=1):
        return document
    raise ClusterError("not_found", "there is no last task: none has been submitted yet")


async def _by_prefix(api: ClusterApi, prefix: str) -> Document:
    found: list[Document] = []
    async for document in api.tasks(limit=SEARCHED):
        # People leave the part out that all ids share.
        if document["task_id"].startswith(prefix) or document["task_id"].removeprefix("task-").startswith(prefix):
            found.append(document)
            if len(found) > 3:
                break
    if len(found) == 1:
        return found[0]
    if not found:
        raise ClusterError("not_found", f"no task is called {prefix}; `retire-cluster tasks list` shows them")
    some = ", ".join(document["task_id"] for document in found[:3])
    more = ", ..." if len(found) > 3 else ""
    raise ClusterError("ambiguous", f"{prefix} is the start of several tasks: {some}{more}; write more of it")
