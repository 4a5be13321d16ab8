"""Conversations of an agent with its users and tools: real ones where they are, and generated ones alike.

The real ones are 24 runs of tau-bench's airline agent, beside the checkout in `shared/data/conversations`.
They are not part of the project, so a test that needs them is named in the summary where they are missing,
and runs on the generated ones in any case.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "conversations" / "tau-airline-24.json"
KINDS = ["real", "generated"]
_WORDS = [
    "flight", "reservation", "passenger", "economy", "certificate", "baggage", "insurance", "Seattle",
    "Zürich", "confirm", "cancel", "upgrade", "payment", "credit_card", "membership", "refund", "\u2708",
    "ticket", "seat", "2024-05-20", "HAT136", "naïve", "日本", "please",
]  # fmt: skip


def transcripts(kind: str) -> list[dict[str, Any]]:
    """Runs as the file has them: `traj` is the list of messages, and other keys tell of the run."""
    if kind == "generated":
        return generated(24, 736)
    if not REAL.exists():
        pytest.skip(f"the real conversations are not there: {REAL}")
    runs: list[dict[str, Any]] = json.loads(REAL.read_text("utf-8"))
    return runs


def generated(count: int, messages: int, seed: int = 24) -> list[dict[str, Any]]:
    """So many runs with so many messages together, the same each time."""
    chance = random.Random(seed)
    return [_run(chance, number, messages // count + number % 2 * 2 - 1) for number in range(count)]


def _run(chance: random.Random, number: int, length: int) -> dict[str, Any]:
    def said(words: int) -> str:
        return " ".join(chance.choices(_WORDS, k=words)) + chance.choice([".", "?\n\n1. ", ' "so"', " \\ '"])

    traj: list[dict[str, Any]] = [{"role": "system", "content": f"# Policy\n\n{said(300)}"}]
    while len(traj) < length - 2:
        traj.append({"role": "user", "content": said(12)})
        if chance.random() < 0.5:
            call = f"call_{chance.getrandbits(80):020x}"
            arguments = json.dumps({"user_id": said(1), "n": chance.random()})
            function = {"name": chance.choice(["get_user", "book"]), "arguments": arguments}
            traj += [
                {
                    "content": chance.choice([None, None, None, said(3)]),
                    "role": "assistant",
                    "tool_calls": [{"function": function, "id": call, "type": "function"}],
                },
                {
                    "role": "tool",
                    "tool_call_id": call,
                    "name": function["name"],
                    "content": json.dumps({"name": said(2), "flights": [said(5)] * 3}, ensure_ascii=False),
                },
            ]
        traj.append({"content": said(25), "role": "assistant"})
    info = {"task": {"user_id": f"mia_{number}", "actions": []}, "user_cost": 0.0035475000000000003}
    return {"task_id": number, "reward": number % 2 / 1.0, "info": info, "traj": traj, "trial": 0}
