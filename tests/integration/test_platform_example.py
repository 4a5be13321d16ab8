"""The platform in `examples/platform` runs on every kind of store; nothing but the URL changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "platform" / "support_desk.py"
SAYS = """\
1 user: Where is my luggage?
2 assistant: Your case comes tomorrow: flight 7 left without it.
2 messages, 129 tokens
found again: Where is my luggage?
logged out: terminated
"""


def test_the_platform_runs_by_its_url(store_url: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE, store_url], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, SAYS), done.stderr


def test_it_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 80
