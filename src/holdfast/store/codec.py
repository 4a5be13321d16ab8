"""The payload format: Python values as bytes that read back the same, years and versions later.

    byte 0      codec << 4 | compression   codec 1 = strict JSON; compression 0 = none, 1 = zlib
    bytes 1-2   key id, big endian         0 = plain; no key exists yet, so any other id is refused
    rest        the body                   UTF-8 JSON, no spaces, keys in insertion order, tags `{"$hf": …}`

The law: for every value `encode` accepts under an annotation, `decode` under that annotation returns an
equal value of the same types all the way down, so that a replayed result can not be told from the live
one. What can not keep the law is refused when it is written, with the path of the culprit. Plain values
describe themselves (`codec_values`); models and enums come back by the annotation alone (`codec_plans`,
`codec_models`), never by a class name found in the data, and no code is ever loaded from a payload.

Plain values, the bulk of all traffic, take a fast path: one walk that only looks, then one call into
msgspec, without a copy. Everything else is rewritten to nodes first. A body over 8 KiB is compressed
where that saves a tenth. Reading is bounded: a body never inflates beyond `SIZE_MAX`, levels beyond
`DEPTH_MAX` are refused, and damage of any kind is `DamagedData`.
"""

from __future__ import annotations

import hashlib
import zlib
from contextlib import suppress
from typing import Any

import msgspec

from holdfast.errors import DamagedData, HoldfastError, UnsupportedValue
from holdfast.store.codec_annotations import Compiled, compiled
from holdfast.store.codec_nodes import (
    DEPTH_MAX,
    SIZE_MAX,
    TAG,
    Refusal,
    Trip,
    key_segment,
    too_deep,
    too_large,
)
from holdfast.store.codec_values import INT_MAX

__all__ = [
    "DEPTH_MAX", "SIZE_MAX", "body_of", "check_annotation", "decode", "digest", "encode", "from_json",
    "of_body", "to_json",
]  # fmt: skip

COMPRESS_FROM_BYTES = 8 * 1024
_ZLIB_LEVEL = 1
_KEEP_AT_MOST = 0.9

_JSON, _STORED, _ZLIB = 1, 0, 1
_PLAIN = bytes([_JSON << 4 | _STORED, 0, 0])
_DEFLATED = bytes([_JSON << 4 | _ZLIB, 0, 0])
_HEADER_BYTES = 3
_TAG_KEY = f'"{TAG}"'.encode()
_INT_MIN = -INT_MAX - 1

_dump = msgspec.json.Encoder().encode
_parse = msgspec.json.Decoder().decode
_NONE = _PLAIN + b"null"
_KEY_TYPES = frozenset({str})
_ALWAYS_PLAIN = frozenset({type(None), bool, str})


def encode(value: object, annotation: Any = Any, *, what: str = "value") -> bytes:
    """`value` as a payload, to be read with the same annotation.

    `what` names the value in errors and is the root of the path in `where`: `result.items[3].price`.
    Raises `UnsupportedValue` for what would not come back the same: unknown types, subclasses, models and
    enums that no annotation names, NaN and infinities, lone surrogates, keys that are not str, cycles, more
    than `DEPTH_MAX` levels, more than `SIZE_MAX` bytes, and values that contradict the annotation.
    """
    kind = type(value)
    if value is None and annotation is None:
        return _NONE
    if annotation is Any or annotation is kind:
        try:
            if kind in _ALWAYS_PLAIN or _is_plain(value, kind):
                body = _dump(value)
                return _PLAIN + body if len(body) <= COMPRESS_FROM_BYTES else _packed(body, what)
        except (UnicodeEncodeError, RecursionError):
            pass  # the walk below finds the place
        except Refusal as refusal:
            raise _unsupported(refusal, what) from None
    return _encode_nodes(value, annotation, what)


