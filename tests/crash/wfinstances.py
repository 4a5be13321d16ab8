"""Real runs of real scientific workflows (WfInstances, WfCommons) as Holdfast documents.

A task becomes a shell step that needs its parents, appends its id and a fresh token to a ledger, rests for
its share of the longest run time, and prints the token, which is its result.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "wfinstances"
REST_MAX_S = 0.05
_ID_CHARACTERS_MAX = 100

_BODY = """\
token=$(cat /proc/sys/kernel/random/uuid)
echo "$TASK $token" >> "$LEDGER"
sleep "$REST"
printf %s "$token"
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance: for every step the steps it needs, and how long it rests."""

    name: str
    parents: dict[str, tuple[str, ...]]
    rest_s: dict[str, float]

    def document(self, ledger: Path) -> str:
        """The workflow as YAML."""
        steps: list[dict[str, Any]] = []
        for id, parents in self.parents.items():
            rest = f"{self.rest_s[id]:.3f}"
            step: dict[str, Any] = {"id": id, "env": {"TASK": id, "LEDGER": str(ledger), "REST": rest}}
            if parents:
                step["needs"] = list(parents)
            steps.append({**step, "shell": _BODY})
        return yaml.safe_dump({"name": self.name, "steps": steps}, sort_keys=False)


def instances() -> list[Path]:
    """The files that are there."""
    return sorted(FOLDER.glob("*.json"))


def read(path: Path) -> Instance:
    """An instance in the format 1.5 of WfCommons: ids are made fit for steps, and stay different."""
    workflow = json.loads(path.read_text("utf-8"))["workflow"]
    tasks = workflow["specification"]["tasks"]
    runtimes = {task["id"]: float(task["runtimeInSeconds"]) for task in workflow["execution"]["tasks"]}
    longest = max(runtimes.values()) or 1.0
    ids: dict[str, str] = {}
    for task in tasks:
        # The end of an id tells tasks of one kind apart.
        ids[task["id"]] = re.sub(r"[^A-Za-z0-9_-]", "_", task["id"])[-_ID_CHARACTERS_MAX:]
    assert len(set(ids.values())) == len(tasks), f"{path.name}: two tasks would have one id"
    return Instance(
        name=re.sub(r"[^A-Za-z0-9_.-]", "-", path.stem),
        parents={ids[task["id"]]: tuple(ids[parent] for parent in task["parents"]) for task in tasks},
        rest_s={ids[id]: REST_MAX_S * seconds / longest for id, seconds in runtimes.items() if id in ids},
    )
