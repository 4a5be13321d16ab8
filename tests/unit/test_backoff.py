"""Rests before a next try: drawn from the whole range, bounded, and growing with every failure."""

from __future__ import annotations

import pytest

from holdfast.store.backoff import Backoff

BACKOFF = Backoff(first_s=0.1, most_s=2.0)


@pytest.mark.parametrize(
    ("failures", "bound_s"), [(0, 0.1), (1, 0.1), (2, 0.2), (5, 1.6), (6, 2.0), (50, 2.0), (10**9, 2.0)]
)
def test_the_bound_doubles_up_to_its_end(failures: int, bound_s: float) -> None:
    rests = [BACKOFF.rest_s(failures) for _ in range(400)]
    assert 0 <= min(rests) < 0.1 * bound_s
    assert 0.9 * bound_s < max(rests) <= bound_s


def test_the_whole_range_is_drawn_from() -> None:
    """A rest that is only a little random brings all clients back at once."""
    rests = sorted(BACKOFF.rest_s(6) / 2.0 for _ in range(2_000))
    assert all(abs(rests[round(share * 1_999)] - share) < 0.06 for share in (0.1, 0.5, 0.9))


def test_no_rest_is_under_the_least() -> None:
    some = Backoff(first_s=0.2, most_s=5.0, least_s=0.1)
    assert all(0.1 <= some.rest_s(1) <= 0.2 for _ in range(200))
    assert Backoff(first_s=0.05, most_s=5.0, least_s=0.1).rest_s(1) == 0.05
