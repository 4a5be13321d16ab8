"""The JSON Schema says the same as the loader."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from holdfast.cli.project import config_file
from holdfast.config.json_schema import json_schema
from holdfast.config.later import LATER
from holdfast.config.schema import SETTINGS
from tests.unit.test_config_documents import BLOCKS, SEEDS, configuration_blocks

SCHEMA = json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def mistakes(text: str) -> list[str]:
    return [error.json_path for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    "text",
    [
        *(pytest.param(each.values[0], id=str(each.id)) for each in BLOCKS),
        *(pytest.param(text, id=place) for place, text in (configuration_blocks() if SEEDS.is_dir() else [])),
    ],
)
def test_the_blocks_of_the_documents_are_right(text: str) -> None:
    # The loader does not mind capitals in a choice; an editor offers the usual spelling.
    for capitals in ("Postgres,", "SQLite", "ERROR"):
        text = text.replace(capitals, capitals.lower())
    assert mistakes(text) == []


def test_what_init_writes_is_right_with_every_line_in_use() -> None:
    text = "\n".join(
        line.replace("# ", "", 1) if line.lstrip().startswith("# ") and ": " in line else line
        for line in config_file().splitlines()[3:]
    )
    assert len(text.splitlines()) > len(SETTINGS)
    assert mistakes(text) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("storage: {typ: x}", "$.storage"),
        ("storage: {type: oracle}", "$.storage.type"),
        ("storage: {statement_timeout: 30}", "$.storage.statement_timeout"),
        ("storage: {postgresql: {pool: {max: 0}}}", "$.storage.postgresql.pool.max"),
        ("storage: {postgresql: {replicas: [{hots: a}]}}", "$.storage.postgresql.replicas[0]"),
        ("storage: {sqlite: {wal: false}}", "$.storage.sqlite.wal"),
        ("vectors: {collections: {mine: {size: big}}}", "$.vectors.collections.mine.size"),
        ("profiles: {prod: {loging: {}}}", "$.profiles.prod"),
        ("workr: {}", "$"),
    ],
)
def test_mistakes_are_found(text: str, place: str) -> None:
    assert mistakes(text) == [place]


@pytest.mark.parametrize(
    "text",
    [
        "storage: {statementTimeout: 30000}",
        "storage: {statement_timeout_sec: 30, slowQuery: 1000}",
        "storage: {type: '${KIND}', postgresql: {port: '${PORT:-5432}', primary: {host: a}}}",
        "storage: {postgresql: {ssl: {enabled: true}}, encryption: {at_rest: null}}",
        "profiles: {prod: {storage: {postgres: {host: a}}}}",
        "vectors: {optimizer: {flushIntervalSec: 5}}",
    ],
)
def test_what_the_loader_takes_is_right(text: str) -> None:
    assert mistakes(text) == []


def test_every_setting_is_described() -> None:
    for path in (*SETTINGS, *(path for path in LATER if "*" not in path)):
        node = SCHEMA
        for part in path.split("."):
            node = node["properties"][part]
        assert node["description"], path


def test_it_is_small_enough_for_an_editor(tmp_path: Path) -> None:
    assert len(str(SCHEMA)) < 100_000
