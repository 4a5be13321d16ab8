"""The commands, the nouns of records and the global flags, as plain data.

`holdfast --help` is made from this module alone, so that it neither waits for the command-line library nor
for any command's module; the same page is shown when help is asked for in any other way. A command's
module exposes the click command as `command`; the commands of a noun follow from its record's declaration.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One top-level command. Without a `module` it is a noun that `holdfast.cli.records` makes."""

    name: str
    module: str
    help: str


class Noun(NamedTuple):
    """One kind of record with commands of its own.

    `record` is `module:class`. `verbs` are those that need no rule but the record's own; a kind that is not
    soft has no `restore`, one that is not searched no `search`, and a sealed one those of `LOOK` alone.
    `fields` are those that `create` and `update` may set, by default all but secrets. `columns` are those of
    `list`, by default a few that the declaration suggests. `module` is that of a group which has more verbs:
    it exposes `command`, made by `holdfast.cli.records.group`.
    """

    name: str
    record: str
    help: str
    verbs: tuple[str, ...] = ("list", "show", "search", "create", "update", "delete", "restore")
    fields: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    module: str = ""


class Flag(NamedTuple):
    """One flag that every command takes. `metavar` is empty for a switch; `env` is its variable."""

    dest: str
    names: tuple[str, ...]
    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    env: str = ""
    counts: bool = False


LOOK = ("list", "show", "search")
"""The verbs of a noun that change nothing."""

NOUNS: tuple[Noun, ...] = (
    Noun("users", "holdfast.records.identity:User", "list, show, make, unlock or delete users",
         (*LOOK, "update"), ("name", "preferences"),
         ("id", "email", "name", "role", "last_login_at", "created_at"), "holdfast.cli.commands.users"),
    Noun("api-keys", "holdfast.records.identity:ApiKey", "list, show, make or revoke API keys", LOOK,
         module="holdfast.cli.commands.api_keys"),
    Noun("sessions", "holdfast.records.identity:Session", "list, show or terminate sessions", LOOK,
         module="holdfast.cli.commands.sessions"),
    Noun("achievements", "holdfast.records.identity:Achievement", "list, show or delete achievements",
         (*LOOK, "delete")),
    Noun("conversations", "holdfast.records.conversations:Conversation", "list, search or edit conversations",
         (*LOOK, "create", "update", "delete"),
         ("id", "title", "user_id", "agent_id", "model_settings", "tags", "metadata"),
         ("id", "title", "status", "user_id", "message_count", "created_at"),
         "holdfast.cli.commands.conversations"),
    Noun("messages", "holdfast.records.conversations:Message", "list, show or search messages", LOOK,
         columns=("id", "conversation_id", "seq", "role", "content")),
    Noun("incidents", "holdfast.records.incidents:Incident", "open, work on, search or list incidents",
         (*LOOK, "update", "delete", "restore"), ("title", "description", "tags"),
         ("id", "title", "severity", "status", "assignee", "detected_at"), "holdfast.cli.commands.incidents"),
    Noun("runbooks", "holdfast.records.runbooks:Runbook", "publish, run, search or list runbooks",
         (*LOOK, "update", "delete", "restore"), ("title", "description", "tags"),
         ("name", "title", "edition", "execution_count", "success_count", "last_execution_at"),
         "holdfast.cli.commands.runbooks"),
    Noun("schedules", "holdfast.records.schedules:Schedule", "list, make, trigger or pause schedules",
         (*LOOK, "delete"), (),
         ("id", "workflow", "cron", "zone", "enabled", "next_run_at", "last_run_at", "last_result"),
         "holdfast.cli.commands.schedules"),
    Noun("agents", "holdfast.records.tasks:AgentRecord", "list, find, describe or delete agents",
         (*LOOK, "update", "delete"), ("role", "type", "capabilities", "metadata"),
         module="holdfast.cli.commands.agents"),
    Noun("tasks", "holdfast.records.tasks:TaskRecord", "list, make, cancel or requeue tasks for agents", LOOK,
         columns=("id", "capability", "status", "priority", "agent", "attempts", "created_at"),
         module="holdfast.cli.commands.tasks"),
    Noun("deployments", "holdfast.records.workflows:Deployment", "list, make or roll back deployments", LOOK,
         columns=("workflow", "version", "environment", "status", "deployed_by", "created_at", "id"),
         module="holdfast.cli.commands.deployments"),
    Noun("audit-logs", "holdfast.records.audit:AuditEntry", "list, verify or export what was done", LOOK,
         columns=("seq", "at", "actor", "action", "resource_kind", "resource_id", "id"),
         module="holdfast.cli.commands.audit_logs"),
)  # fmt: skip
"""The nouns of records: one line makes one. A verb that needs a rule is left out, and written by hand."""

