"""How often a step is tried, and how long it rests between attempts.

The rest before attempt n+1 is drawn evenly from zero up to a ceiling that grows by `multiplier` with
every attempt and stops at `max_backoff` ("full jitter"): many steps that failed together then do not
come back together. The policy is pure arithmetic; who sleeps and who records is the engine's matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from holdfast.errors import InvalidArgument

_LONGEST = timedelta(days=365 * 100)
_EXPONENT_MAX = 2**62  # any attempt number then converts to a float
MAX_ATTEMPTS = 1_000_000
"""The most attempts a policy may ask for: every failed attempt is a stored event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """When a failed attempt is followed by another.

    `max_attempts` counts all attempts, the first included. `on` holds names of error types (exception
    class names, `timeout`, `exit`); empty means any. Out of range values raise `InvalidArgument`.
    """

    max_attempts: int = 1
    backoff: timedelta = timedelta(seconds=1)
    multiplier: float = 2.0
    max_backoff: timedelta = timedelta(minutes=5)
    jitter: bool = True
    on: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(
            _is_int(self.max_attempts) and 1 <= self.max_attempts <= MAX_ATTEMPTS,
            f"max_attempts is {self.max_attempts!r}",
            f"use a whole number from 1 (no retry) to {MAX_ATTEMPTS}",
        )
        for name in ("backoff", "max_backoff"):
            value = getattr(self, name)
            _require(
                isinstance(value, timedelta) and timedelta(0) <= value <= _LONGEST,
                f"{name} is {value!r}",
                "use a duration from 0s to 100 years",
            )
        _require(
            isinstance(self.multiplier, int | float)
            and not isinstance(self.multiplier, bool)
            and 1 <= self.multiplier < math.inf,
            f"multiplier is {self.multiplier!r}",
            "use a number from 1 (constant rest) upwards",
        )
        _require(
            isinstance(self.on, tuple) and all(isinstance(name, str) and name for name in self.on),
            f"on is {self.on!r}",
            "list names of error types, such as ['timeout', 'exit', 'ConnectionError']",
        )

    def delay(
        self, attempt: int, random: Callable[[], float], at_least: timedelta = timedelta(0)
    ) -> timedelta:
        """The rest between `attempt` (counted from 1) and the next one.

        `at_least` is what the other side asked for; it is granted up to `max_backoff`.

        `random` returns a number in [0, 1), as `random.random` does; it is not called without jitter.
        Any attempt number is fine: growth beyond the range of a float counts as `max_backoff`.
        """
        return max(self._own_delay(attempt, random), min(at_least, self.max_backoff))

    def _own_delay(self, attempt: int, random: Callable[[], float]) -> timedelta:
        if not self.backoff:
            return timedelta(0)
        exponent = float(min(max(0, attempt - 1), _EXPONENT_MAX))
        try:
            grown_s = self.backoff.total_seconds() * math.pow(self.multiplier, exponent)
        except OverflowError:
            grown_s = math.inf
        capped = grown_s >= self.max_backoff.total_seconds()
        ceiling = self.max_backoff if capped else timedelta(seconds=grown_s)
        return ceiling * random() if self.jitter else ceiling

    def retries(self, error_type: str, attempt: int, *, final: bool = False) -> bool:
        """Whether a failure of `error_type` in `attempt` (counted from 1) is followed by another attempt.

        One that is `final`, because the same would happen again, is so only when `on` names it.
        """
        return attempt < self.max_attempts and (error_type in self.on if self.on else not final)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(holds: bool, cause: str, fix: str) -> None:
    if not holds:
        raise InvalidArgument(f"retry: {cause}", fix=fix)
