"""What `create`, `update`, `delete` and `restore` of a noun of records do; see `holdfast.cli.records`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.cli.answers import read_json
from holdfast.cli.failures import report
from holdfast.cli.output import counted
from holdfast.cli.reading import with_store
from holdfast.cli.record_values import default_columns, from_json, from_words, made, printed
from holdfast.errors import HoldfastError, InvalidUsage, NoFilter, RecordExists, VersionConflict
from holdfast.records.declare import Record, noun_of, table_of
from holdfast.store.filters import parse
from holdfast.store.lookup import look_up
from holdfast.store.repository import Repository

if TYPE_CHECKING:
    from holdfast.cli.catalogue import Noun
    from holdfast.cli.context import Invocation
    from holdfast.store.store import Store

R = TypeVar("R", bound=Record)
PARTLY = 10
_TRIES = 5
_UNREACHABLE = 5


def create_records(
    invocation: Invocation, noun: Noun, cls: type[R], *, words: Sequence[str], input_: str | None
) -> None:
    """Make one record, or as many as the input lists, all or none, and print them."""
    given = read_json(input_, invocation, what="input") if input_ is not None else {}
    on_top = from_words(cls, words, anew=True, only=noun.fields)
    news = [
        made(cls, {**from_json(cls, each, noun.fields), **on_top})
        for each in (given if isinstance(given, list) else [given])
    ]
    if not news:
        raise InvalidUsage("there is nothing to create", where="--input", fix="list at least one object")

    async def write(store: Store) -> list[R]:
        records = store.repo(cls)
        if invocation.flags.dry_run:
            await _check(records, news)
            return news
        return await records.create_many(news) if isinstance(given, list) else [await records.create(news[0])]

    _print_written(
        invocation, with_store(invocation, write), "created", many=isinstance(given, list), noun=noun
    )


async def _check(records: Repository[R], news: Sequence[R]) -> None:
    """Whether they could be stored, as far as that can be told without doing it."""
    for each in news:
        records.mapping.values(each)
    for taken in await records.get_many([each.id for each in news]):
        raise RecordExists(f"there is a {noun_of(type(taken))} {taken.id!r} already", id=taken.id)


def _print_written(
    invocation: Invocation, records: Sequence[Record], done: str, *, many: bool, noun: Noun | None = None
) -> None:
    dry: dict[str, Any] = {"dry_run": True} if invocation.flags.dry_run else {}
    if invocation.output.is_table:
        verb = f"would be {done}" if dry else done
        invocation.output.text("\n".join(f"{each.id} {verb}" for each in records))
    elif many:
        columns = list((noun and noun.columns) or default_columns(table_of(type(records[0]))))
        invocation.output.records([printed(each) for each in records], columns, **dry)
    else:
        invocation.output.record({**printed(records[0]), **dry})


def update_record(
    invocation: Invocation,
    noun: Noun,
    cls: type[R],
    *,
    id_: str,
    words: Sequence[str],
    unset: Sequence[str],
    if_revision: int | None,
) -> None:
    """Change fields of one record and print it; without a revision the newest state is changed."""
    changes = from_words(cls, words, unset, anew=False, only=noun.fields)
    if not changes:
        raise InvalidUsage("nothing is to be changed", where="update", fix="add --set name=value")

    async def write(store: Store) -> R:
        records = store.repo(cls)
        for attempt in range(_TRIES):
            record = await look_up(records, id_)
            if if_revision is not None and record.revision != if_revision:
                raise VersionConflict(
                    f"{record.id!r} has revision {record.revision}, and not {if_revision}",
                    id=record.id, actual=record.revision, expected=if_revision,
                )  # fmt: skip
            changed = replace(record, **changes)
            if invocation.flags.dry_run:
                records.mapping.values(changed)
                return changed
            try:
                return await records.update(changed)
            except VersionConflict:
                # Somebody changed other fields meanwhile: these are set on top of that.
                if if_revision is not None or attempt == _TRIES - 1:
                    raise
        raise AssertionError("the last try returns or raises")

    _print_written(invocation, [with_store(invocation, write)], "updated", many=False)


def delete_records(
    invocation: Invocation, noun: Noun, cls: type[Record], *, ids: Sequence[str], where: str | None
) -> int:
    """Delete the records that are named, or all that fit a filter; the exit code."""
    if bool(ids) == (where is not None):
        raise InvalidUsage(
            f"name {noun.name}, or say which with --where", where="delete", fix=f"holdfast {noun.name} list"
        )
    if where is not None:
        return _delete_where(invocation, noun, cls, where)

    return change_each(invocation, cls, ids, lambda store, id: store.repo(cls).delete(id), "deleted")


def _delete_where(invocation: Invocation, noun: Noun, cls: type[Record], where: str) -> int:
    asked = parse(where, table_of(cls).columns)
    if not asked:
        raise NoFilter(f"delete of all {noun.name} there are needs a filter", where="--where")

    async def work(store: Store) -> tuple[int, int]:
        records = store.repo(cls)
        matched = (await records.count(asked)).rows
        if matched == 0 or invocation.flags.dry_run:
            return matched, 0
        if not invocation.confirm(f"delete {counted(matched, 'record', 'records')} of {noun.name}?"):
            invocation.say("nothing was done")
            return matched, 0
        return matched, await records.delete_many(asked)

    matched, deleted = with_store(invocation, work)
    if not invocation.output.is_table:
        dry: dict[str, Any] = {"dry_run": True} if invocation.flags.dry_run else {}
        invocation.output.record({"matched": matched, "deleted": deleted, **dry}, key="deleted")
    elif invocation.flags.dry_run:
        invocation.output.text(f"{matched:,} of {noun.name} would be deleted")
    else:
        invocation.output.text(f"{deleted:,} of {matched:,} deleted")
    return 0


def restore_records(invocation: Invocation, cls: type[Record], ids: Sequence[str]) -> int:
    """Take deletions back; the exit code."""
    return change_each(
        invocation, cls, ids, lambda store, id: store.repo(cls).restore(id), "restored", deleted=True
    )


def tell(invocation: Invocation, record: Record, done: str, **more: Any) -> None:
    """Print what became of one record; `more` goes into the structured forms."""
    dry: dict[str, Any] = {"dry_run": True} if invocation.flags.dry_run else {}
    if invocation.output.is_table:
        invocation.output.text(f"{record.id} {'would be ' if dry else ''}{done}")
    else:
        invocation.output.record({**printed(record), **more, **dry})


def change_each(
    invocation: Invocation,
    cls: type[R],
    ids: Sequence[str],
    act: Callable[[Store, str], Awaitable[Any]],
    done: str,
    *,
    deleted: bool = False,
) -> int:
    """Do the same with every record that is named; the exit code.

    What is refused is told and does not stop the others. Ids of `deleted` records are given whole.
    """
    errors: list[HoldfastError] = []

    async def work(store: Store) -> list[str]:
        ended = []
        for id in ids:
            try:
                whole = id if deleted else (await look_up(store.repo(cls), id)).id
                if not invocation.flags.dry_run:
                    await act(store, whole)
                ended.append(whole)
            except HoldfastError as error:
                if error.exit_code == _UNREACHABLE:
                    raise
                errors.append(error)
        return ended

    ended = with_store(invocation, work)
    dry: dict[str, Any] = {"dry_run": True} if invocation.flags.dry_run else {}
    said = f"would be {done}" if dry else done
    if not invocation.output.is_table:
        invocation.output.records([{"id": id, "result": said} for id in ended], ["id", "result"], **dry)
    elif ended:
        invocation.output.text("\n".join(f"{id} {said}" for id in ended))
    codes = [0] * len(ended) + [report(error, invocation) for error in errors]
    return codes[0] if len(set(codes)) == 1 else PARTLY
