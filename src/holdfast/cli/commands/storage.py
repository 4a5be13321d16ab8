"""`holdfast storage`: make, reach, measure and migrate the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group
from holdfast.errors import InvalidUsage

if TYPE_CHECKING:
    from holdfast.store.store import Store

PENDING = 4


@click.group("storage", cls=Group)
def command() -> None:
    """Make, check, measure or migrate the store."""


@command.command()
@click.pass_obj
def init(invocation: Invocation) -> None:
    """Make the store if it is not there, and bring its schema up to date. Running it again does no harm."""
    from holdfast.cli.migrating import migrate_up

    migrate_up(invocation)


@command.command("test-connection")
@click.pass_obj
def test_connection(invocation: Invocation) -> None:
    """Reach the store, say how long that took and how the connection is encrypted.

    Exit codes: 5 unreachable or TLS failed, 3 no database there, 2 access denied.
    """
    from holdfast.cli.migrating import probe
    from holdfast.cli.output import counted

    row = probe(invocation)
    if not invocation.output.is_table:
        invocation.output.record(row, key="store")
        return
    state = (
        f"{counted(row['pending_migrations'], 'migration', 'migrations')} pending"
        if row["pending_migrations"]
        else "schema up to date"
    )
    invocation.output.text(f"{row['store']} answers in {row['latency_ms']} ms, {state}")
    for link in row["connections"]:
        invocation.output.text(f"{link['server']}: {_protection(link)}")


_VERIFIED = {
    "name": "the server's certificate and name are verified",
    "certificate": "the server's certificate is verified, its name is not",
    "nothing": "the server is not verified",
}


def _protection(link: dict[str, Any]) -> str:
    if link["tls"] is None:
        return "not encrypted"
    return f"{link['tls']}, {link['cipher']}; {_VERIFIED[link['verified']]} ({link['mode']})"


@command.command()
@click.pass_obj
def health(invocation: Invocation) -> int:
    """See whether the store can be used: reached, read, written, of the right schema, and how fast.

    What is written is rolled back. Each check may take --timeout (default 10s). Exit codes: 0 healthy, 5
    unreachable or unusable for now, 6 a schema of another version, 3 no database there, 2 access denied.
    """
    from holdfast.cli.health import show_health

    return show_health(invocation)


@command.command()
@click.pass_obj
def stats(invocation: Invocation) -> None:
    """Count executions by status, and show how large the tables are.

    JSON has the statements and connections of this process beside them.
    """
    from holdfast.cli.health import process_record
    from holdfast.cli.reading import with_store

    async def read(store: Store) -> tuple[dict[str, int], list[tuple[str, int, int]], dict[str, Any]]:
        return await store.counts(), await store.sizes(), process_record(store.figures())

    counts, sizes, process = with_store(invocation, read)
    tables = [{"table": table, "rows": rows, "bytes": size} for table, rows, size in sizes]
    total = sum(row["bytes"] for row in tables if isinstance(row["bytes"], int))
    if not invocation.output.is_table:
        row = {"executions": counts, "tables": tables, "bytes": total, "process": process}
        invocation.output.record(row, key="bytes")
        return
    shown = ", ".join(f"{count:,} {status}" for status, count in counts.items()) or "none"
    invocation.output.text(f"executions  {shown}\nsize        {_size(total)}\n")
    rows = [row | {"bytes": _size(int(str(row["bytes"])))} for row in tables]
    invocation.output.records(rows, ["table", "rows", "bytes"], key="table")


@command.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--only", multiple=True, metavar="NAMES", help="these parts alone, such as executions,users")
@click.option("--since", metavar="TIME", help="what started or changed since a date, or within an age (30d)")
@click.option("--resume", is_flag=True, help="go on with a copy, or bring a finished one up to date")
@click.option("--verify", is_flag=True, help="compare the two stores and write nothing")
@click.pass_obj
def copy(
    invocation: Invocation,
    source: str,
    target: str,
    only: tuple[str, ...],
    since: str | None,
    resume: bool,
    verify: bool,
) -> None:
    """Copy a whole store into a new one of any kind, by their URLs, and compare both at the end.

    Nothing else may use either meanwhile. Killed at any point it goes on with --resume. Executions that wait
    or were interrupted go on at the target. Exit codes: 4 in use, not empty or begun before, 6 not equal.
    """
    from holdfast.cli.copying import copy_store, parse_since
    from holdfast.upkeep.selection import Selection

    names = tuple(name.strip() for part in only for name in part.split(",") if name.strip())
    selection = Selection(names, parse_since(since) if since else None)
    copy_store(invocation, source, target, selection, resume=resume, verify=verify)


@command.command()
@click.pass_obj
def verify(invocation: Invocation) -> int:
    """Read every row back and compare what belongs together. Changes nothing.

    Looks at the database's own files, values that do not read, rows without the row they belong to, the event
    log, numbers of messages, the chain of audit entries and, in a file store, the documents. Exit codes: 0
    sound, 6 something is not as it was written.
    """
    from holdfast.cli.upkeep import verify_store

    return verify_store(invocation)


@command.command()
@click.pass_obj
def optimize(invocation: Invocation) -> None:
    """Give room back and bring the planner's statistics up to date, while the store is in use."""
    from holdfast.cli.upkeep import optimize_store

    optimize_store(invocation)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


@command.group("migrate", cls=Group)
def migrate() -> None:
    """Look at, apply or take back migrations of the schema.

    Your own migrations lie in the folder of the setting storage.migrations.dir and share Holdfast's ledger.
    """