def decode(data: bytes, annotation: Any = Any, *, what: str = "value") -> Any:
    """The value of a payload, by the annotation it was written with or a newer one.

    Fields a model no longer has are ignored, fields it has gained take their default.
    Raises `UnsupportedValue` when the value does not fit the annotation (a missing field, another type),
    `DamagedData` when the bytes are not what `encode` wrote, or name an unknown codec or key.
    """
    body = data[_HEADER_BYTES:] if data[:_HEADER_BYTES] == _PLAIN else _opened(data, what)
    try:
        node = _parse(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _damaged(f"the body is not strict JSON: {error}", what) from None
    if _TAG_KEY not in body and (annotation is Any or annotation is type(node) or annotation is node is None):
        return node
    try:
        plan = compiled(annotation).plan
        if _TAG_KEY not in body and plan.takes(node):
            return node
        return plan.read(node, 0)
    except Refusal as refusal:
        raise _translated(refusal, what) from refusal.__cause__
    except RecursionError:
        raise _damaged(f"nested deeper than {DEPTH_MAX} levels", what) from None


def to_json(value: object, *, what: str = "value") -> str:
    """`value` as the JSON text that a payload of it holds, for columns that people and databases look into.

    Raises what `encode` raises.
    """
    data = encode(value, what=what)
    return (data[_HEADER_BYTES:] if data[:_HEADER_BYTES] == _PLAIN else _opened(data, what)).decode()


def from_json(text: str, *, what: str = "value") -> Any:
    """The value of a text that `to_json` made; raises what `decode` raises."""
    return decode(_PLAIN + text.encode(), what=what)


def body_of(data: bytes, *, what: str = "value") -> bytes:
    """The JSON of a payload, byte for byte; raises `DamagedData` for what is none."""
    return data[_HEADER_BYTES:] if data[:_HEADER_BYTES] == _PLAIN else _opened(data, what)


def of_body(body: bytes, *, what: str = "value") -> bytes:
    """The payload whose `body_of` this is: another one only in how it is compressed."""
    return _packed(body, what)


def digest(data: bytes) -> bytes:
    """The 16-byte BLAKE2b digest of a payload, or of any other bytes.

    A compressed payload is digested as if it were not, because two versions of zlib may compress differently.
    """
    if data[:_HEADER_BYTES] == _DEFLATED:
        with suppress(zlib.error):  # bytes that begin like a payload and are none
            data = _PLAIN + _inflated(data)
    return hashlib.blake2b(data, digest_size=16).digest()


def check_annotation(annotation: Any, *, what: str) -> None:
    """Refuse an annotation whose values could not be stored and read back; meant for decoration time.

    `annotation` is resolved (`typing.get_type_hints`), not text. Raises `UnsupportedValue` with the path of
    the field at fault in `where`.
    """
    _compile(annotation, what)


def _is_plain(value: Any, kind: type) -> bool:
    """Whether msgspec's own JSON of `value` is its payload; only looks, and copies nothing."""
    if kind is int:
        return bool(_INT_MIN <= value <= INT_MAX)
    if kind is float:
        return bool(value - value == 0.0)  # false for NaN and the infinities
    if kind is dict or kind is list:
        return _count_plain(value, kind, 1, SIZE_MAX // 2) > 0
    return kind in _ALWAYS_PLAIN


def _count_plain(container: Any, kind: type, depth: int, budget: int) -> int:
    """How many nodes `container` has, itself included; 0 when one of them is not plain.

    `budget` bounds the walk, because a value that shares its parts can be far larger than its memory.
    """
    total = 1 + len(container)
    if depth > DEPTH_MAX:
        return 0
    if kind is dict:
        if TAG in container or not set(map(type, container)) <= _KEY_TYPES:
            return 0
        container = container.values()
    for item in container:
        kind = type(item)
        if kind in _ALWAYS_PLAIN or (kind is int and _INT_MIN <= item <= INT_MAX):
            continue
        if kind is dict or kind is list:
            count = _count_plain(item, kind, depth + 1, budget - total)
            if not count:
                return 0
            total += count
            if total > budget:
                raise too_large()
        elif kind is not float or item - item != 0.0:
            return 0
    return total


def _encode_nodes(value: object, annotation: Any, what: str) -> bytes:
    found = _compile(annotation, what)
    try:
        if found.plan.takes(value) and _is_plain(value, type(value)):
            try:
                return _packed(_dump(value), what)
            except UnicodeEncodeError:
                pass  # the walk below finds the place
        node = found.plan.write(value, Trip())
        body = _dump(node)
        if found.runs_code:
            _check_comes_back(found, node, body)
        return _packed(body, what)
    except Refusal as refusal:
        raise _unsupported(refusal, what) from refusal.__cause__
    except RecursionError:
        raise _unsupported(too_deep(), what) from None


def _check_comes_back(found: Compiled, node: Any, body: bytes) -> None:
    """Refuse a model whose constructor makes something else of its own fields."""
    again = found.plan.write(found.plan.read(_parse(body), 0), Trip())
    if _dump(again) != body:
        path = _difference(node, again)
        refusal = Refusal(
            "the value would come back changed, because its class alters what it is given",
            "make the constructor (or validator) leave values alone that it has produced itself",
        )
        refusal.path = [path]
        raise refusal


def _difference(one: Any, other: Any) -> str:
    """The path of the first place where two nodes differ."""
    if type(one) is dict and type(other) is dict and one.keys() == other.keys():
        pairs = [(key_segment(key), one[key], other[key]) for key in one]
    elif type(one) is list and type(other) is list and len(one) == len(other):
        pairs = [(f"[{at}]", a, b) for at, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return ""
    for segment, a, b in pairs:
        if _dump(a) != _dump(b):
            return segment + _difference(a, b)
    return ""


def _compile(annotation: Any, what: str) -> Compiled:
    try:
        return compiled(annotation)
    except Refusal as refusal:
        raise _unsupported(refusal, what) from None


def _packed(body: bytes, what: str) -> bytes:
    if len(body) > SIZE_MAX:
        raise _unsupported(too_large(), what)
    if len(body) > COMPRESS_FROM_BYTES:
        smaller = zlib.compress(body, _ZLIB_LEVEL)
        if len(smaller) <= len(body) * _KEEP_AT_MOST:
            return _DEFLATED + smaller
    return _PLAIN + body


def _opened(data: bytes, what: str) -> bytes:
    """The JSON body behind any header but the most common one."""
    if len(data) < _HEADER_BYTES:
        raise _damaged(f"the payload is cut short: {len(data)} bytes", what)
    key_id = int.from_bytes(data[1:_HEADER_BYTES])
    if key_id:
        raise _damaged(
            f"the payload is encrypted with key id {key_id}, which is not known here", what, key_id=key_id
        )
    if data[:_HEADER_BYTES] != _DEFLATED:
        raise _damaged(f"the payload has an unknown format byte 0x{data[0]:02x}", what)
    try:
        return _inflated(data)
    except zlib.error as error:
        raise _damaged(f"the body does not decompress: {error}", what) from None


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    body = inflater.decompress(memoryview(data)[_HEADER_BYTES:], SIZE_MAX + 1)
    if len(body) > SIZE_MAX:
        raise zlib.error(f"more than {SIZE_MAX} bytes")
    if not inflater.eof or inflater.unused_data:
        raise zlib.error("cut short" if not inflater.eof else "data after the end")
    return body


def _unsupported(refusal: Refusal, what: str) -> UnsupportedValue:
    return UnsupportedValue(refusal.cause, where=refusal.where(what), fix=refusal.fix)


def _damaged(cause: str, what: str, **details: Any) -> DamagedData:
    return DamagedData(f"{what}: {cause}", where=what, **details)


def _translated(refusal: Refusal, what: str) -> HoldfastError:
    if refusal.damaged:
        return DamagedData(f"{what}: {refusal.cause}", where=refusal.where(what), fix=refusal.fix)
    return _unsupported(refusal, what)
