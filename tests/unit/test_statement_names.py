"""Generated statements are named after their table and what they do with it."""

from __future__ import annotations

import pytest

from holdfast.store import statements
from holdfast.store.dialects import Dialect
from holdfast.store.filters import Query, parse
from holdfast.store.mapping import mapping_of
from holdfast.store.pages import Pages
from holdfast.store.query import executions_count, executions_page, parse_query
from holdfast.store.statement_names import name_of
from tests.conformance.notebooks import Note

DIALECTS = [Dialect("sqlite", "?"), Dialect("postgresql", "$", '"my ""odd"" schema"'), Dialect("mysql", "?")]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_what_a_repository_asks_is_named(dialect: Dialect) -> None:
    mapping = mapping_of(Note, dialect)
    made = statements.of(mapping, "now()")
    asked = parse("tag:vip mood:cross fire", mapping.table.columns)

    def pages() -> Pages[Note]:
        return Pages(mapping, "tenant", asked)

    page = {"sort": "id", "limit": 5, "cursor": None, "offset": 0}
    texts = {
        "get": made.get, "create": made.create, "update": made.update, "upsert": made.upsert,
        "delete": made.delete, "restore": made.restore, "find": pages().select(**page)[0],
        "search": Pages(mapping, "tenant", Query((), "fire")).ranked(limit=5, cursor=None)[0],
        "count": pages().count()[0],
    }  # fmt: skip
    assert {name_of(text) for text in texts.values()} == {f"notes.{verb}" for verb in texts}
    for verb, text in texts.items():
        assert name_of(text) == f"notes.{verb}", text
    assert name_of(made.delete_where("tenant", asked)[0]) == "notes.delete"
    assert name_of(made.update_where("tenant", asked, {"done": True})[0]) == "notes.update"
    assert name_of(pages().count_up_to(10)[0]) == "notes.count"
    assert (
        name_of(executions_page(dialect, "t", parse_query("tag:x"), before=None, limit=1)[0])
        == "executions.find"
    )
    assert name_of(executions_count(dialect, "t", parse_query(""))[0]) == "executions.count"
    if dialect.name != "sqlite":
        assert name_of(made.lock) == "notes.lock"
        estimate = pages().estimate()
        assert estimate is not None
        assert name_of(estimate[0]) == "notes.estimate"


def test_what_has_no_table_is_named_too() -> None:
    assert name_of("SELECT now()") == "store.other"
    assert name_of("") == "store.other"
