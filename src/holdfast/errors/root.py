"""The root of all errors, and its branches: what the caller can do."""

from __future__ import annotations

from typing import Any, ClassVar


class HoldfastError(Exception):
    """The root of all expected failures.

    `cause` is one line about what happened, `where` the place (a file and line, a command, a step),
    `fix` what to do about it. `details` are machine-readable facts for `--json` and logs.
    """

    code: ClassVar[str] = "HF9000"
    exit_code: ClassVar[int] = 1
    default_fix: ClassVar[str] = "run the command again with -vv and report what it prints"

    def __init__(
        self, cause: str, *, where: str | None = None, fix: str | None = None, **details: Any
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.where = where
        self.fix = fix or self.default_fix
        self.details = details

    def as_problem(self) -> dict[str, Any]:
        """The JSON form printed by `--json` (RFC 9457 problem details)."""
        return {
            "type": f"/problems/{self.code.lower()}",
            "title": type(self).__name__,
            "code": self.code,
            "detail": self.cause,
            "where": self.where,
            "fix": self.fix,
            "exit_code": self.exit_code,
            **self.details,
        }

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.code} {self.cause}{place}"


# Branches: what the caller can do.


class Misuse(HoldfastError):
    """The call, the file or the setting is wrong; correcting it is the only remedy."""

    code = "HF1000"
    exit_code = 2
    default_fix = "correct the call; see `holdfast --help`"


class RetryLater(HoldfastError):
    """Something outside is unreachable or busy; the same call may succeed later."""

    code = "HF2000"
    exit_code = 5
    default_fix = "try again; check `holdfast storage test-connection`"


class NotFound(HoldfastError):
    """The named thing does not exist."""

    code = "HF3000"
    exit_code = 3
    default_fix = "list what exists and check the spelling"


class Conflict(HoldfastError):
    """The state is not the one the call needs: somebody owns it, or it has changed."""

    code = "HF4000"
    exit_code = 4
    default_fix = "look at the current state and decide"


class DamagedData(HoldfastError):
    """Stored data does not read back as it was written."""

    code = "HF6000"
    exit_code = 6
    default_fix = "stop writing to this store and run `holdfast events verify`"


class Failed(HoldfastError):
    """The operation ran and ended in failure."""

    code = "HF7000"
    exit_code = 1
    default_fix = "look at the error of the failed part"
