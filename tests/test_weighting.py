"""Rates, token weights and divisors say the same objective."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import UserError
from distill.weighting import (
    AVERAGE_PER_SEQUENCE,
    Weighting,
    mixture_rates,
    rates_divisor,
    token_weight,
)

LENGTHS = st.floats(1.0, 500.0)
TASKS = ("label", "rationale")


@given(st.floats(0, 1), LENGTHS, LENGTHS)
def test_rates_sum_to_one_and_give_the_weights_back(weight, label_tokens, rationale_tokens):
    weights = dict(zip(TASKS, (weight, 1 - weight), strict=True))
    means = dict(zip(TASKS, (label_tokens, rationale_tokens), strict=True))
    rates = mixture_rates(weights, "per_token", means)
    assert sum(rates.values()) == pytest.approx(1)
    # A drawn sequence adds its T tokens to the sum; over the divisor that is the weight.
    divisor = rates_divisor(rates, "per_token", means, sequences=64)
    for task in TASKS:
        expected_tokens = 64 * rates[task] * means[task]
        assert expected_tokens / divisor == pytest.approx(weights[task], abs=1e-9)


def test_per_sequence_rates_are_the_weights():
    rates = mixture_rates({"label": 0.3, "rationale": 0.7}, "per_sequence", {})
    assert rates == {"label": 0.3, "rationale": 0.7}
    assert rates_divisor(rates, "per_sequence", {}, 64) == AVERAGE_PER_SEQUENCE


def test_rates_of_cqa_lengths():
    """Mean targets of 2.9 and 30.2 tokens: .911 / .089 for equal weights."""
    rates = mixture_rates(
        {"label": 0.5, "rationale": 0.5}, "per_token", {"label": 2.9, "rationale": 30.2}
    )
    assert rates["label"] == pytest.approx(0.911, abs=0.002)


@given(st.integers(1, 100), LENGTHS)
def test_a_row_weighs_one_per_sequence_and_its_length_per_token(length, mean):
    assert length * token_weight(length, "per_sequence", mean) == pytest.approx(1)
    assert length * token_weight(length, "per_token", mean) == pytest.approx(length / mean)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_weight": 0.3, "rationale_weight": 0.3}, "expected 1; set both macros"),
        ({"label_weight": -0.5, "rationale_weight": 1.5}, "LABEL_WEIGHT = -0.5"),
        ({"normalization": "per_tokn"}, "macro NORMALIZATION.*closest: per_token"),
        ({"way": "pared"}, "macro WEIGHTING.*closest: paired"),
    ],
)
def test_bad_weights_name_their_macro(settings, message):
    with pytest.raises(UserError, match=message):
        Weighting(**settings)


def test_one_task_methods_have_one_weight():
    assert Weighting().task_weights(("label",)) == (1.0,)
    with pytest.raises(UserError, match="method with one task"):
        Weighting(0.3, 0.7).task_weights(("label",))
