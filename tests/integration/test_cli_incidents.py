"""`holdfast incidents`, `runbooks` and `audit-logs`, as a person meets them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from holdfast.domain.audit import Act, Audit
from holdfast.domain.keyrings import Keyring
from holdfast.records.audit import AuditEntry
from holdfast.store.store import Store
from holdfast.stores import build_store, config_for
from tests.integration.shell import Shell

RESTART = """\
name: restart
inputs:
  properties: {service: {type: string}}
  required: [service]
steps:
  - id: say
    shell: [echo, restarting, "${{ inputs.service }}"]
"""


@pytest.fixture
def holdfast(stored: Shell) -> Shell:
    assert stored.inside("storage", "init").returncode == 0
    (stored.folder / "restart.yaml").write_text(RESTART)
    return stored


def told(holdfast: Shell, *arguments: str, code: int = 0) -> Any:
    done = holdfast.inside(*arguments, "--json")
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout or done.stderr)


def lines(holdfast: Shell, *arguments: str) -> list[str]:
    done = holdfast.inside(*arguments)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout.splitlines()


def within(holdfast: Shell, work: Callable[[Store], Awaitable[Any]]) -> Any:
    """What `work` does with the folder's store, by the library."""
    url = holdfast.environ.get("HOLDFAST_URL") or f"sqlite:///{holdfast.folder}/.holdfast/holdfast.db"

    async def run() -> Any:
        async with build_store(config_for(url)) as store:
            return await work(store)

    return asyncio.run(run())


def audited(holdfast: Shell, *acts: Act, keys: Keyring | None = None) -> None:
    within(holdfast, lambda store: Audit(store, keys).append_many(acts))


async def forge(store: Store) -> None:
    """Change an entry as somebody can who owns the tables."""
    table = store.repo(AuditEntry).mapping.dialect.table("audit_logs")
    on = f" ON {table}" if store.driver.dialect == "postgresql" else ""
    for text in (
        f"DROP TRIGGER audit_logs_never_change{on}",
        f"UPDATE {table} SET actor = 'eve' WHERE seq = 3",
    ):
        async with store.transaction() as transaction:
            await transaction.fetch_text(text)


def test_an_incident_from_its_opening_to_its_end(holdfast: Shell) -> None:
    made = told(
        holdfast, "incidents", "open", "Checkout is slow", "--severity", "high", "--service", "web",
        "--service", "db", "--tag", "vip", "--id", "i1", "--by", "pager", "--text", "alert 7",
    )  # fmt: skip
    assert (made["status"], made["affected_services"], made["tags"]) == ("open", ["web", "db"], ["vip"])
    assert lines(holdfast, "incidents", "acknowledge", "i1", "--by", "ana") == ["i1 acknowledged"]
    assert told(holdfast, "incidents", "show", "i1")["assignee"] == "ana"
    refused = told(holdfast, "incidents", "acknowledge", "i1", code=4)
    assert (refused["code"], refused["status"]) == ("HF4080", "acknowledged")
    assert "resolve" in refused["allowed"]
    told(holdfast, "incidents", "assign", "i1", "eve")
    assert told(holdfast, "incidents", "assign", "i1")["assignee"] is None
    assert told(holdfast, "incidents", "raise-severity", "i1", "critical")["severity"] == "critical"
    told(holdfast, "incidents", "rescope", "i1", "--service", "web", "--blast-radius", "Europe")
    told(holdfast, "incidents", "note", "@last", "rolled back")
    told(holdfast, "incidents", "mitigate", "i", "--remediation", "rolled back")
    done = told(holdfast, "incidents", "resolve", "i1", "--root-cause", "a missing index")
    assert (done["blast_radius"], done["remediation"], done["root_cause"]) == (
        "Europe", "rolled back", "a missing index",
    )  # fmt: skip
    assert told(holdfast, "incidents", "close", "i1", "--dry-run")["dry_run"] is True
    assert told(holdfast, "incidents", "show", "i1")["status"] == "resolved"
    told(holdfast, "incidents", "close", "i1")
    assert told(holdfast, "incidents", "reopen", "i1")["reopened"] == 1

    rows = told(holdfast, "incidents", "timeline", "i1")["items"]
    assert [each["seq"] for each in rows] == list(range(1, 12))
    assert (rows[0]["actor"], rows[0]["text"], rows[6]["text"]) == ("pager", "alert 7", "rolled back")
    page = told(holdfast, "incidents", "timeline", "i1", "--limit", "4")
    rest = told(holdfast, "incidents", "timeline", "i1", "--cursor", page["next_cursor"])["items"]
    assert page["items"] + rest == rows
    assert lines(holdfast, "incidents", "search", "checkout", "-q") == ["i1"]
    assert told(holdfast, "incidents", "list", "service:db")["items"] == []
    assert holdfast.inside("incidents", "open", " ").returncode == 2
    assert holdfast.inside("incidents", "close", "i7").returncode == 3
    assert holdfast.inside("incidents", "update", "i1", "--set", "status=closed").returncode == 2


