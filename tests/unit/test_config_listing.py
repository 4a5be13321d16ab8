"""What `config show` prints at a terminal: settings below the names of their groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.cli.configuring import grouped, known_path, profiles, rows
from holdfast.config.loader import load
from holdfast.errors import NotFound

TEXT = """\
worker: {concurrency: 3}
storage: {postgresql: {schema: mine}, slowQuery: 20}
locks: {ttl: 5s}
"""


def test_groups_stand_above_their_settings(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text(TEXT)
    loaded = load(environ={}, cwd=tmp_path)
    shown = rows(loaded, None, changed=True)
    assert grouped(shown, origins=False, colored=False).splitlines() == [
        "storage.postgresql",
        "  schema       mine",
        "storage",
        "  slow_query   20ms",
        "worker",
        "  concurrency  3",
        "locks",
        "  ttl          5s    (no effect yet)",
    ]
    told = grouped(shown, origins=True, colored=False)
    assert "  slow_query   20ms  holdfast.yaml:2 (storage.slowQuery)" in told.splitlines()


def test_colour_dims_what_is_at_its_default(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text(TEXT)
    shown = rows(load(environ={}, cwd=tmp_path), "worker", changed=False)
    lines = grouped(shown, origins=False, colored=True).splitlines()
    assert lines[0] == "\x1b[1mworker\x1b[0m"
    assert [line for line in lines[1:] if "\x1b" not in line] == ["  concurrency    3"]
    assert all(line.startswith("\x1b[2m") for line in lines[1:] if "concurrency" not in line)


def test_a_value_can_not_steer_the_terminal(tmp_path: Path) -> None:
    loaded = load(environ={"HOLDFAST_ENVIRONMENT": "a\x1b[2Jb"}, cwd=tmp_path)
    assert "\x1b" not in grouped(rows(loaded, "environment", changed=False), origins=True, colored=False)


@pytest.mark.parametrize("key", ["storage.typ", "storage", "vectors.collections.*.size", "nothing"])
def test_what_is_no_setting_is_not_found(key: str) -> None:
    with pytest.raises(NotFound):
        known_path(key, "config get")


def test_a_profile_may_be_a_block_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "holdfast.yaml").write_text("profiles:\n  prod: {}\n  mine: {}\n")
    (tmp_path / ".env.mine").write_text("")
    (tmp_path / ".env.example").write_text("")
    found = profiles(load(environ={"HOLDFAST_PROFILE": "mine"}, cwd=tmp_path), tmp_path)
    assert [(row["profile"], row["active"], row["places"]) for row in found] == [
        ("dev", False, "built in"),
        ("prod", False, "holdfast.yaml:2"),
        ("mine", True, "holdfast.yaml:3, .env.mine"),
    ]