COMMANDS = (
    Entry("init", "holdfast.cli.commands.init", "make the configuration file and the store of a project"),
    Entry("run", "holdfast.cli.commands.run", "run a workflow, or go on with an interrupted run of it"),
    Entry("resume", "holdfast.cli.commands.resume", "go on with executions that were interrupted"),
    Entry("fork", "holdfast.cli.commands.fork", "make a new execution from a step of another one"),
    Entry("replay", "holdfast.cli.commands.replay", "check code against the log of an execution"),
    Entry("worker", "holdfast.cli.commands.worker", "serve queues: claim executions and run them"),
    Entry("scheduler", "holdfast.cli.commands.scheduler", "start what schedules say, when it is time"),
    Entry("executions", "holdfast.cli.commands.executions", "list, show, follow, await, cancel executions"),
    Entry("signals", "holdfast.cli.commands.signals", "send signals, or see who waits for one"),
    Entry("approvals", "holdfast.cli.commands.approvals", "see what people are asked, and decide"),
    Entry("events", "holdfast.cli.commands.events", "list, follow or verify the event log"),
    Entry("workflows", "holdfast.cli.commands.workflows", "list, register, compare or delete workflows"),
    Entry("queues", "holdfast.cli.commands.queues", "list, show, limit or pause queues; their dead letters"),
    Entry("workers", "holdfast.cli.commands.workers", "list, show or stop workers"),
    *(Entry(noun.name, noun.module, noun.help) for noun in NOUNS),
    Entry("storage", "holdfast.cli.commands.storage", "make, check, measure or migrate the store"),
    Entry("doctor", "holdfast.cli.commands.doctor", "find what stands still or may be lost"),
    Entry("config", "holdfast.cli.commands.config", "show, get or validate the configuration"),
    Entry("completion", "holdfast.cli.commands.completion", "make Tab complete commands, ids and names"),
    Entry("version", "holdfast.cli.commands.version", "show the version of Holdfast and of what it runs on"),
    Entry("help", "holdfast.cli.commands.help", "explain a command, or an error by its HF code"),
)

ALIASES: dict[str, str] = {"jobs": "schedules"}
"""Other names of top-level commands."""

FORMATS = ("table", "json", "ndjson", "yaml", "csv")

FLAGS = (
    Flag("config", ("-c", "--config"), "configuration file", "FILE", env="HOLDFAST_CONFIG"),
    Flag("storage", ("-s", "--storage"), "store, instead of the configured one", "URL", env="HOLDFAST_URL"),
    Flag("profile", ("-p", "--profile"), "profile of the configuration", "NAME", env="HOLDFAST_PROFILE"),
    Flag("output", ("-o", "--output"), "form of the output", "FORMAT", FORMATS),
    Flag("json", ("--json",), "short for --output json"),
    Flag("fields", ("--fields",), "columns to print, in this order", "A,B"),
    Flag("no_headers", ("--no-headers",), "no line of column names"),
    Flag("quiet", ("-q", "--quiet"), "ids only; no remarks"),
    Flag("verbose", ("-v", "--verbose"), "say more; -vv adds tracebacks", counts=True),
    Flag("yes", ("-y", "--yes"), "answer yes to every question"),
    Flag("no_input", ("--no-input",), "never ask; fail instead"),
    Flag("dry_run", ("--dry-run",), "say what would be done, and do nothing"),
    Flag("color", ("--color",), "colour; NO_COLOR is honoured", "WHEN", ("auto", "always", "never")),
    Flag("progress", ("--progress",), "progress on stderr", "FORM", ("auto", "plain", "json", "none")),
    Flag("timeout", ("--timeout",), "give up after this long, like 30s", "DURATION"),
    Flag("utc", ("--utc",), "times as UTC instead of relative"),
)


def noun(name: str) -> Noun:
    """The noun of this name; `LookupError` if there is none."""
    for each in NOUNS:
        if each.name == name:
            return each
    raise LookupError(name)


_HEAD = """\
Usage: holdfast [FLAGS] COMMAND [ARGS]

Durable workflows on your own database: run, kill anywhere, run again, go on.

Commands:
"""
_FOOT = """
`holdfast COMMAND --help` explains a command, `holdfast help HF2003` an error.
"""


def render_help() -> str:
    """The page of `holdfast --help`."""
    width = max(len(entry.name) for entry in COMMANDS)
    commands = "".join(f"  {entry.name:<{width}}  {entry.help}\n" for entry in COMMANDS)
    spelled = [(_spell(flag), _explain(flag)) for flag in FLAGS]
    spelled += [("-h, --help", "show help"), ("    --version", "the same as the command")]
    width = max(len(names) for names, _ in spelled)
    flags = "".join(f"  {names:<{width}}  {text}\n" for names, text in spelled)
    return f"{_HEAD}{commands}\nFlags of every command, before or behind it:\n{flags}{_FOOT}"


def _spell(flag: Flag) -> str:
    names = ", ".join(flag.names) if len(flag.names) > 1 else f"    {flag.names[0]}"
    return f"{names} {'|'.join(flag.choices) or flag.metavar}".rstrip()


def _explain(flag: Flag) -> str:
    return f"{flag.help} [{flag.env}]" if flag.env else flag.help
