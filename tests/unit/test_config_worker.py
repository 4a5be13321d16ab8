"""Settings that are several names: in files, variables and flags, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.config.loader import load
from holdfast.config.schema import Worker
from holdfast.errors import InvalidConfiguration


def worker(folder: Path, text: str = "", **environ: str) -> Worker:
    (folder / "holdfast.yaml").write_text(text, encoding="utf-8")
    return load(environ=environ, cwd=folder).config.worker


def test_the_defaults(tmp_path: Path) -> None:
    settings = worker(tmp_path)
    assert (settings.queues, settings.classes) == (("default",), ("cpu", "io", "gpu"))
    assert settings.concurrency == 10


@pytest.mark.parametrize(
    "text",
    [
        "worker: {queues: [a, b]}",
        "worker: {queues: 'a, b'}",
        "worker:\n  queues:\n    - a\n    - b\n    - a\n",
    ],
)
def test_names_are_a_list_or_a_text_with_commas(tmp_path: Path, text: str) -> None:
    assert worker(tmp_path, text).queues == ("a", "b")


def test_a_variable_beats_the_file(tmp_path: Path) -> None:
    assert worker(tmp_path, "worker: {queues: [a]}", HOLDFAST_WORKER__QUEUES="b,c").queues == ("b", "c")


def test_items_of_a_list_may_be_variables(tmp_path: Path) -> None:
    assert worker(tmp_path, "worker: {queues: ['${Q}', b]}", Q="a").queues == ("a", "b")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worker: {queues: []}", "names nothing"),
        ("worker: {queues: ','}", "names nothing"),
        ("worker: {queues: [[a]]}", "takes one value"),
        ("worker: {queues: {a: b}}", "takes one value"),
        ("worker: {queues: ['${MISSING}']}", "MISSING"),
        ("worker: {classes: [io, tpu]}", "'tpu' is not one of the choices"),
        ('worker: {queues: ["a\\u0007b"]}', "can not be a name"),
        (f"worker: {{queues: {'x' * 256}}}", "can not be a name"),
        ("worker: {concurrency: 0}", "out of range"),
        ("worker: {poll: 1ms}", "too short"),
        ("worker: {drain_timeout: 30}", "no unit"),
        ("logging: {level: [info]}", "takes one value"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        worker(tmp_path, text)
    assert told in str(caught.value.details["problems"])
