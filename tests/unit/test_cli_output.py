"""How values and records are written: on a terminal, in a pipe, and in JSON."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.cli.catalogue import ALIASES, COMMANDS, FLAGS, render_help
from holdfast.cli.context import Invocation
from holdfast.cli.failures import peek_flags
from holdfast.cli.flags import GlobalFlags
from holdfast.cli.output import Output, plain, relative
from holdfast.config.secrets import Secret
from holdfast.errors import InvalidArgument, InvalidUsage
from holdfast.records.executions import ExecutionStatus

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def flags(**given: object) -> GlobalFlags:
    return GlobalFlags(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ExecutionStatus.READY, "ready"),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-01-01T00:00:00Z"),
        (timedelta(minutes=90), 5400.0),
        (Secret("geheim"), "***"),
        (Path("a/b"), "a/b"),
        (b"\x01\xff", "01ff"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"b": {2, 1}, 3: None}, {"b": [1, 2], "3": None}),
        ((1, 2.5, True), [1, 2.5, True]),
    ],
)
def test_values_in_json(value: object, expected: object) -> None:
    assert plain(value) == expected
    json.dumps(plain(value))


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (timedelta(seconds=0), "0 s ago"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=3), "3 min ago"),
        (timedelta(hours=47), "47 h ago"),
        (timedelta(days=5), "5 d ago"),
        (-timedelta(hours=2), "in 2 h"),
    ],
)
def test_relative_times(ago: timedelta, expected: str) -> None:
    assert relative(NOW - ago, NOW) == expected


def test_a_time_long_ago_is_a_date() -> None:
    assert relative(NOW - timedelta(days=200), NOW).startswith("2025-07-")


ROWS = [
    {"id": "a", "at": NOW, "note": "[bold]x[/bold]", "more": {"k": 1}},
    {"id": "b", "at": None, "note": "y" * 300, "more": None},
]


def printed(stream: io.StringIO, **given: object) -> str:
    Output(stream, flags(**given), color=False).records(ROWS, ["id", "at", "note"])
    return stream.getvalue()


def test_a_terminal_gets_a_table_with_relative_times_and_data_as_it_is() -> None:
    text = printed(Terminal())
    assert text.split()[:3] == ["ID", "AT", "NOTE"]
    assert "[bold]x[/bold]" in text
    assert NOW.isoformat() not in text
    assert text.count("y") >= 300


def test_utc_prints_whole_times_on_a_terminal() -> None:
    assert "2026-01-31" in printed(Terminal(), utc=True)


def test_a_pipe_gets_whole_lines() -> None:
    lines = printed(io.StringIO()).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == ["a", "2026-01-31T12:00:00Z", "[bold]x[/bold]"]
    assert lines[2].endswith("y" * 300)


def test_json_has_every_field_and_the_page_beside_the_items() -> None:
    stream = io.StringIO()
    Output(stream, flags(output="json"), color=False).records(ROWS, ["id"], next_cursor="c")
    found = json.loads(stream.getvalue())
    assert found["next_cursor"] == "c"
    assert found["items"][0]["more"] == {"k": 1}


def test_fields_choose_and_order_the_columns_in_every_form() -> None:
    for form in ("json", "ndjson", "csv", "table", "yaml"):
        text = printed(io.StringIO(), output=form, fields="more,id")
        assert text.index("more".upper() if form == "table" else "more") < text.lower().index("id")
        assert "note" not in text
    with pytest.raises(InvalidUsage, match="'nte'"):
        printed(io.StringIO(), fields="nte")


def test_quiet_prints_ids() -> None:
    assert printed(io.StringIO(), quiet=True) == "a\nb\n"


def test_an_empty_list_has_a_head_and_nothing_else() -> None:
    stream = io.StringIO()
    Output(stream, flags(), color=False).records([], ["id", "at"])
    assert stream.getvalue() == "ID  AT\n"


@pytest.mark.parametrize(
    ("environ", "given", "terminal", "colored"),
    [
        ({}, "auto", True, True),
        ({}, "auto", False, False),
        ({"NO_COLOR": "1"}, "auto", True, False),
        ({"NO_COLOR": ""}, "auto", True, True),
        ({"TERM": "dumb"}, "auto", True, False),
        ({"NO_COLOR": "1"}, "always", False, True),
        ({}, "never", True, False),
    ],
)
def test_colour(environ: dict[str, str], given: str, terminal: bool, colored: bool) -> None:
    invocation = Invocation(environ=environ, cwd=Path(), flags=flags(color=given))
    assert invocation.colored(Terminal() if terminal else io.StringIO()) is colored


def asking(answer: str, *, terminal: bool = True, **given: object) -> tuple[bool, str]:
    stdin = Terminal(answer) if terminal else io.StringIO(answer)
    stderr = io.StringIO()
    invocation = Invocation(environ={}, cwd=Path(), stdin=stdin, stderr=stderr, flags=flags(**given))
    return invocation.confirm("Really?"), stderr.getvalue()


def test_questions() -> None:
    assert asking("y\n") == (True, "Really? [y/N] ")
    assert asking("\n") == (False, "Really? [y/N] ")
    assert asking("n\n", yes=True) == (True, "")
    for given in ({"terminal": False}, {"no_input": True}):
        with pytest.raises(InvalidUsage, match="Really"):
            asking("y\n", **given)  # type: ignore[arg-type]


def test_the_timeout_flag_needs_a_unit() -> None:
    assert Invocation(environ={}, cwd=Path(), flags=flags(timeout="30s")).timeout == timedelta(seconds=30)
    with pytest.raises(InvalidArgument):
        _ = Invocation(environ={}, cwd=Path(), flags=flags(timeout="30")).timeout


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["x", "--json"], "json"),
        (["-o", "ndjson", "x"], "ndjson"),
        (["-ojson"], "json"),
        (["x", "--", "--json"], "table"),
        (["x", "-o", "csv"], "table"),
    ],
)
def test_the_form_of_failures_is_known_before_parsing(arguments: list[str], output: str) -> None:
    found = flags()
    peek_flags(arguments, found)
    assert found.output == output


def test_the_help_page_names_every_command_and_flag_and_fits_a_terminal() -> None:
    page = render_help()
    for entry in COMMANDS:
        assert f"  {entry.name} " in page
    for flag in FLAGS:
        assert all(name in page for name in flag.names)
    assert max(map(len, page.splitlines())) <= 100
    assert set(ALIASES.values()) <= {entry.name for entry in COMMANDS}
