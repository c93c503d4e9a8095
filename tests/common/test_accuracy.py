"""Exact match, and the interval around an accuracy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.common.accuracy import (
    confusion_matrix,
    describe_classes,
    exact_match,
    score_classes,
    wilson_interval,
)
from distill.errors import UserError


def test_exact_match_ignores_blanks_at_the_ends_only():
    found = exact_match([" a b\n", "a  b", "A b", ""], ["a b", "a b", "a b", ""])
    assert found.tolist() == [True, False, False, True]


def test_unequal_lengths_and_no_rows_are_refused():
    with pytest.raises(ValueError):
        exact_match(["a"], [])
    with pytest.raises(UserError, match="0 test rows"):
        wilson_interval(0, 0)
    with pytest.raises(UserError, match="4 correct of 3"):
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


# Six rows of a, three of b, one of c; d has neither rows nor predictions.
GOLDS = ["a"] * 6 + ["b"] * 3 + ["c"]
ANSWERS = ["a", "a ", "a", "a", "b", "?", "b", "b", "a", "b"]


def test_scores_of_classes_are_those_computed_by_hand():
    counts = confusion_matrix(GOLDS, ANSWERS, ["a", "b", "c", "d"])
    assert counts.tolist() == [[4, 1, 0, 0, 1], [1, 2, 0, 0, 0], [0, 1, 0, 0, 0], [0] * 5]
    a, b, c, d = score_classes(counts)
    assert a == {"precision": 4 / 5, "recall": 4 / 6, "f1": 8 / 11, "support": 6, "predicted": 5}
    assert b == {"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7, "support": 3, "predicted": 4}
    assert c == {"precision": None, "recall": 0, "f1": 0, "support": 1, "predicted": 0}
    assert d == {"precision": None, "recall": None, "f1": None, "support": 0, "predicted": 0}


def test_macro_f1_is_the_mean_over_classes_that_occur():
    found = describe_classes(GOLDS, ANSWERS, ["d", "b", "a"])
    assert found["macro_f1"] == pytest.approx((8 / 11 + 4 / 7 + 0) / 3)
    assert list(found["by_class"]) == found["confusion"]["classes"] == ["d", "b", "a", "c"]
    assert sum(map(sum, found["confusion"]["counts"])) == 10
    assert found["confusion"]["counts"][3] == [0, 1, 0, 0, 0]
    assert found["other_answers"] == {"?": 1}
    with pytest.raises(ValueError, match="'c' is not one of the classes"):
        confusion_matrix(GOLDS, ANSWERS, ["a", "b"])
