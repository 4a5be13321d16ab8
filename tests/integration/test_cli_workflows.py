"""`holdfast workflows`: registering versions, which never change, and looking at them."""

from __future__ import annotations

import json

import pytest

from tests.integration.shell import Shell

FLOW = 'name: flow\nversion: "1"\ndescription: Says hello.\nsteps: [{id: s, shell: "printf hello"}]\n'
PARENT = "name: parent\nsteps: [{id: call, workflow: flow}]\noutputs: {said: '${{ steps.call.output }}'}\n"
PYTHON = '''\
import holdfast as hf

app = hf.App()

@app.workflow(version="3")
async def report(topic: str) -> str:
    """Writes a report."""
    return topic
'''


def test_a_version_is_registered_once_and_never_changes(stored: Shell) -> None:
    flow = stored.write("flow.yaml", FLOW)
    planned = stored.json("workflows", "register", "flow.yaml", "--dry-run")
    assert planned["result"] == "would be registered"
    made = stored.json("workflows", "register", "flow.yaml", "--author", "Ada", "--tag", "a", "--tag", "b")
    assert (made["name"], made["version"], made["result"]) == ("flow", "1", "registered")
    assert made["definition"] == planned["definition"]
    assert stored.json("workflows", "register", "flow.yaml")["result"] == "was registered before"
    flow.write_text(FLOW.replace("printf hello", "printf bye"))
    problem = stored.problem("workflows", "register", "flow.yaml", code=4)
    assert (problem["code"], problem["fix"]) == ("HF4006", "raise `version` in the definition")
    flow.write_text(FLOW.replace("printf hello", "printf bye").replace('"1"', '"2"'))
    assert stored("workflows", "register", "flow.yaml").stdout == "flow 2 registered\n"
    versions = stored.json("workflows", "versions", "flow")["items"]
    assert [row["version"] for row in versions] == ["2", "1"]
    assert (versions[1]["author"], versions[1]["tags"]) == ("Ada", ["a", "b"])
    shown = stored.json("workflows", "show", "flow")
    assert (shown["version"], shown["versions"], shown["description"]) == ("2", ["2", "1"], "Says hello.")
    assert shown["document"]["steps"][0]["shell"] == "printf bye"
    first = stored.json("workflows", "show", "flow", "--version", "1")
    assert first["document"]["steps"][0]["shell"] == "printf hello"
    listed = stored.json("workflows", "list")["items"]
    assert [(row["name"], row["registered_versions"], row["executions"]) for row in listed] == [
        ("flow", 2, 0)
    ]


def test_a_registered_workflow_is_called_by_name(holdfast: Shell) -> None:
    holdfast.write("flow.yaml", FLOW + "outputs: {said: '${{ steps.s.output }}'}\n")
    holdfast.write("parent.yaml", PARENT)
    assert holdfast("run", "parent.yaml").returncode == 7  # nobody knows it yet
    assert holdfast("workflows", "register", "flow.yaml").returncode == 0
    done = holdfast("run", "parent.yaml")
    assert json.loads(done.stdout) == {"said": {"said": "hello"}}, done.stderr
    assert "call › s" in done.stderr


def test_python_workflows_are_registered_by_where_they_are(holdfast: Shell) -> None:
    holdfast.write("flows.py", PYTHON)
    assert holdfast.json("workflows", "register", "flows.py:report")["version"] == "3"
    shown = holdfast.json("workflows", "show", "report")
    assert (shown["kind"], shown["description"]) == ("python", "Writes a report.")
    assert holdfast("workflows", "show", "report").stdout.startswith("name ")


@pytest.mark.parametrize(
    ("arguments", "code", "error", "fix"),
    [
        (["workflows", "show", "flwo"], 3, "HF3002", "did you mean flow?"),
        (["workflows", "show", "flow", "--version", "9"], 3, "HF3002", "choose from 1"),
        (["workflows", "versions", "xyz"], 3, "HF3002", ""),
        (["workflows", "register", "none.yaml"], 3, "HF3002", ""),
        (["workflows", "register", "bad.yaml"], 2, "HF1200", ""),
        (["workflows", "register", "flows.py:none"], 3, "HF3002", "report"),
        (["workflows", "register"], 2, "HF1003", ""),
        (["workflows", "lst"], 2, "HF1003", "did you mean list"),
    ],
)
def test_wrong_words(holdfast: Shell, arguments: list[str], code: int, error: str, fix: str) -> None:
    holdfast.write("flow.yaml", FLOW)
    holdfast.write("bad.yaml", "steps: 1\n")
    holdfast.write("flows.py", PYTHON)
    assert holdfast.inside("workflows", "register", "flow.yaml").returncode == 0
    problem = holdfast.problem(*arguments, code=code)
    assert problem["code"] == error
    assert fix in problem["fix"]
