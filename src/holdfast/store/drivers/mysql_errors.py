"""The error numbers of MySQL and MariaDB and the client's own failures as our errors; never their texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from asyncmy.errors import MySQLError

from holdfast.errors import (
    AccessDenied,
    ConstraintViolated,
    DamagedData,
    HoldfastError,
    InvalidData,
    NoStore,
    ReadOnlyServer,
    RetryLater,
    StatementTimeout,
    StoreUnavailable,
    TransactionConflict,
)

DUPLICATE = 1062
DEADLOCK = 1213

_KINDS: dict[type[HoldfastError], dict[str, tuple[int, ...]]] = {
    TransactionConflict: {
        "the transaction was part of a deadlock": (1213, 1614),
        "a lock could not be had in time": (1205, 3572),
        "the transaction collided with another one": (1020,),
    },
    StatementTimeout: {
        "the statement was cancelled": (1317,),
        "the statement took too long": (1969, 3024),
    },
    NoStore: {
        "the database does not exist": (1049, 1046),
        "the tables do not exist in this database": (1146, 1051),
    },
    AccessDenied: {
        "the database refused the user or the password": (1044, 1045, 1130, 1251, 1698, 1862, 2059, 4151),
        "the database user lacks a privilege": (1142, 1143, 1227, 1370, 1419),
    },
    ConstraintViolated: {
        "a value is there already": (1062, 1586),
        "a value is longer than its column takes": (1406,),
        "a value breaks a constraint": (1048, 1216, 1217, 1364, 1451, 1452, 1557, 3819, 4025),
    },
    InvalidData: {
        "the database refused a value": (
            1264, 1265, 1292, 1300, 1365, 1366, 1367, 1411, 1416, 1441, 1525, 1690, 3140, 3141, 3156,
            4038,
        ),
        "a value is larger than the server takes (max_allowed_packet)": (1153, 1301),
    },
    StoreUnavailable: {
        "the connection to the database broke": (
            1053, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2006, 2013, 2055, 4031,
        ),
        "the server can not be reached": (2002, 2003, 2005, 2012, 2026),
        "the server takes no more connections": (1040, 1129, 1203, 1226),
        "the server is out of resources": (1037, 1038, 1041, 1135, 1206),
        "the server does not take statements for now": (1047, 3100, 3101),
    },
    ReadOnlyServer: {
        "the server is read-only": (1290, 1792, 1836),
    },
    RetryLater: {
        "the server's disk is full": (1021, 1114),
    },
    DamagedData: {
        "a table is damaged": (1034, 1035, 1194, 1195, 1712, 1877),
    },
}  # fmt: skip
_FIX = {
    "the server takes no more connections": (
        "lower storage.mysql.pool.max of each process, or raise the server's max_connections"
    ),
    "the server's disk is full": "make room on the server's disk; what was acknowledged is safe",
}
_BY_NUMBER = {
    number: (branch, cause)
    for branch, causes in _KINDS.items()
    for cause, numbers in causes.items()
    for number in numbers
}
_LOST = frozenset(
    {0, 1053, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1317, 1927, 2006, 2013, 2055, 4031}
)

FAILURES = (MySQLError, OSError, TimeoutError)
"""What asyncmy raises."""


def number_of(error: BaseException) -> int:
    """The server's or the client's error number; 0 for a connection that is closed, -1 for none."""
    number = error.args[0] if isinstance(error, MySQLError) and error.args else -1
    return number if isinstance(number, int) else -1


def is_connection_lost(error: BaseException) -> bool:
    """Whether the connection is gone or of no more use, so that what was under way has no known outcome."""
    if isinstance(error, MySQLError):
        # Without a number: the packets came out of order.
        return number_of(error) in _LOST or number_of(error) < 0
    return isinstance(error, OSError | TimeoutError)


def ends_transaction(error: HoldfastError) -> bool:
    """Whether the server may have rolled back more than the statement."""
    return not isinstance(error, ConstraintViolated | InvalidData | StatementTimeout)


def translate(error: BaseException, where: str) -> HoldfastError:
    """Our error for a failure of asyncmy, of the server, or of the network."""
    if isinstance(error, TimeoutError):
        return StatementTimeout("the server did not answer in time", where=where)
    number = number_of(error)
    if not isinstance(error, MySQLError) or number <= 0:
        return StoreUnavailable(f"the database can not be reached ({type(error).__name__})", where=where)
    found = _BY_NUMBER.get(number)
    if found is None:
        return HoldfastError(f"the server refused the operation ({number}: {error.args[-1]})", where=where)
    branch, cause = found
    said = f"{cause} (error {number})"
    return branch(said, where=where, fix=_FIX.get(cause), constraint=f"error {number}")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate what a block raises."""
    try:
        yield
    except FAILURES as error:
        raise translate(error, where) from error
