"""The task type `word_count`: how often each word comes in a text."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any


def word_count(payload: dict[str, Any], context: Any) -> dict[str, Any]:
    """Count the words of a text."""
    lines = payload["text"].splitlines()
    counts: Counter[str] = Counter()
    for number, line in enumerate(lines, 1):
        counts.update(re.findall(r"\w+", line.lower() if payload.get("fold_case", True) else line))
        if number % 1000 == 0:
            context.progress(100 * number / len(lines), f"{number} of {len(lines)} lines")
    return {"words": sum(counts.values()), "most": counts.most_common(payload.get("top", 10))}


# What the payload may be, as JSON Schema: shown by `tasks types`, and checked when a task is submitted.
word_count.payload_schema = {  # type: ignore[attr-defined]
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "the text"},
        "top": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10},
        "fold_case": {"type": "boolean", "default": True, "description": "take Word for word"},
    },
    "required": ["text"],
    "additionalProperties": False,
}
