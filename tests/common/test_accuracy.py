"""Exact match, and the interval around an accuracy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.common.accuracy import exact_match, wilson_interval
from distill.errors import UserError


def test_exact_match_ignores_blanks_at_the_ends_only():
    found = exact_match([" a b\n", "a  b", "A b", ""], ["a b", "a b", "a b", ""])
    assert found.tolist() == [True, False, False, True]


def test_unequal_lengths_and_no_rows_are_refused():
    with pytest.raises(ValueError):
        exact_match(["a"], [])
    with pytest.raises(UserError, match="0 test rows"):
        wilson_interval(0, 0)
    with pytest.raises(UserError, match="4 hits of 3"):
        wilson_interval(4, 3)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_contain_the_accuracy_and_solve_the_equation(case):
    correct, n = case
    low, high = wilson_interval(correct, n)
    assert 0 <= low <= correct / n <= high <= 1 and low < high
    for bound in (low, high):
        far = 1.96 * math.sqrt(bound * (1 - bound) / n)
        assert abs(bound - correct / n) == pytest.approx(far, rel=1e-4, abs=1e-8)
    mirror = wilson_interval(n - correct, n)
    assert (1 - high, 1 - low) == pytest.approx(mirror, abs=1e-12)


def test_known_values():
    assert wilson_interval(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
