"""scripts/environment.py: when an environment serves, and what is said when none can be made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts import apt, environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "STAMP", tmp_path / ".venv" / "stamp.json")
    monkeypatch.setattr(environment, "VENV_PYTHON", tmp_path / ".venv" / "bin" / "python")
    (tmp_path / ".venv").mkdir()
    return tmp_path


def test_a_base_environment_is_served_by_one_with_extras_and_not_the_reverse(checkout: Path) -> None:
    base, full = environment.wanted(set()), environment.wanted({"dev", "postgres"})
    assert environment.satisfied(full, base)
    assert not environment.satisfied(base, full)


def test_a_changed_pyproject_or_a_moved_checkout_asks_for_an_install(checkout: Path) -> None:
    before = environment.wanted({"dev"})
    assert not environment.satisfied(before | {"directory": "/elsewhere"}, before)
    (checkout / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    assert not environment.satisfied(before, environment.wanted({"dev"}))


@pytest.mark.parametrize("stamp", ["", "[]", "{", json.dumps({"extras": "dev"})])
def test_a_damaged_stamp_is_no_stamp(checkout: Path, stamp: str) -> None:
    environment.STAMP.write_text(stamp)
    assert not environment.satisfied(environment.stamped(), environment.wanted(set()))


def test_an_environment_without_its_python_does_not_work(checkout: Path) -> None:
    assert not environment.works()


def test_without_ensurepip_and_without_root_one_line_names_the_package(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(apt, "may_install", lambda: False)
    assert environment.main(["dev"]) == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "this Python can not make virtual environments; install it: apt-get install python3-venv"
    ]


def test_an_old_python_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "OLDEST", (99,))
    assert environment.main([]) == 1
    assert capsys.readouterr().err.startswith("Python 3.11 or newer is needed, ")
