"""From the words behind `holdfast run` to a program and its checked, encoded input.

Everything is found out before a store is opened, so that a wrong word creates no file. Words are typed by
what the workflow declares: parameters of a Python function by their annotations, inputs of a YAML file by
its schema; where nothing is declared a word is JSON if it reads as JSON, else text.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TextIO, Union, get_args, get_origin

from holdfast.errors import HoldfastError, InvalidDefinition, InvalidInput, InvalidUsage

if TYPE_CHECKING:
    from holdfast.records.workflows import StoredDefinition
    from holdfast.workflows.definition import Definition
    from holdfast.workflows.functions import Workflow
    from holdfast.workflows.program import Program

YAML_SUFFIXES = (".yaml", ".yml")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be run, and with what."""

    program: Program
    input: bytes


def read_target(target: str, words: Sequence[str], given: Mapping[str, Any], folder: Path) -> Target:
    """The program that `target` names, with the input from `given` (--input) and the `words` behind it.

    Raises `WorkflowNotFound`, `InvalidDefinition`, `InvalidInput` and `InvalidUsage`.
    """
    if target.endswith(YAML_SUFFIXES):
        return _yaml(Path(target), target, words, given)
    return _python(load_python(target, folder), target, words, given)


def load_python(target: str, folder: Path) -> Workflow[Any, Any]:
    """The workflow that `FILE.py:NAME` or `MODULE:NAME` means; `InvalidDefinition` if it does not load."""
    from holdfast.programs import python_workflow

    with loading(target.rpartition(":")[0]):
        return python_workflow(target, folder.absolute())


@contextmanager
def loading(source: str) -> Iterator[None]:
    """What the code in `source` raises while it is imported becomes an `InvalidDefinition` with its line."""
    try:
        yield
    except HoldfastError:
        raise
    except Exception as error:
        place = source
        if isinstance(error, SyntaxError) and error.filename:
            place = f"{error.filename}:{error.lineno}"
        else:
            frames = traceback.extract_tb(error.__traceback__)
            place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else place
        raise InvalidDefinition(
            f"{source} does not load: {type(error).__name__}: {error}",
            where=place,
            fix="correct the code; -vv shows the traceback",
        ) from error


def read_input(option: str | None, stdin: TextIO, folder: Path) -> dict[str, Any]:
    """The object in --input: JSON, `@file`, or `-` for standard input; empty without the option."""
    if option is None:
        return {}
    text = option
    if option == "-":
        text = stdin.read()
    elif option.startswith("@"):
        try:
            text = (folder / option[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidUsage(
                f"{option[1:]} can not be read", where="--input", fix="check the file"
            ) from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"--input is not JSON: {error}", where="--input", fix='write --input \'{"name": "value"}\''
        ) from error
    if not isinstance(value, dict):
        raise InvalidInput(
            f"--input is a {type(value).__name__}, not an object",
            where="--input",
            fix='write --input \'{"name": "value"}\'',
        )
    return value


def _yaml(path: Path, shown: str, words: Sequence[str], given: Mapping[str, Any]) -> Target:
    from holdfast.programs import yaml_program
    from holdfast.workflows.definition import load

    definition = load(path)
    encoded = _yaml_input(definition, f"run {shown}", words, given)
    definition.prepare()
    return Target(yaml_program(definition), encoded)


def _yaml_input(definition: Definition, shown: str, words: Sequence[str], given: Mapping[str, Any]) -> bytes:
    from holdfast.store import codec

    properties = (definition.inputs or {}).get("properties", {})
    values = _named_values(words, given, shown, properties)
    return codec.encode(definition.check_input(values), what="input")


def _named_values(
    words: Sequence[str], given: Mapping[str, Any], shown: str, properties: Mapping[str, Any]
) -> dict[str, Any]:
    values = dict(given)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidUsage(
                f"{word!r} is no input",
                where=shown,
                fix="write inputs as name=value, or --input JSON",
            )
        schema = properties.get(name)
        values[name] = _by_schema(name, text, schema if isinstance(schema, dict) else {})
    return values


def stored_input(
    stored: StoredDefinition, shown: str, words: Sequence[str], given: Mapping[str, Any]
) -> bytes:
    """The encoded input of a workflow that is known by what the store keeps of it.

    A YAML definition checks it. Of a Python workflow the code is not here: its words are JSON or text.
    """
    from holdfast.store import codec

    if stored.kind == "yaml":
        from holdfast.workflows.definition import from_document

        return _yaml_input(from_document(stored.document), shown, words, given)
    return codec.encode(_named_values(words, given, shown, {}), what="input")


def _by_schema(name: str, text: str, schema: Mapping[str, Any]) -> Any:
    declared = schema.get("type")
    kinds = [declared] if isinstance(declared, str) else list(declared or ())
    if not kinds:
        return _json_or_text(text)
    if "null" in kinds and text == "null":
        return None
    readers: dict[str, Callable[[str], Any]] = {
        "integer": int, "number": _number, "boolean": _boolean, "array": json.loads, "object": json.loads,
        "string": str,
    }  # fmt: skip
    for kind in sorted(kinds, key=list(readers).index if set(kinds) <= set(readers) else str):
        try:
            if kind in readers:
                return readers[kind](text)
        except (ValueError, RecursionError):
            continue
    raise InvalidInput(f"{name}: {text[:80]!r} is not {' or '.join(kinds)}", where="input")


def _python(
    workflow: Workflow[Any, Any], shown: str, words: Sequence[str], given: Mapping[str, Any]
) -> Target:
    from holdfast.store import codec
    from holdfast.workflows.python_program import program_of

    signature = workflow.signature
    parameters = dict(signature.parameters)
    positional = iter(parameters)
    values = dict(given)
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name not in parameters:
            text = word
            name = next((each for each in positional if each not in values), "")
            if not name:
                takes = ", ".join(parameters) or "nothing"
                raise InvalidInput(
                    f"{word!r} is one argument too many",
                    where=f"run {shown}",
                    fix=f"{workflow.name} takes {takes}",
                )
        values[name] = _by_annotation(name, text, parameters[name])
    # Decoded as the parameters say and encoded again: the same call made in code has the same input.
    args, kwargs = signature.decode(codec.encode(values, what="input"))
    return Target(program_of(workflow), signature.encode(args, kwargs))


def _by_annotation(name: str, text: str, annotation: Any) -> Any:
    readers: dict[Any, Callable[[str], Any]] = {
        str: str, int: int, float: float, bool: _boolean, Any: _json_or_text
    }  # fmt: skip
    reader = readers.get(annotation)
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    if reader is None and type(None) in members and text == "null":
        return None
    if reader is None and str in members:
        reader = str
    if reader is None and len(members) == 2 and type(None) in members:
        return _by_annotation(name, text, next(each for each in members if each is not type(None)))
    try:
        return (reader or _json_or_text)(text)
    except ValueError as error:
        kind = getattr(annotation, "__name__", str(annotation))
        raise InvalidInput(f"{name}: {text[:80]!r} is not {kind}", where="input") from error


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _boolean(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError(text)
    return _TRUTH[text.lower()]