def test_a_runbook_is_published_run_and_counted(holdfast: Shell) -> None:
    told(holdfast, "incidents", "open", "Web hangs", "--service", "web", "--id", "i1")
    told(holdfast, "runbooks", "create", "restart", "--title", "Restart", "--on-service", "web")
    assert told(holdfast, "runbooks", "run", "restart", code=4)["code"] == "HF4081"
    assert told(holdfast, "runbooks", "publish", "restart", "restart.yaml", "--by", "ana")["edition"] == 1
    (holdfast.folder / "next.yaml").write_text(RESTART.replace("restarting", "stopping"))
    dry = told(holdfast, "runbooks", "publish", "restart", "next.yaml", "--dry-run")
    assert (dry["edition"], dry["dry_run"]) == (2, True)
    told(holdfast, "runbooks", "publish", "restart", "next.yaml", "--note", "less hope")
    assert [each["edition"] for each in told(holdfast, "runbooks", "editions", "restart")["items"]] == [2, 1]
    assert "+  - stopping" in lines(holdfast, "runbooks", "diff", "restart", "1")
    assert told(holdfast, "runbooks", "diff", "restart", "1", "1") == {"name": "restart", "diff": ""}
    assert lines(holdfast, "runbooks", "for", "i1", "-q") == ["restart"]
    told(holdfast, "runbooks", "trigger", "restart", "--on-severity", "critical")
    assert lines(holdfast, "runbooks", "for", "i1", "-q") == []

    run = ("runbooks", "run", "restart", "--incident", "i1", "--input", '{"service": "web"}')
    assert told(holdfast, *run, "--dry-run")["edition"] == 2
    assert lines(holdfast, *run, "--id", "r1") == ["r1"]
    assert lines(holdfast, *run, "--id", "r1") == ["r1"]
    assert told(holdfast, "runbooks", "run", "restart", "--input", "{}", code=2)["code"] == "HF1210"
    assert told(holdfast, "runbooks", "run", "restart", "--input", "[]", code=2)["code"] == "HF1003"
    assert told(holdfast, "runbooks", "settle")["items"] == []
    assert holdfast.inside("resume", "runbook-r1").returncode == 0
    assert [each["outcome"] for each in told(holdfast, "runbooks", "settle", "r1")["items"]] == ["completed"]
    assert told(holdfast, "runbooks", "settle")["items"] == []
    shown = told(holdfast, "runbooks", "show", "restart")
    assert (shown["execution_count"], shown["success_rate"]) == (1, 1.0)
    assert [each["id"] for each in told(holdfast, "runbooks", "runs", "restart")["items"]] == ["r1"]
    kinds = [each["kind"] for each in told(holdfast, "incidents", "timeline", "i1")["items"]]
    assert kinds == ["opened", "runbook", "runbook"]
    assert holdfast.inside("runbooks", "show", "rest").returncode == 3
    assert holdfast.inside("runbooks", "update", shown["id"], "--set", "edition=7").returncode == 2
    assert holdfast.inside("--storage", "memory://", *run).returncode == 2


def test_the_audit_log_is_listed_checked_and_taken_elsewhere(holdfast: Shell) -> None:
    audited(
        holdfast,
        *(
            Act(action="login", actor=f"u{n}", resource_kind="sessions", resource_id=f"s{n}")
            for n in range(5)
        ),
    )
    assert [each["seq"] for each in told(holdfast, "audit-logs", "list", "--sort", "seq")["items"]] == [
        1,
        2,
        3,
        4,
        5,
    ]
    newest = told(holdfast, "audit-logs", "list", "actor:u3")["items"][0]
    assert told(holdfast, "audit-logs", "show", newest["id"])["action"] == "login"
    exported = [json.loads(line) for line in lines(holdfast, "audit-logs", "export")]
    assert [each["seq"] for each in exported] == [1, 2, 3, 4, 5]
    assert exported[1]["previous"] == exported[0]["hash"]
    assert len(lines(holdfast, "audit-logs", "export", "actor:u3")) == 1
    (kept,) = lines(holdfast, "audit-logs", "head")
    assert kept == f"5:{exported[-1]['hash']}"
    assert lines(holdfast, "audit-logs", "verify", "--known", kept) == ["5 entries, and the chain holds"]
    assert holdfast.inside("audit-logs", "verify", "--known", "5").returncode == 2
    assert holdfast.inside("audit-logs", "delete", newest["id"]).returncode == 2

    within(holdfast, forge)
    broken = told(holdfast, "audit-logs", "verify", code=6)
    assert (broken["code"], broken["seq"], broken["fault"], broken["good"]) == ("HF6080", 3, "altered", 2)


def test_a_keyed_chain_needs_its_key(holdfast: Shell) -> None:
    key = Keyring.new_key("k1")
    audited(holdfast, Act(action="a", actor="ana", resource_kind="x"), keys=Keyring.parse(key))
    assert told(holdfast, "audit-logs", "verify", code=6)["fault"] == "unknown key"
    holdfast.environ["HOLDFAST_AUDIT_KEY"] = key
    assert told(holdfast, "audit-logs", "verify")["entries"] == 1
    holdfast.environ["HOLDFAST_AUDIT_KEY"] = Keyring.new_key("k1")
    assert told(holdfast, "audit-logs", "verify", code=6)["fault"] == "altered"
