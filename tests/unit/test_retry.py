"""The retry policy: bounds of the delay for any numbers, which failures are retried, what is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InvalidArgument
from holdfast.workflows.retry import RetryPolicy

durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_500))
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 1_000_000),
    backoff=durations,
    multiplier=st.floats(1, 1e308),
    max_backoff=durations,
    jitter=st.booleans(),
)
chances = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 10**400), chances)
def test_a_delay_lies_between_zero_and_the_ceiling(policy: RetryPolicy, attempt: int, chance: float) -> None:
    delay = policy.delay(attempt, lambda: chance)
    assert timedelta(0) <= delay <= policy.max_backoff


@given(policies, st.integers(1, 1_000), chances)
def test_the_ceiling_never_sinks_and_jitter_stays_below_it(
    policy: RetryPolicy, attempt: int, chance: float
) -> None:
    def ceiling(of: int) -> timedelta:
        return RetryPolicy(
            backoff=policy.backoff, multiplier=policy.multiplier, max_backoff=policy.max_backoff, jitter=False
        ).delay(of, pytest.fail)

    assert ceiling(attempt) <= ceiling(attempt + 1)
    assert policy.delay(attempt, lambda: chance) <= ceiling(attempt)


def test_delays_without_jitter_are_the_powers() -> None:
    policy = RetryPolicy(
        backoff=timedelta(seconds=2), multiplier=3, max_backoff=timedelta(seconds=50), jitter=False
    )
    seconds = [policy.delay(attempt, pytest.fail).total_seconds() for attempt in (1, 2, 3, 4, 5)]
    assert seconds == [2, 6, 18, 50, 50]


def test_full_jitter_is_drawn_from_zero_to_the_ceiling() -> None:
    policy = RetryPolicy(backoff=timedelta(seconds=8), jitter=True)
    assert policy.delay(1, lambda: 0.0) == timedelta(0)
    assert policy.delay(1, lambda: 0.5) == timedelta(seconds=4)
    assert policy.delay(2, lambda: 0.5) == timedelta(seconds=8)


@given(st.integers(1, 100), st.integers(1, 200))
def test_max_attempts_counts_all_attempts(limit: int, attempt: int) -> None:
    assert RetryPolicy(max_attempts=limit).retries("timeout", attempt) == (attempt < limit)


def test_on_names_the_failures_that_are_retried() -> None:
    policy = RetryPolicy(max_attempts=3, on=("timeout", "ConnectionError"))
    assert policy.retries("timeout", 1)
    assert policy.retries("ConnectionError", 2)
    assert not policy.retries("exit", 1)
    assert not policy.retries("timeout", 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", True),
        ("max_attempts", 1.5),
        ("max_attempts", 10**9),
        ("backoff", timedelta(seconds=-1)),
        ("backoff", 3),
        ("max_backoff", timedelta(days=40_000)),
        ("multiplier", 0.5),
        ("multiplier", float("nan")),
        ("multiplier", float("inf")),
        ("multiplier", "2"),
        ("on", "timeout"),
        ("on", ("",)),
    ],
)
def test_nonsense_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=f"retry: {field} is"):
        RetryPolicy(**{field: value})  # type: ignore[arg-type]
