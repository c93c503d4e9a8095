"""Majority labels and filters: what is kept, what is dropped, and why."""

from __future__ import annotations

import pytest

from distill.common.accuracy import matches_exactly
from distill.data.examples import Example, Failure
from distill.data.released.completions import Completion
from distill.data.released.equations import same_value
from distill.errors import UserError
from distill.teacher.results.consistency import vote
from distill.teacher.results.filters import Dropped, Filters, leaks


def _said(*pairs):
    return [
        Completion(label, reason, None if label and reason else Failure.NO_ANSWER)
        for label, reason in pairs
    ]


def test_the_majority_wins_with_the_reasons_that_agree():
    samples = _said(("b", "r0"), ("a", "r1"), ("a", "r2"), (None, "r3"), ("a", "r1"))
    verdict = vote(samples, matches_exactly)
    assert (verdict.label, verdict.samples, verdict.chosen) == ("a", (1, 2), 1)
    assert verdict.agreement == 3 / 5 and verdict.failure is None


def test_of_equal_counts_the_first_that_was_said_wins():
    assert vote(_said(("b", "x"), ("a", "y")), matches_exactly).label == "b"
    assert vote(_said((None, None), ("a", "y"), ("b", "x")), matches_exactly).label == "a"


def test_equations_of_one_value_vote_together():
    samples = _said(("(2 + 3)", "x"), ("7", "y"), ("5", "z"), ("(10 / 2)", "w"))
    verdict = vote(samples, same_value)
    assert (verdict.label, verdict.agreement) == ("(2 + 3)", 0.75)


def test_a_sample_with_a_reason_is_chosen_before_one_without():
    verdict = vote(_said(("a", None), ("a", "because")), matches_exactly)
    assert (verdict.chosen, verdict.samples, verdict.failure) == (1, (1,), None)
    without = vote(_said(("a", None), ("a", None)), matches_exactly)
    assert (without.chosen, without.samples) == (0, ())


def test_no_label_at_all_keeps_the_first_failure():
    samples = [Completion(None, "r", Failure.LABEL_OUTSIDE_SET), *_said((None, None))]
    verdict = vote(samples, matches_exactly)
    assert (verdict.label, verdict.chosen) == (None, 0)
    assert (verdict.failure, verdict.agreement) == (Failure.LABEL_OUTSIDE_SET, 0)


ROW = Example(id="a", input="q", label="yes", teacher_label="no", rationale="it is not so")


@pytest.mark.parametrize(
    ("filters", "row", "reason"),
    [
        (Filters(), ROW, None),
        (Filters(drop_unparsed=True), Example(id="a", input="q"), Dropped.UNPARSED),
        (Filters(gold_only=True), Example(id="a", input="q", label="yes"), None),
        (Filters(gold_only=True), ROW, Dropped.GOLD),
        (Filters(gold_only=True), Example(id="a", input="q", teacher_label="no"), None),
        (Filters(min_agreement=0.61), ROW, Dropped.AGREEMENT),
        (Filters(min_agreement=0.6), ROW, None),
        (Filters(min_words=5), ROW, Dropped.LENGTH),
        (Filters(min_words=4, max_words=4), ROW, None),
        (Filters(max_words=3), ROW, Dropped.LENGTH),
        (Filters(min_words=1), Example(id="a", input="q", teacher_label="no"), Dropped.LENGTH),
        (Filters(drop_leaks=True), ROW, None),
        (
            Filters(drop_leaks=True),
            Example(id="a", input="q", teacher_label="no", rationale="So: No."),
            Dropped.LEAKAGE,
        ),
    ],
)
def test_filters(filters, row, reason):
    assert filters.why_not(row, 0.6, matches_exactly) == reason


def test_a_label_leaks_as_words_only():
    assert leaks("We REFUND  it.", "refund") and leaks("take the sea side", "sea side")
    assert not leaks("refundable", "refund") and not leaks("neutrality", "neutral")
    assert leaks("it is (3 + 4) then", "(3 + 4)")


def test_filters_that_leave_nothing_are_refused():
    with pytest.raises(UserError, match=r"min_agreement 1\.5"):
        Filters(min_agreement=1.5)
    with pytest.raises(UserError, match="expected --min_words <= --max_words"):
        Filters(min_words=9, max_words=3)
