"""Indexes the words of some texts: the work that `retire-cluster demo` hands out.

The text of this file is the script that travels to the devices, so it uses the standard library alone, of any
Python from 3.8 on. As a script it reads `{"texts": [{"name", "piece", "text"}]}` as JSON from standard input
and prints the index as JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from typing import Any

WORD = re.compile(r"[^\W\d_]+")


def index_texts(texts: list[dict[str, Any]]) -> dict[str, Any]:
    """The index of some texts, as `{"texts": [...], "index": {word: [times, texts it is in]}}`.

    For each text its `name`, `piece`, `sha256`, `bytes` (UTF-8) and number of `words`. Words are runs of letters,
    in lower case.
    """
    index: dict[str, list[int]] = {}
    described = []
    for each in texts:
        data = each["text"].encode("utf-8")
        counts: dict[str, int] = {}
        for word in WORD.findall(each["text"].lower()):
            counts[word] = counts.get(word, 0) + 1
        for word, times in counts.items():
            entry = index.setdefault(word, [0, 0])
            entry[0] += times
            entry[1] += 1
        described.append(
            {
                "name": each["name"],
                "piece": each["piece"],
                "sha256": hashlib.sha256(data).hexdigest(),
                "bytes": len(data),
                "words": sum(counts.values()),
            }
        )
    return {"texts": described, "index": index}


if __name__ == "__main__":
    json.dump(index_texts(json.load(sys.stdin)["texts"]), sys.stdout)
