"""What has changed between two JSON documents, written down shortly; pure functions.

A delta is JSON itself. Its first item says what it is about:

    ["=", value]                     something else stands here now
    ["text", p, added, s]            a text: its first p characters, `added`, then its last s characters
    ["keys", removed, {key: delta}]  an object: keys that are gone, deltas of others; new keys go to the end
    ["list", [step, …]]              a list: n keeps n items, -n leaves n out, [items] puts items in,
                                     {"in": delta} changes the next item

Objects keep the order of their keys. What grows at its end, loses its beginning or changes in a few places
costs what has changed, not what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

import msgspec

_DEPTH_MAX = 16
"""Below so many levels a part is replaced as one."""
_COMPARED_MAX = 250_000
"""Lists with more pairs of items than this in their differing parts are not compared item by item."""
_SHARED_MIN = 16
"""A text that shares fewer characters with the one before is replaced."""

_dump = msgspec.json.Encoder().encode


def changes(old: Any, new: Any) -> list[Any]:
    """The delta that `applied` makes `new` of `old` with; both are what JSON can be."""
    return _changes(old, new, _DEPTH_MAX)


def applied(old: Any, delta: list[Any]) -> Any:
    """What `old` has become; it is left as it is."""
    match delta:
        case ["=", value]:
            return value
        case ["text", first, added, last]:
            return f"{old[:first]}{added}{old[len(old) - last :]}"
        case ["keys", removed, changed]:
            gone = set(removed)
            kept = {key: value for key, value in old.items() if key not in gone}
            return kept | {key: applied(kept.get(key), each) for key, each in changed.items()}
        case ["list", steps]:
            return list(_stepped(old, steps))
        case _:
            raise ValueError(f"{delta[:1]!r} is no delta")


def _stepped(old: list[Any], steps: list[Any]) -> Iterator[Any]:
    place = 0
    for step in steps:
        if isinstance(step, list):
            yield from step
        elif isinstance(step, dict):
            yield applied(old[place], step["in"])
            place += 1
        else:
            if step > 0:
                yield from old[place : place + step]
            place += abs(step)


def _changes(old: Any, new: Any, depth: int) -> list[Any]:
    if depth and isinstance(old, dict) and isinstance(new, dict):
        return _of_objects(old, new, depth - 1) or ["=", new]
    if depth and isinstance(old, list) and isinstance(new, list):
        return ["list", _of_lists(old, new, depth - 1)]
    if isinstance(old, str) and isinstance(new, str):
        return _of_texts(old, new)
    return ["=", new]


def _of_objects(old: dict[str, Any], new: dict[str, Any], depth: int) -> list[Any] | None:
    """None when the keys of the two are in different orders."""
    kept = [key for key in old if key in new]
    if [*kept, *(key for key in new if key not in old)] != list(new):
        return None
    changed = {
        key: _changes(old[key], value, depth) if key in old else ["=", value]
        for key, value in new.items()
        if key not in old or _dump(old[key]) != _dump(value)
    }
    return ["keys", [key for key in old if key not in new], changed]


def _of_lists(old: list[Any], new: list[Any], depth: int) -> list[Any]:
    ours, theirs = [_dump(item) for item in old], [_dump(item) for item in new]
    first = _shared(ours, theirs)
    last = _shared(ours[first:][::-1], theirs[first:][::-1])
    steps: list[Any] = [first] if first else []
    a, b = len(ours) - last, len(theirs) - last
    for kind, i1, i2, j1, j2 in _opcodes(ours[first:a], theirs[first:b]):
        if kind == "equal":
            steps.append(i2 - i1)
        elif i2 - i1 == j2 - j1:
            pairs = zip(old[first + i1 : first + i2], new[first + j1 : first + j2], strict=True)
            steps += [{"in": _changes(*pair, depth)} for pair in pairs]
        else:
            steps += [i1 - i2] if i2 > i1 else []
            steps += [new[first + j1 : first + j2]] if j2 > j1 else []
    return [*steps, last] if last else steps


def _opcodes(ours: list[bytes], theirs: list[bytes]) -> Sequence[tuple[str, int, int, int, int]]:
    if not ours and not theirs:
        return []
    if not ours or not theirs or len(ours) * len(theirs) > _COMPARED_MAX:
        return [("replace", 0, len(ours), 0, len(theirs))]
    return SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()


def _of_texts(old: str, new: str) -> list[Any]:
    first = _shared(old, new)
    last = _shared(old[first:][::-1], new[first:][::-1])
    if first + last < _SHARED_MIN:
        return ["=", new]
    return ["text", first, new[first : len(new) - last], last]


def _shared(one: Any, other: Any) -> int:
    """How long the beginning is that two sequences share: found by halves, since slices compare fast."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
