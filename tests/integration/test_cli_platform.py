"""`holdfast workflows`, `deployments`, `schedules`, `agents` and `tasks`, as a person meets them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.domain.agents import Agents
from holdfast.domain.tasks import Tasks
from holdfast.fleet import tasks
from holdfast.stores import build_store, config_for
from tests.integration.shell import Shell

FLOW = 'name: flow\nversion: "{}"\ndescription: Says {}.\ninputs: {{properties: {{n: {{type: integer}}}}}}\n'
FLOW += 'steps: [{{id: s, shell: "printf {}"}}]\n'
PYTHON = """\
import holdfast as hf

app = hf.App()

@app.workflow(version="3")
async def report(topic: str, pages: int = 1, *rest: str) -> str:
    return topic
"""


def told(holdfast: Shell, *arguments: str, code: int = 0) -> Any:
    done = holdfast.inside(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stderr if code else done.stdout)


@pytest.fixture
def platform(stored: Shell) -> Shell:
    """A store with three versions of a workflow."""
    for version, said in (("1", "one"), ("2", "two"), ("3", "three")):
        stored.write("flow.yaml", FLOW.format(version, said, said))
        draft = ["--draft"] if version == "3" else []
        told(stored, "workflows", "register", "flow.yaml", "--tag", f"t{version}", *draft)
    return stored


def within(platform: Shell, work: Any) -> Any:
    """What `work` does with the store, by the library."""
    import asyncio

    url = platform.environ.get("HOLDFAST_URL") or f"sqlite:///{platform.folder}/.holdfast/holdfast.db"

    async def run() -> Any:
        store = build_store(config_for(url))
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def started(platform: Shell, name: str, **environ: str) -> str:
    """The version that a start by this name would run."""
    platform.environ |= environ
    return str(told(platform, "executions", "start", name, "--dry-run")["version"])


def test_versions_are_compared_found_and_marked(platform: Shell) -> None:
    done = platform.inside("workflows", "diff", "flow", "1", "2")
    assert {"-description: Says one.", "+description: Says two."} <= set(done.stdout.splitlines())
    assert told(platform, "workflows", "diff", "flow", "1", "1")["diff"] == ""
    assert told(platform, "workflows", "diff", "flow", "1", "9", code=3)["code"] == "HF3002"
    found = told(platform, "workflows", "search", "says", "TWO")["items"]
    assert [(row["version"], row["tags"], row["status"]) for row in found] == [("2", ["t2"], "active")]
    shown = told(platform, "workflows", "show", "flow", "--version", "3")
    assert (shown["status"], shown["deployed"], shown["environment"]) == ("draft", None, None)
    assert shown["parameters"] == {"properties": {"n": {"type": "integer"}}}
    assert started(platform, "flow") == "2"
    assert platform.inside("workflows", "mark", "flow@2", "deprecated").stdout == "flow 2 deprecated\n"
    assert started(platform, "flow") == "1"
    told(platform, "workflows", "mark", "flow@3", "active", "--dry-run")
    assert started(platform, "flow") == "1"
    told(platform, "workflows", "mark", "flow@3", "archived")
    assert told(platform, "executions", "start", "flow@3", code=4)["code"] == "HF4091"
    assert told(platform, "workflows", "mark", "flow", "active", code=2)["code"] == "HF1003"
    rows = told(platform, "workflows", "versions", "flow")["items"]
    assert [row["status"] for row in rows] == ["archived", "deprecated", "active"]


def test_python_parameters_become_a_schema(platform: Shell) -> None:
    platform.write("report.py", PYTHON)
    trigger = '{"cron": "@daily"}'
    told(platform, "workflows", "register", "report.py:report", "--trigger", trigger, "--environment", "eu")
    shown = told(platform, "workflows", "show", "report")
    assert shown["parameters"] == {
        "type": "object", "required": ["topic"],
        "properties": {"topic": {"type": "string"}, "pages": {"type": "integer"}, "rest": {}},
    }  # fmt: skip
    assert (shown["triggers"], shown["environment"]) == ([{"cron": "@daily"}], "eu")
    wrong = told(platform, "workflows", "register", "report.py:report", "--trigger", "[1]", code=2)
    assert (wrong["code"], wrong["where"]) == ("HF1003", "--trigger")


def test_a_deployment_decides_until_it_is_rolled_back(platform: Shell) -> None:
    planned = told(platform, "deployments", "create", "flow@1", "--dry-run")
    assert (planned["version"], planned["environment"], planned["dry_run"]) == ("1", "production", True)
    assert told(platform, "deployments", "list")["items"] == []
    made = told(platform, "deployments", "create", "flow@1", "--by", "ana")
    assert (made["status"], made["deployed_by"]) == ("active", "ana")
    done = platform.inside("deployments", "create", "flow@2", "--environment", "staging")
    assert done.stdout == "flow 2 deployed in staging\n"
    assert started(platform, "flow") == "1"
    assert started(platform, "flow@2") == "2"
    assert started(platform, "flow", HOLDFAST_ENVIRONMENT="staging") == "2"
    del platform.environ["HOLDFAST_ENVIRONMENT"]
    assert told(platform, "workflows", "delete", "flow@1", code=4)["code"] == "HF4090"
    told(platform, "deployments", "create", "flow@2")
    assert told(platform, "deployments", "rollback", "flow", "--dry-run")["rolled_back"] == "2"
    assert told(platform, "deployments", "rollback", "flow")["version"] == "1"
    rows = told(platform, "deployments", "list", "environment:production", "--sort", "created_at")["items"]
    assert [(row["version"], row["status"]) for row in rows] == [("1", "active"), ("2", "rolled_back")]
    assert told(platform, "deployments", "show", made["id"])["version"] == "1"
    last = told(platform, "deployments", "rollback", "flow")
    assert (last["rolled_back"], last["active"]) == ("1", None)
    assert started(platform, "flow") == "2"
    assert told(platform, "deployments", "rollback", "flow", code=3)["code"] == "HF3070"
    assert told(platform, "deployments", "create", "flow@3", code=4)["code"] == "HF4091"
    assert told(platform, "deployments", "create", "flow", code=2)["code"] == "HF1003"


def test_a_version_is_deleted_and_taken_back(platform: Shell) -> None:
    planned = told(platform, "workflows", "delete", "flow", "--dry-run")["items"]
    assert {row["version"] for row in planned} == {"1", "2", "3"}
    assert platform.inside("workflows", "delete", "flow@2").stdout == "flow 2 deleted\n"
    assert started(platform, "flow") == "1"
    assert platform.inside("workflows", "restore", "flow@2").stdout == "flow 2 restored\n"
    assert started(platform, "flow") == "2"
    told(platform, "workflows", "delete", "flow")
    assert told(platform, "executions", "start", "flow", code=3)["code"] == "HF3002"
    assert told(platform, "workflows", "list")["items"] == []
    assert told(platform, "workflows", "delete", "flow", code=3)["code"] == "HF3002"


def test_a_schedule_is_made_paused_and_deleted(stored: Shell) -> None:
    cron = ("--cron", "0 2 * * 1-5", "--tz", "Europe/Berlin")
    dry = told(stored, "schedules", "create", "nightly", "flow@2", *cron, "--dry-run")
    assert (dry["id"], dry["dry_run"]) == ("nightly", True)
    made = told(
        stored, "schedules", "create", "nightly", "flow@2", *cron, "--input", '{"n": 1}', "--tag", "a",
        "--overlap", "queue", "--catch-up", "all", "--queue", "slow",
    )  # fmt: skip
    assert (made["workflow"], made["version"], made["inputs"], made["tags"]) == ("flow", "2", {"n": 1}, ["a"])
    assert (made["overlap"], made["catch_up"], made["queue"]) == ("queue", "all", "slow")
    assert stored.inside("schedules", "pause", "night").stdout == "nightly paused\n"
    assert told(stored, "schedules", "list", "enabled:false")["items"][0]["id"] == "nightly"
    told(stored, "schedules", "resume", "nightly")
    assert told(stored, "schedules", "show", "nightly")["enabled"] is True
    wrong = told(stored, "schedules", "create", "x", "flow", "--cron", "often", code=2)
    assert (wrong["code"], wrong["where"]) == ("HF1230", "cron")
    wrong = told(stored, "schedules", "create", "x", "flow", "--cron", "@daily", "--tz", "Here", code=2)
    assert (wrong["code"], wrong["where"]) == ("HF1230", "zone")
    told(stored, "schedules", "create", "nightly", "flow", "--cron", "@daily", code=4)
    told(stored, "schedules", "delete", "nightly")
    assert told(stored, "schedules", "list")["items"] == []


def test_a_task_is_made_called_off_and_put_back(stored: Shell) -> None:
    first = told(
        stored, "tasks", "create", "research", "--payload", '{"topic": "otters"}', "--id", "first",
        "--priority", "5", "--metadata", '{"from": "ana"}', "--lease", "90s", "--max-attempts", "2",
        "--type", "look",
    )  # fmt: skip
    assert (first["status"], first["payload"], first["lease"]) == ("pending", {"topic": "otters"}, 90)
    last = told(
        stored, "tasks", "create", "writing", "--depends-on", "first", "--id", "last",
        "--on-failed-dependency", "cancel",
    )  # fmt: skip
    assert (last["status"], last["depends_on"]) == ("blocked", ["first"])
    assert told(stored, "tasks", "create", "x", "--depends-on", "nothing", code=3)["code"] == "HF3050"
    assert told(stored, "tasks", "create", "x", "--id", "first", code=4)["code"] == "HF4060"
    assert told(stored, "tasks", "create", "x", "--payload", "{", code=2)["where"] == "--payload"
    told(stored, "tasks", "create", "x", "--id", "dry", "--dry-run")
    rows = told(stored, "tasks", "list", "status:blocked")["items"]
    assert [row["id"] for row in rows] == ["last"]
    assert stored.inside("tasks", "cancel", "first", "--reason", "not today").stdout == "first cancelled\n"
    assert told(stored, "tasks", "show", "first")["error"]["message"] == "not today"
    assert told(stored, "tasks", "show", "last")["status"] == "cancelled"
    assert told(stored, "tasks", "requeue", "last", code=4)["code"] == "HF4051"
    told(stored, "tasks", "requeue", "first")
    told(stored, "tasks", "requeue", "last")
    assert told(stored, "tasks", "show", "last")["status"] == "blocked"
    assert stored.inside("tasks", "cancel", "first", "nothing").returncode == 10
    assert told(stored, "tasks", "list", "id:dry")["items"] == []


def test_agents_are_found_with_how_they_stand(stored: Shell) -> None:
    told(stored, "tasks", "create", "research", "--id", "t")

    async def work(store: Any) -> None:
        await Agents(store).register("ana", capabilities=["research", "writing"], role="reader")
        await Agents(store).register("bob", capabilities=["writing"])
        assert await tasks.claim(store, "ana", ["research"]) is not None
        assert (await Tasks(store).get("t")).agent == "ana"

    within(stored, work)
    (row,) = told(stored, "agents", "find", "capability:research", "status:idle")["items"]
    assert (row["id"], row["is_alive"], row["load"], row["role"]) == ("ana", True, 1, "reader")
    assert len(told(stored, "agents", "find")["items"]) == 2
    page = told(stored, "agents", "find", "--limit", "1")
    rest = told(stored, "agents", "find", "--cursor", page["next_cursor"])
    assert {page["items"][0]["id"], rest["items"][0]["id"]} == {"ana", "bob"}
    assert told(stored, "agents", "show", "bo")["capabilities"] == ["writing"]
    assert "ana" in stored.inside("agents", "find", "-capability:nothing").stdout
    assert told(stored, "agents", "find", "colour:red", code=2)["code"] == "HF1002"


def test_what_was_said_at_the_start_is_shown(platform: Shell) -> None:
    said = ("--metadata", '{"team": 7}', "--context", '{"user": "ana"}')
    assert told(platform, "run", "flow.yaml", "--id", "here", *said)["status"] == "completed"
    told(platform, "executions", "start", "flow", "--id", "left", *said)
    for id in ("here", "left"):
        shown = told(platform, "executions", "show", id)
        assert (shown["metadata"], shown["context"], shown["agents"]) == ({"team": 7}, {"user": "ana"}, [])
    assert shown["progress"] == {"ended": 0, "known": 1, "fraction": 0.0}
    here = told(platform, "executions", "show", "here")
    assert (here["progress"]["fraction"], here["duration_ms"] > 0) == (1.0, True)
    page = platform.inside("executions", "show", "left").stdout
    assert "progress    0 of 1 steps" in page
    assert 'metadata    {"team": 7}' in page
    wrong = told(platform, "run", "flow.yaml", "--metadata", "[1]", code=2)
    assert (wrong["code"], wrong["where"]) == ("HF1003", "--metadata")
