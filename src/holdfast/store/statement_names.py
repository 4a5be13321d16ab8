"""Names for generated statements, which have none: `notes.find`, `executions.count`.

A generated statement knows one table and does one thing, so both can be read off its text. The names are for
figures and logs; nothing else depends on them. The text holds no values, since those are always bound.
"""

from __future__ import annotations

import functools
import re

_TABLE = re.compile(r'\b(?:FROM|INTO|UPDATE)\s+(?:"(?:[^"]|"")*"\.)?`?([A-Za-z_]\w*)')
_WORDS = "_words"
_VERBS = (
    (re.compile(r"ON CONFLICT|^UPDATE.*\bINSERT INTO\b", re.DOTALL), "upsert"),
    (re.compile(r"\bINSERT INTO\b"), "create"),
    (re.compile(r"\bDELETE FROM\b|\bSET deleted_at = (?!NULL|[?$])"), "delete"),
    (re.compile(r"\bSET deleted_at = NULL"), "restore"),
    (re.compile(r"^EXPLAIN"), "estimate"),
    (re.compile(r"\bUPDATE\b(?<!FOR UPDATE)"), "update"),
    (re.compile(r"\bFOR UPDATE\b"), "lock"),
    (re.compile(r"^SELECT count\("), "count"),
    (re.compile(r" AS place\b"), "search"),
    (re.compile(r"\bLIMIT\b"), "find"),
)  # the first that fits


@functools.lru_cache(maxsize=2048)
def name_of(text: str) -> str:
    """`table.verb` of a generated statement; `store.other` for one without a table."""
    found = _TABLE.search(text)
    if found is None:
        return "store.other"
    verb = next((verb for pattern, verb in _VERBS if pattern.search(text)), "get")
    return f"{found[1].removesuffix(_WORDS)}.{verb}"