@migrate.command()
@click.option("--check", is_flag=True, help="exit code 4 when a migration is not applied")
@click.pass_obj
def status(invocation: Invocation, check: bool) -> int:
    """List all migrations and whether they are applied. Reads only."""
    from holdfast.cli.migrating import read_states
    from holdfast.store.migrations import Standing

    states = read_states(invocation)
    rows: list[dict[str, Any]] = [
        {
            "version": state.version,
            "name": state.name,
            "state": str(state.standing),
            "applied_at": state.applied_at,
            "duration_ms": state.duration_ms,
            "applied_by": state.applied_by,
            "reversible": state.reversible,
            "source": state.source,
        }
        for state in states
    ]
    pending = sum(state.standing in (Standing.PENDING, Standing.INTERRUPTED) for state in states)
    columns = ["version", "name", "state", "applied_at", "duration_ms", "applied_by"]
    invocation.output.records(rows, columns, key="version", pending=pending)
    return PENDING if check and pending else 0


@migrate.command()
@click.pass_obj
def up(invocation: Invocation) -> None:
    """Apply every migration that is not applied, in order."""
    from holdfast.cli.migrating import migrate_up

    migrate_up(invocation)


@migrate.command()
@click.option(
    "-s", "--steps", type=click.IntRange(1), default=1, show_default=True, help="how many to take back"
)
@click.option("--allow-data-loss", is_flag=True, help="take back also what drops rows")
@click.pass_obj
def down(invocation: Invocation, steps: int, allow_data_loss: bool) -> None:
    """Take back the newest migrations, newest first; refused with exit code 4 when rows would be lost."""
    from holdfast.cli.migrating import migrate_down

    migrate_down(invocation, steps, allow_data_loss=allow_data_loss)


@migrate.command()
@click.argument("version", type=click.IntRange(0))
@click.option("--allow-data-loss", is_flag=True, help="take back also what drops rows")
@click.pass_obj
def to(invocation: Invocation, version: int, allow_data_loss: bool) -> None:
    """Make VERSION the newest applied migration; 0 takes everything back."""
    from holdfast.cli.migrating import migrate_to

    migrate_to(invocation, version, allow_data_loss=allow_data_loss)


@migrate.command()
@click.pass_obj
def plan(invocation: Invocation) -> None:
    """Say what `up` would do: each statement with its table, its rows, who waits for it, and a time.

    Reads only. Rows are the database's own estimate, and times are made from them: they tell seconds from
    hours. On PostgreSQL and SQLite a migration keeps its locks until its last statement.
    """
    from holdfast.cli.migrating import show_plan

    show_plan(invocation)


@migrate.command()
@click.argument("version", type=click.IntRange(1))
@click.option("--applied", is_flag=True, help="all of it is there; take its file as it is now")
@click.option("--pending", is_flag=True, help="nothing of it is there")
@click.option("--ran", is_flag=True, help="MySQL: the statement it stopped at ran; go on behind it")
@click.option("--did-not-run", is_flag=True, help="MySQL: that statement did not run; run it")
@click.pass_obj
def resolve(
    invocation: Invocation, version: int, applied: bool, pending: bool, ran: bool, did_not_run: bool
) -> None:
    """Put the ledger right by hand: say how migration VERSION really stands. Changes nothing else.

    Asks first; --yes answers. Exit codes: 3 no such migration, 2 it did not stop at a statement.
    """
    from holdfast.cli.migrating import repair
    from holdfast.store.migrations import Verdict

    given = {"applied": applied, "pending": pending, "ran": ran, "did-not-run": did_not_run}
    said = [word for word, is_given in given.items() if is_given]
    if len(said) != 1:
        raise InvalidUsage("say one of --applied, --pending, --ran and --did-not-run")
    repair(invocation, version, Verdict(said[0]))


@migrate.command()
@click.argument("name")
@click.option("--dir", "folder", metavar="DIR", help="instead of storage.migrations.dir, or ./migrations")
@click.pass_obj
def create(invocation: Invocation, name: str, folder: str | None) -> None:
    """Begin a migration of your own: an empty file with the next number."""
    from holdfast.cli.migrating import check_name
    from holdfast.store import migrations

    configured = invocation.load_config().config.storage.migrations.dir
    place = Path(folder) if folder else configured or Path("migrations")
    if invocation.flags.dry_run:
        check_name(name)
        invocation.output.record(
            {"folder": str(place), "name": name, "result": "would be created"}, key="folder"
        )
        return
    path = migrations.create(place, name)
    if invocation.output.is_table:
        invocation.output.text(f"created {path}")
        if configured is None or configured.absolute() != place.absolute():
            invocation.say(f"to have it applied, set storage.migrations.dir: {place}")
    else:
        invocation.output.record({"file": str(path), "result": "created"}, key="file")


@migrate.command()
@click.option(
    "--from",
    "start",
    type=click.IntRange(0),
    default=0,
    metavar="VERSION",
    help="begin above it (down: with it)",
)
@click.option("--to", "end", type=click.IntRange(0), metavar="VERSION", help="end with it")
@click.option("--down", is_flag=True, help="print the way back instead")
@click.pass_obj
def sql(invocation: Invocation, start: int, end: int | None, down: bool) -> None:
    """Print migrations as SQL, ledger rows included, for somebody else to run. Opens no database."""
    from holdfast.cli.migrating import known_to
    from holdfast.store import migrations

    config = invocation.load_config().config
    known = known_to(config)
    text = migrations.sql(
        known,
        start,
        end,
        migrations.Direction.DOWN if down else migrations.Direction.UP,
        schema=config.storage.postgresql.schema if known.dialect == "postgresql" else None,
    )
    if invocation.output.is_table:
        invocation.output.text(text)
    else:
        invocation.output.record({"dialect": known.dialect, "sql": text}, key="sql")
