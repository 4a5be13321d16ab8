"""How the arguments of steps and workflows become bytes, and come back as they are annotated."""

from __future__ import annotations

import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypedDict, get_type_hints

from holdfast.errors import InvalidArgument, InvalidInput
from holdfast.store import codec

_PLAIN = (int, str, float, bool, type(None), Any)
_JSON_TYPES = {
    int: "integer", str: "string", float: "number", bool: "boolean", type(None): "null", list: "array",
    dict: "object",
}  # fmt: skip


class Signature:
    """How the arguments of one function become bytes and come back as its annotated types."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._signature = inspect.signature(function)
        self._name = name
        self._function = function
        parameters = self._signature.parameters.values()
        self._names = tuple(self._signature.parameters)
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        self._by_name = all(parameter.kind in by_name for parameter in parameters)
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._required = tuple(
            parameter.name
            for parameter in parameters
            if parameter.default is inspect.Parameter.empty and parameter.kind not in variadic
        )

    @functools.cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(self._function)
        except NameError as error:
            raise InvalidArgument(
                f"the annotations of {self._name} name something unknown ({error.name})",
                fix="define or import the type at module level",
            ) from error

    @functools.cached_property
    def result(self) -> Any:
        """The annotation of the result; Any without one."""
        return self._hints.get("return", Any)

    def check(self) -> None:
        """Raise `UnsupportedValue` for annotations that values can not be decoded to."""
        for parameter, annotation in self._hints.items():
            codec.check_annotation(annotation, what=f"{self._name}.{parameter}")

    @functools.cached_property
    def annotation(self) -> Any:
        """The arguments as one type: a mapping from parameter to what its annotation says."""
        make: Any = TypedDict  # mypy only knows the form with a literal
        return make(f"{self._name} arguments", {name: self._hint(name) for name in self._names}, total=False)

    def _hint(self, name: str) -> Any:
        hint = self._hints.get(name, Any)
        kind = self._signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return list[hint]  # type: ignore[valid-type]
        return dict[str, hint] if kind is inspect.Parameter.VAR_KEYWORD else hint  # type: ignore[valid-type]

    @functools.cached_property
    def _is_plain(self) -> bool:
        """Whether plain positional values can be encoded without looking at any annotation."""
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        return all(
            parameter.kind is positional and any(self._hint(name) is plain for plain in _PLAIN)
            for name, parameter in self._signature.parameters.items()
        )

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The arguments of one call by parameter, so that a call by keyword is the same call."""
        if not kwargs and self._is_plain and len(args) <= len(self._names):
            return codec.encode(dict(zip(self._names, args, strict=False)), what=self._name)
        return codec.encode(self.bind(args, kwargs), self.annotation, what=self._name)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter; `InvalidArgument` when they do not fit."""
        try:
            bound = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArgument(f"{self._name}: {error}") from error
        return {
            name: list(value) if isinstance(value, tuple) and self._is_variadic(name) else value
            for name, value in bound.items()
        }

    def _is_variadic(self, name: str) -> bool:
        return self._signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL

    def decode(self, data: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments from an execution's input, decoded as the parameters say.

        Raises `InvalidInput` for a missing or unknown parameter.
        """
        given = codec.decode(data, what=f"input of {self._name}")
        unknown = set(given).difference(self._names) if isinstance(given, dict) else {"input"}
        missing = [name for name in self._required if name not in given] if not unknown else []
        if unknown or missing:
            accepts = ", ".join(self._names) or "no input"
            cause = f"no parameter {min(unknown)!r}" if unknown else f"nothing for {missing[0]!r}"
            raise InvalidInput(
                f"{self._name} {'has' if unknown else 'was given'} {cause}", fix=f"pass {accepts}"
            )
        if self._by_name and self._fits(given):
            return (), given
        values = codec.decode(data, self.annotation, what=f"input of {self._name}")
        if self._by_name:
            return (), values
        bound = inspect.BoundArguments(self._signature, OrderedDict())
        for name in self._names:
            if name in values:
                value = values[name]
                bound.arguments[name] = tuple(value) if self._is_variadic(name) else value
        return bound.args, bound.kwargs

    def _fits(self, given: dict[str, Any]) -> bool:
        """Whether every value has just the type of its parameter: decoding again would change nothing."""
        hints = self._hints
        return all((hint := hints.get(name, Any)) is Any or type(given[name]) is hint for name in given)

    @property
    def schema(self) -> dict[str, Any]:
        """The parameters as a JSON Schema; what has no plain type may be anything."""
        kinds = ((name, _JSON_TYPES.get(self._hint(name))) for name in self._names)
        properties = {name: {"type": kind} if kind else {} for name, kind in kinds}
        return {"type": "object", "properties": properties, "required": list(self._required)}

    @property
    def parameters(self) -> list[tuple[str, Any]]:
        """Names and annotations, in order."""
        return [(name, self._hints.get(name, Any)) for name in self._names]
