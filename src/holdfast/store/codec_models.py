"""Plans for models: dataclasses, msgspec Structs, named tuples and pydantic models.

A model is stored as an object of its fields under their own names (aliases and renames do not matter) and
built again by its constructor. Stored fields the class no longer has are ignored, missing ones take their
default. Only fields are stored: a cached property, a private attribute, pydantic's `model_fields_set` come
back as the constructor leaves them. The class must be exactly the annotated one; a subclass would come
back as its base.

A model that runs code of its own (`__post_init__`, a written `__init__`, any pydantic model) may change
what it is given, so `runs_code` asks the codec to read back what it wrote before the value is accepted.
"""

# ruff: noqa: D102 - what write, read and claims promise is said once, on Plan.
from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, cast

import msgspec

from holdfast.store.codec_nodes import TAG, Refusal, Trip, fields_of, guarded, key_segment, shape, type_name
from holdfast.store.codec_plans import Plan, descend, missing
from holdfast.store.codec_values import read_any, write_any, write_mapping

UNSET = object()


@dataclasses.dataclass(slots=True, kw_only=True)
class Field:
    """One stored field: its annotation, then its plan, and whether the constructor can do without it."""

    hint: Any
    required: bool
    init: bool = True
    plan: Plan = None  # type: ignore[assignment]  # set by the compiler, after the model is known to itself


class ModelPlan(Plan):
    """An instance of exactly `kind`, as an object of its fields."""

    plain = False
    shapes = frozenset({"object"})
    runs_code = False

    def __init__(self, kind: type, fields: dict[str, Field]) -> None:
        self.kind = kind
        self.name = type_name(kind)
        self.fields = fields

    def write(self, value: Any, trip: Trip) -> Any:
        if type(value) is not self.kind:
            raise self.mismatch(type_name(type(value)))
        trip.enter(len(self.fields))
        out: dict[str, Any] = {}
        for name, field in self.fields.items():
            trip.spend(len(name))
            item = getattr(value, name, UNSET)
            try:
                if item is not UNSET:
                    out[name] = field.plan.write(item, trip)
                elif field.init:
                    raise Refusal(f"the {self.name} has no attribute {name!r}", "set the field")
            except Refusal as refusal:
                raise refusal.inside(key_segment(name)) from None
        trip.depth -= 1
        return guarded(out)

    def read(self, node: Any, depth: int) -> Any:
        members = fields_of(node)
        if members is None:
            raise self.mismatch(f"a stored {shape(node)}")
        descend(depth)
        values: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name in members:
                try:
                    values[name] = field.plan.read(members[name], depth + 1)
                except Refusal as refusal:
                    raise refusal.inside(key_segment(name)) from None
            elif field.required:
                raise missing(self.name, name)
        return self._built(values, members, depth)

    def _built(self, values: dict[str, Any], members: dict[str, Any], depth: int) -> Any:
        try:
            return self.build(values)
        except Exception as error:  # a constructor is the user's code and may raise anything
            raise Refusal(
                f"{self.name} refused its stored fields: {type(error).__name__}: {str(error)[:200]}",
                "let the class accept what earlier versions of it stored",
            ) from error

    def build(self, values: dict[str, Any]) -> Any:
        """An instance with these fields."""
        return self.kind(**values)


class DataclassPlan(ModelPlan):
    """A dataclass; a field the constructor does not take is set afterwards."""

    def __init__(self, kind: type, hints: dict[str, Any]) -> None:
        for name, hint in hints.items():
            if isinstance(hint, dataclasses.InitVar) and not hasattr(kind, name):
                raise Refusal(
                    f"{name!r} is an InitVar without a default and is not stored", "give it a default"
                ).inside(key_segment(name))
        fields = {}
        for field in dataclasses.fields(kind):
            bare = field.default is field.default_factory is dataclasses.MISSING
            fields[field.name] = Field(hint=hints[field.name], required=field.init and bare, init=field.init)
        super().__init__(kind, fields)
        self.late = [name for name, field in fields.items() if not field.init]
        methods: list[Any] = [kind.__init__, kind.__setattr__]  # type: ignore[misc]
        self.runs_code = (
            bool(self.late)
            or hasattr(kind, "__post_init__")
            or kind.__new__ is not object.__new__  # type: ignore[comparison-overlap]
            or not all(method is object.__setattr__ or _generated(method) for method in methods)
        )

    def build(self, values: dict[str, Any]) -> Any:
        late = [(name, values.pop(name)) for name in self.late if name in values]
        found = self.kind(**values)
        for name, value in late:
            object.__setattr__(found, name, value)  # frozen classes too
        return found


