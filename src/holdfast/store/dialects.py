"""How databases spell the same thing: placeholders, values by kind, lists, words.

The one place where generated SQL and row mapping differ between databases. Statements that differ by more
than this are named `.sql` files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from holdfast.errors import InvalidData
from holdfast.records.tables import Column, Kind
from holdfast.store import codec
from holdfast.store.rows import microseconds, moment
from holdfast.store.words import words_of

_MICROSECOND = timedelta(microseconds=1)
INT_MAX = 2**63 - 1
"""The greatest whole number that a column holds."""

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One database's way. `marker` comes before the number of a bound value."""

    name: str
    marker: str
    schema: str = ""

    def mark(self, number: int) -> str:
        """The placeholder of the bound value with this number, counted from 1."""
        return f"{self.marker}{number}"

    def table(self, name: str) -> str:
        """The table as statements name it."""
        return f"{self.schema}.{name}" if self.schema else name

    def quoted(self, column: str) -> str:
        """The column as statements name it: some names are words of MySQL's language."""
        return f"`{column}`" if self.name == "mysql" else column

    def contains(self, column: str, mark: str) -> str:
        """The condition that a list of texts holds a bound text; see `held`."""
        if self.name == "postgresql":
            return f"{column} @> ARRAY[{mark}::text]"
        if self.name == "mysql":
            return f"JSON_CONTAINS({column}, {mark})"
        return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE value = {mark})"

    def held(self, text: str, *, what: str) -> str:
        """What is bound for `contains`. Raises `InvalidData`."""
        # MariaDB compares the spelling, and JSON_QUOTE spells control characters in another way than we do.
        text = checked_text(text, what)
        return _to_json(text).decode() if self.name == "mysql" else text

    def among(self, column: str, mark: str) -> str:
        """The condition that a text is one of a bound list of texts; see `bound_list`."""
        if self.name == "postgresql":
            return f"{column} = ANY ({mark}::text[])"
        if self.name == "mysql":
            # Without a character set of its own the column would have that of the database.
            columns = "v VARCHAR(511) CHARACTER SET utf8mb4 PATH '$'"
            listed = f"JSON_TABLE({mark}, '$[*]' COLUMNS ({columns})) AS listed"
            return f"{column} IN (SELECT v COLLATE {{binary}} FROM {listed})"
        return f"{column} IN (SELECT value FROM json_each({mark}))"

    def matching(self, table: str, mark: str) -> str:
        """The condition that a row of a searchable table has all words of a bound word query."""
        if self.name == "postgresql":
            return f"search @@ {mark}::tsquery"
        if self.name == "mysql":
            return f"MATCH (words_first, words_rest) AGAINST ({mark} IN BOOLEAN MODE)"
        return f"position IN (SELECT rowid FROM {table}_words WHERE {table}_words MATCH {mark})"

    def first_matching(self, table: str, mark: str) -> str:
        """The expression that is 1 where the first searched column alone has all the words, else 0."""
        if self.name == "postgresql":
            return f"(array_to_tsvector(string_to_array(words_first, ' ')) @@ {mark}::tsquery)::int"
        if self.name == "mysql":
            return f"(MATCH (words_first) AGAINST ({mark} IN BOOLEAN MODE) > 0)"
        words = f"{table}_words"
        wanted = f"'words_first:(' || {mark} || ')'"
        return f"(position IN (SELECT rowid FROM {words} WHERE {words} MATCH {wanted}))"

    def word_query(self, text: str) -> str:
        """What is bound for `matching`: all words of a text that a person typed; empty if it has none."""
        words = list(dict.fromkeys(words_of(text)))
        if self.name == "postgresql":
            return " & ".join(f"'{word}'" for word in words)
        if self.name == "mysql":
            return " ".join(f"+{_LONG_ENOUGH}{word}" for word in words)
        return " ".join(f'"{word}"' for word in words)

    def words_column(self, texts: Sequence[str]) -> str:
        """What is stored in a column of words."""
        words = dict.fromkeys(word for text in texts for word in words_of(text))
        kept, left = [], _WORDS_MAX
        for word in words:
            left -= len(word)
            if left < 0:
                break
            kept.append(f"{_LONG_ENOUGH}{word}" if self.name == "mysql" else word)
        return " ".join(kept)

    def writer(self, column: Column) -> Convert:
        """From a field's value to what is bound. The converter raises `InvalidData`."""
        convert = _WRITERS[column.kind]
        if self.name != "postgresql":
            convert = _PLAIN_WRITERS.get((self.name, column.kind), convert)
        name, nullable = column.name, column.nullable

        def write(value: Any) -> Any:
            if value is None and nullable:
                return None
            try:
                return convert(value)
            except _Unfit as error:
                raise InvalidData(f"{name} {error}", where=name) from None

        if column.kind is not Kind.TEXT:
            return write
        if column.type is not None:
            return _one_of(column, write)

        def write_text(value: Any) -> Any:
            # What most values of a bulk insert are, without another call.
            if type(value) is str and value.isascii() and "\0" not in value:
                return value
            return write(value)

        return write_text

    def reader(self, column: Column) -> Convert | None:
        """From a stored value to the field's value; None where it is that already."""
        convert = _reader(self.name, column)
        if convert is None or not column.nullable:
            return convert
        return lambda value: None if value is None else convert(value)


