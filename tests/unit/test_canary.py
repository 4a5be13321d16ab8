"""The search for passwords finds them; one that finds nothing would be worth nothing."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.canary import CANARY, files_with_it, is_in, search, words

ROOT = Path(__file__).parents[2]


def test_a_password_in_a_text_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_TEST_POSTGRES_URL", "postgresql://u:long%2Fpassword@h/d")
    monkeypatch.setenv("HOLDFAST_TEST_MYSQL_URL", "mysql://root:short@h/d")
    assert set(words()) >= {CANARY, "long/password", "long%2Fpassword"}
    assert "short" not in words()
    assert is_in("at postgresql://u:long%2Fpassword@h")
    with pytest.raises(AssertionError, match="stands in stderr") as caught:
        search(f"x {CANARY} y", "stderr")
    assert CANARY not in str(caught.value)


def test_a_password_in_a_file_of_the_program_is_found(tmp_path: Path) -> None:
    (tmp_path / ".holdfast").mkdir()
    places = [tmp_path / ".holdfast" / "anything", tmp_path / "x.db", tmp_path / "events.log"]
    for path in places:
        path.write_bytes(b"\0" + CANARY.encode() + b"\0")
    places.append(tmp_path / "old.log.gz")
    places[-1].write_bytes(gzip.compress(CANARY.encode()))
    (tmp_path / "holdfast.yaml").write_text(CANARY)  # a test may write one into its configuration
    assert sorted(files_with_it(tmp_path)) == sorted(places)
    for path in places:
        path.unlink()  # or this test would be found out as well


HOOKS = "from tests.conftest import pytest_runtest_makereport, pytest_runtest_teardown\n"
TELLING = f"""
import logging

def test_prints(): print("{CANARY}")
def test_logs(): logging.getLogger("x").warning("{CANARY}")
def test_writes(tmp_path): (tmp_path / "x.log").write_text("{CANARY}")
def test_keeps(tmp_path): (tmp_path / "x.yaml").write_text("{CANARY}")
"""


def test_a_test_that_tells_a_password_fails(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(HOOKS)
    (tmp_path / "test_telling.py").write_text(TELLING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null", "-rfE", "."]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    told = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR "))]
    assert [line.split("::")[1].split(" ")[0] for line in told] == ["test_prints", "test_logs", "test_writes"]
    assert "2 failed, 2 passed, 1 error" in done.stdout
    assert not is_in(done.stdout)