def _generated(method: Any) -> bool:
    # `dataclass` compiles its methods from text; one that somebody wrote has a file.
    code = getattr(method, "__code__", None)
    return code is not None and code.co_filename == "<string>"


class StructPlan(ModelPlan):
    """A msgspec Struct; one that declares a tag carries it, so that a union can tell it from others."""

    def __init__(self, kind: type[msgspec.Struct], hints: dict[str, Any]) -> None:
        fields = {
            info.name: Field(hint=hints[info.name], required=info.required)
            for info in msgspec.structs.fields(kind)
        }
        super().__init__(kind, fields)
        config = kind.__struct_config__
        self.tag = (config.tag_field or "type", config.tag) if config.tag is not None else None
        if self.tag and (self.tag[0] in fields or self.tag[0] == TAG):
            raise Refusal(f"the tag field {self.tag[0]!r} of {self.name} is taken", "rename tag_field")
        self.runs_code = hasattr(kind, "__post_init__")

    def write(self, value: Any, trip: Trip) -> Any:
        node = super().write(value, trip)
        return {self.tag[0]: self.tag[1], **node} if self.tag else node

    def claims(self, node: Any) -> bool:
        if self.tag is None:
            return super().claims(node)
        members = fields_of(node)
        return members is not None and members.get(self.tag[0]) == self.tag[1]


class NamedTuplePlan(ModelPlan):
    """A named tuple, stored by names so that fields may be added."""

    def __init__(self, kind: Any, hints: dict[str, Any]) -> None:
        defaults = kind._field_defaults
        names = kind._fields
        super().__init__(
            kind, {name: Field(hint=hints.get(name, Any), required=name not in defaults) for name in names}
        )
        self.runs_code = kind.__bases__ != (tuple,)


class PydanticPlan(ModelPlan):
    """A pydantic model, built by `model_validate`; extra fields are kept where the model allows them."""

    runs_code = True

    def __init__(self, kind: Any) -> None:
        config = kind.model_config
        infos = kind.model_fields
        super().__init__(
            kind,
            {name: Field(hint=info.annotation, required=info.is_required()) for name, info in infos.items()},
        )
        self.extra = config.get("extra") == "allow"
        self.root = getattr(kind, "__pydantic_root_model__", False)
        by_name = config.get("populate_by_name") or config.get("validate_by_name")
        self.keys = {name: name if by_name else _alias(name, info) for name, info in infos.items()}

    def write(self, value: Any, trip: Trip) -> Any:
        node = super().write(value, trip)
        more = getattr(value, "__pydantic_extra__", None)
        if not more:
            return node
        trip.depth += 1
        extra = fields_of(write_mapping(more, trip, write_any)) or {}
        trip.depth -= 1
        return guarded({**node, **extra})

    def _built(self, values: dict[str, Any], members: dict[str, Any], depth: int) -> Any:
        if self.extra:
            extra = {k: read_any(node, depth + 1) for k, node in members.items() if k not in self.fields}
            return super()._built({**values, **extra}, members, depth)
        return super()._built(values, members, depth)

    def build(self, values: dict[str, Any]) -> Any:
        validate = self.kind.model_validate  # type: ignore[attr-defined]
        if self.root:
            return validate(values["root"])
        return validate({self.keys.get(name, name): value for name, value in values.items()})


def _alias(name: str, info: Any) -> str:
    alias = info.validation_alias or info.alias or name
    choices = getattr(alias, "choices", [alias])
    for choice in choices:
        if isinstance(choice, str):
            return choice
    raise Refusal(
        f"the field {name!r} is validated by a path only",
        "set validate_by_name=True, or give the field a plain alias",
    )


def is_pydantic(kind: type) -> bool:
    """Whether `kind` is a pydantic model; pydantic is not imported to find out."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


def model_plan(kind: Any, hints: Callable[[Any], dict[str, Any]]) -> ModelPlan | None:
    """The plan for a model class, its fields' plans still to be set; None when `kind` is no model."""
    if is_pydantic(kind):
        return PydanticPlan(kind)
    if issubclass(kind, msgspec.Struct):
        return StructPlan(kind, hints(kind))
    if dataclasses.is_dataclass(kind):
        return DataclassPlan(cast(type, kind), hints(kind))
    if issubclass(kind, tuple) and hasattr(kind, "_field_defaults"):
        return NamedTuplePlan(kind, hints(kind))
    return None