def dialect_of(driver: Any) -> Dialect:
    """The dialect of a driver."""
    return Dialect(driver.dialect, "$" if driver.dialect == "postgresql" else "?", driver.schema)


_LONG_ENOUGH = "hf"
"""Before every word on MySQL, whose index leaves out words of one or two letters and some common ones."""


_WORDS_MAX = 500_000
"""So many characters of different words are searched per column: PostgreSQL takes a megabyte per row."""


class _Unfit(ValueError):
    """A value that its column can not hold; the text goes on from the column's name."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit(f"must be a text, and is {type(value).__name__}")
    if "\0" in value:
        raise _Unfit("holds a NUL character, which no text column takes")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Unfit("holds half of a surrogate pair, which is no character") from None
    return str(value)


def _one_of(column: Column, write: Convert) -> Convert:
    """The writer of a closed set, which takes nothing else."""
    known = frozenset(column.type or ())

    def write_member(value: Any) -> Any:
        if value is not None and value not in known:
            raise InvalidData(f"{column.name} can not be {value!r:.40}", where=column.name)
        return write(value)

    return write_member


def checked_text(value: Any, what: str) -> str:
    """A text that every database can be asked for. Raises `InvalidData` that names `what`."""
    try:
        return _text(value)
    except _Unfit as error:
        raise InvalidData(f"{what} {error}", where=what) from None


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise _Unfit(f"must be a whole number, and is {type(value).__name__}")
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise _Unfit("does not fit into 64 bits")
    return value


def _real(value: Any) -> float:
    if type(value) not in (float, int):
        raise _Unfit(f"must be a number, and is {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:
        raise _Unfit("is too large") from None
    if number - number != 0.0:
        raise _Unfit("must be finite")
    return number


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise _Unfit(f"must be true or false, and is {type(value).__name__}")
    return value


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise _Unfit("must be a datetime with a time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise _Unfit("lies outside the years 1 to 9999") from None


def _duration(value: Any) -> int:
    if not isinstance(value, timedelta):
        raise _Unfit(f"must be a timedelta, and is {type(value).__name__}")
    return value // _MICROSECOND


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _Unfit(f"must be bytes, and is {type(value).__name__}")
    return bytes(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise _Unfit(f"must be a list of texts, and is {type(value).__name__}")
    return [_text(each) for each in value]


def _json(value: Any) -> str:
    return codec.to_json(list(value) if isinstance(value, tuple) else value, what="the value")


def _payload(value: Any) -> bytes:
    return codec.encode(value)


def _microseconds(value: Any) -> int:
    return microseconds(_moment(value))


def _texts_json(value: Any) -> str:
    return _to_json(_texts(value)).decode()


_to_json = msgspec.json.Encoder().encode
_texts_from_json = msgspec.json.Decoder(tuple[str, ...]).decode


def _from_json(text: str) -> Any:
    value = codec.from_json(text)
    return tuple(value) if isinstance(value, list) else value


_WRITERS: dict[Kind, Convert] = {
    Kind.TEXT: _text, Kind.INTEGER: _integer, Kind.REAL: _real, Kind.BOOLEAN: _boolean,
    Kind.MOMENT: _moment, Kind.DURATION: _duration, Kind.BYTES: _bytes, Kind.TEXTS: _texts,
    Kind.JSON: _json, Kind.PAYLOAD: _payload,
}  # fmt: skip
_PLAIN_WRITERS: dict[tuple[str, Kind], Convert] = {
    ("sqlite", Kind.MOMENT): _microseconds,
    ("sqlite", Kind.BOOLEAN): lambda value: int(_boolean(value)),
    ("sqlite", Kind.TEXTS): _texts_json,
    ("mysql", Kind.TEXTS): _texts_json,
}


def _reader(name: str, column: Column) -> Convert | None:
    if column.type is not None:
        return column.type
    match column.kind:
        case Kind.DURATION:
            return lambda value: value * _MICROSECOND
        case Kind.JSON:
            return _from_json
        case Kind.PAYLOAD:
            return lambda value: None if value is None else codec.decode(bytes(value))
        case Kind.TEXTS:
            return tuple if name == "postgresql" else _texts_from_json
        case Kind.MOMENT if name == "sqlite":
            return moment
        case Kind.BOOLEAN if name != "postgresql":
            return bool
        case _:
            return None
