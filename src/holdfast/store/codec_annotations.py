"""From an annotation to its plan, or a refusal that says what can not be stored there.

Supported: the types that describe themselves; list, tuple, set, frozenset, dict and their abstract forms;
unions, Literal, Annotated, NewType, TypedDict; enums; the models of `codec_models`, recursive and generic
ones too. A union whose members can not be told apart once written is refused here, at decoration.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NewType, TypeVar, Union
from uuid import UUID

from holdfast.store.codec_models import StructPlan, model_plan
from holdfast.store.codec_nodes import Refusal, type_name
from holdfast.store.codec_plans import (
    AnyPlan,
    EnumPlan,
    ExactPlan,
    FixedTuplePlan,
    LiteralPlan,
    MappingPlan,
    Plan,
    SequencePlan,
    TypedDictPlan,
    UnionPlan,
)

_ANY = AnyPlan()


def _exact(name: str, *accepted: tuple[type, str]) -> ExactPlan:
    return ExactPlan(name, frozenset(kind for kind, _ in accepted), frozenset(word for _, word in accepted))


_NULL, _BOOL, _INT, _FLOAT = (type(None), "null"), (bool, "bool"), (int, "int"), (float, "float")
_DATE, _DATETIME = (date, "date"), (datetime, "datetime")
_EXACT: dict[Any, Plan] = {
    Any: _ANY,
    object: _ANY,
    None: _exact("None", _NULL),
    type(None): _exact("None", _NULL),
    bool: _exact("bool", _BOOL),
    int: _exact("int", _INT, _BOOL),
    float: _exact("float", _FLOAT, _INT, _BOOL),
    str: _exact("str", (str, "str")),
    bytes: _exact("bytes", (bytes, "bytes")),
    Decimal: _exact("Decimal", (Decimal, "decimal")),
    date: _exact("date", _DATE, _DATETIME),
    datetime: _exact("datetime", _DATETIME),
    time: _exact("time", (time, "time")),
    timedelta: _exact("timedelta", (timedelta, "timedelta")),
    UUID: _exact("UUID", (UUID, "uuid")),
}
_SEQUENCES: dict[Any, tuple[type, ...]] = {
    list: (list,),
    tuple: (tuple,),
    set: (set,),
    frozenset: (frozenset,),
    collections.abc.MutableSequence: (list,),
    collections.abc.Sequence: (list, tuple),
    collections.abc.Set: (set, frozenset),
    collections.abc.MutableSet: (set,),
    collections.abc.Collection: (list, tuple, set, frozenset),
    collections.abc.Iterable: (list, tuple, set, frozenset),
}
_MAPPINGS = frozenset({dict, collections.abc.Mapping, collections.abc.MutableMapping})
_UNIONS = frozenset({Union, types.UnionType})
_WRAPPERS = frozenset({typing.Annotated, typing.Final, typing.Required, typing.NotRequired})


@dataclass(slots=True)
class Compiled:
    """A plan, and whether a model in it runs code of its own, so that what is written must be read back."""

    plan: Plan
    runs_code: bool


@dataclass(slots=True)
class _Scope:
    """What one compilation knows: models under way, which may refer to themselves, and type variables."""

    models: dict[Any, Plan] = field(default_factory=dict)
    variables: dict[Any, Any] = field(default_factory=dict)
    runs_code: bool = False


_CACHE_MAX = 4096
_cache: dict[int, tuple[Any, Compiled]] = {}


def compiled(annotation: Any) -> Compiled:
    """The plan of `annotation`, compiled once per annotation object.

    The cache goes by identity: hashing a union or a generic alias costs more than a short value's encoding,
    and some annotations can not be hashed. The entry holds the annotation, so its id stays taken.
    """
    found = _cache.get(id(annotation))
    if found is None:
        scope = _Scope()
        found = annotation, Compiled(_plan(annotation, scope), scope.runs_code)
        if len(_cache) >= _CACHE_MAX:
            _cache.clear()
        _cache[id(annotation)] = found
    return found[1]


def _plan(annotation: Any, scope: _Scope) -> Plan:
    try:
        found = _EXACT.get(annotation)
    except TypeError:  # not hashable: an Annotated or a Literal around something mutable
        found = None
    if found is not None:
        return found
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return _plan_of_name(annotation, scope)
    if not arguments and (origin is not tuple or annotation is typing.Tuple):  # noqa: UP006 - typing's bare names
        return _plan(origin, scope)
    if origin in _WRAPPERS:
        return _plan(arguments[0], scope)
    if origin in _UNIONS:
        return _union(annotation, [_plan(member, scope) for member in arguments])
    return _plan_of_form(annotation, origin, arguments, scope)


def _plan_of_form(annotation: Any, origin: Any, arguments: tuple[Any, ...], scope: _Scope) -> Plan:
    """The plan of an annotation that takes arguments: a Literal, a container, a generic model."""
    if origin is Literal:
        return LiteralPlan(_spelled(annotation), arguments)
    if origin is tuple and not (len(arguments) == 2 and arguments[1] is ...):
        return FixedTuplePlan(_spelled(annotation), [_element(part, scope) for part in arguments])
    if origin in _SEQUENCES:
        return SequencePlan(_spelled(annotation), _SEQUENCES[origin], _element(arguments[0], scope))
    if origin in _MAPPINGS:
        return _mapping(annotation, arguments, scope)
    return _class(annotation, origin, arguments, scope)


def _plan_of_name(annotation: Any, scope: _Scope) -> Plan:
    """The plan of an annotation without arguments."""
    if annotation in _SEQUENCES:
        return SequencePlan(_spelled(annotation), _SEQUENCES[annotation], _ANY)
    if annotation in _MAPPINGS:
        return MappingPlan(_spelled(annotation), _ANY)
    if isinstance(annotation, NewType):
        return _plan(annotation.__supertype__, scope)
    if isinstance(annotation, TypeVar):
        return _plan(_value_of(annotation, scope), scope)
    if isinstance(annotation, str | typing.ForwardRef):
        raise Refusal(f"the annotation {annotation!r} is not resolved", "pass typing.get_type_hints' answer")
    if isinstance(annotation, type):
        return _class(annotation, annotation, (), scope)
    raise _unsupported(annotation)


def _value_of(variable: TypeVar, scope: _Scope) -> Any:
    if variable in scope.variables:
        return scope.variables[variable]
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - a tuple of members
    return Any if variable.__bound__ is None else variable.__bound__


def _element(annotation: Any, scope: _Scope) -> Plan:
    try:
        return _plan(annotation, scope)
    except Refusal as refusal:
        raise refusal.inside("[*]") from None


def _mapping(annotation: Any, arguments: tuple[Any, ...], scope: _Scope) -> Plan:
    key = _plan(arguments[0], scope)
    if key is not _ANY and key is not _EXACT[str]:
        raise Refusal(f"the keys of {_spelled(annotation)} are not str", "use str keys, or a list of pairs")
    return MappingPlan(_spelled(annotation), _element(arguments[1], scope))


def _union(annotation: Any, members: list[Plan]) -> Plan:
    for at, one in enumerate(members):
        for other in members[at + 1 :]:
            if (one.plain and other.plain) or _told_apart(one, other):
                continue
            raise Refusal(
                f"{one.name} and {other.name} in {_spelled(annotation)} can not be told apart once stored",
                "return one of them, wrap each in a field of its own, or use msgspec Structs with tags",
            )
    return UnionPlan(_spelled(annotation), members)


def _told_apart(one: Plan, other: Plan) -> bool:
    if isinstance(one, UnionPlan) or isinstance(other, UnionPlan):
        pairs = [
            (a, b)
            for a in (one.members if isinstance(one, UnionPlan) else [one])
            for b in (other.members if isinstance(other, UnionPlan) else [other])
        ]
        return all(_told_apart(a, b) for a, b in pairs)
    if isinstance(one, StructPlan) and isinstance(other, StructPlan) and one.tag and other.tag:
        return one.tag[0] == other.tag[0] and one.tag[1] != other.tag[1]
    return not one.shapes & other.shapes


def _class(annotation: Any, kind: Any, arguments: tuple[Any, ...], scope: _Scope) -> Plan:
    if annotation in scope.models:
        return scope.models[annotation]
    if not isinstance(kind, type):
        raise _unsupported(annotation)
    if issubclass(kind, Enum):
        return EnumPlan(kind)
    variables = dict(zip(getattr(kind, "__parameters__", ()), arguments, strict=False))
    inner = _Scope(scope.models, {name: _bound(value, scope) for name, value in variables.items()})
    if typing.is_typeddict(kind):
        found = _typed_dict(annotation, kind, inner)
    else:
        found = _model(annotation, kind, inner)
    scope.runs_code = scope.runs_code or inner.runs_code
    return found


def _bound(argument: Any, scope: _Scope) -> Any:
    return _value_of(argument, scope) if isinstance(argument, TypeVar) else argument


def _model(annotation: Any, kind: type, scope: _Scope) -> Plan:
    found = model_plan(kind, _hints)
    if found is None:
        raise _unsupported(annotation)
    scope.models[annotation] = found
    scope.runs_code = found.runs_code
    for name, member in found.fields.items():
        try:
            member.plan = _plan(member.hint, scope)
        except Refusal as refusal:
            raise refusal.inside(f".{name}") from None
    return found


def _typed_dict(annotation: Any, kind: Any, scope: _Scope) -> Plan:
    found = TypedDictPlan(type_name(kind), frozenset(kind.__required_keys__))
    scope.models[annotation] = found
    for name, hint in _hints(kind).items():
        try:
            found.members[name] = _plan(hint, scope)
        except Refusal as refusal:
            raise refusal.inside(f"[{name!r}]") from None
    return found


def _hints(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except (NameError, TypeError, AttributeError) as error:
        raise Refusal(
            f"the annotations of {type_name(kind)} can not be resolved: {error}",
            "define the types it names at module level, and import them outside TYPE_CHECKING",
        ) from None


def _unsupported(annotation: Any) -> Refusal:
    return Refusal(
        f"{_spelled(annotation)} can not be stored and read back",
        "annotate JSON types, decimals, times, UUIDs, bytes, enums, dataclasses, Structs or pydantic models",
    )


def _spelled(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return type_name(annotation)
    return str(annotation)
