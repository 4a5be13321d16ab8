"""`holdfast storage`: make, reach, measure and migrate the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.context import Invocation
from holdfast.cli.declare import Group

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
    """Reach the store and say how long that took. Exit codes: 5 unreachable, 3 no database there."""
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


@command.command()
@click.pass_obj
def stats(invocation: Invocation) -> None:
    """Count executions by status, and show how large the tables are."""
    from holdfast.cli.reading import with_store

    async def read(store: Store) -> tuple[dict[str, int], list[tuple[str, int, int]]]:
        return await store.counts(), await store.sizes()

    counts, sizes = with_store(invocation, read)
    tables = [{"table": table, "rows": rows, "bytes": size} for table, rows, size in sizes]
    total = sum(row["bytes"] for row in tables if isinstance(row["bytes"], int))
    if not invocation.output.is_table:
        invocation.output.record({"executions": counts, "tables": tables, "bytes": total}, key="bytes")
        return
    shown = ", ".join(f"{count:,} {status}" for status, count in counts.items()) or "none"
    invocation.output.text(f"executions  {shown}\nsize        {_size(total)}\n")
    rows = [row | {"bytes": _size(int(str(row["bytes"])))} for row in tables]
    invocation.output.records(rows, ["table", "rows", "bytes"], key="table")


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
    pending = sum(state.standing is Standing.PENDING for state in states)
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
