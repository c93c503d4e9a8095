"""Rates, token weights and divisors say the same objective."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.weighting import (
    Weighting,
    effective_weights,
    mixture_rates,
    naive_weights,
    token_weight,
    weights_from_lambda,
)
from distill.errors import UserError

LENGTHS = st.floats(1.0, 500.0)
TASKS = ("label", "rationale")


@given(st.floats(0, 1), LENGTHS, LENGTHS)
def test_rates_sum_to_one_and_give_the_weights_back(weight, label_tokens, rationale_tokens):
    weights = dict(zip(TASKS, (weight, 1 - weight), strict=True))
    means = dict(zip(TASKS, (label_tokens, rationale_tokens), strict=True))
    rates = mixture_rates(weights, "per_token", means)
    assert sum(rates.values()) == pytest.approx(1)
    # A drawn sequence adds its T tokens to the sum; over the divisor that is the weight.
    divisor = 64 * sum(rates[task] * means[task] for task in TASKS)
    for task in TASKS:
        expected_tokens = 64 * rates[task] * means[task]
        assert expected_tokens / divisor == pytest.approx(weights[task], abs=1e-9)


@given(st.sampled_from(["per_sequence", "per_token"]), st.floats(0, 1), LENGTHS, LENGTHS)
def test_the_inverse_inverts(normalization, weight, label_tokens, rationale_tokens):
    weights = dict(zip(TASKS, (weight, 1 - weight), strict=True))
    means = dict(zip(TASKS, (label_tokens, rationale_tokens), strict=True))
    rates = mixture_rates(weights, normalization, means)
    assert effective_weights(rates, normalization, means) == pytest.approx(weights, abs=1e-9)


@given(st.sampled_from(["per_sequence", "per_token"]), st.sampled_from([0.0, 1.0]), LENGTHS)
def test_weight_zero_or_one_is_one_task(normalization, weight, tokens):
    weights = dict(zip(TASKS, (weight, 1 - weight), strict=True))
    assert mixture_rates(weights, normalization, dict.fromkeys(TASKS, tokens)) == weights


def test_the_naive_mixture_starves_the_label():
    """CQA and SVAMP as measured on the released training files."""
    assert naive_weights({"label": 2.94, "rationale": 30.2})["label"] == pytest.approx(
        0.089, abs=1e-3
    )
    assert naive_weights({"label": 11.4, "rationale": 40.1})["label"] == pytest.approx(
        0.221, abs=1e-3
    )


@given(st.floats(0, 1e6))
def test_lambda_keeps_the_ratio_of_the_losses(value):
    label, rationale = weights_from_lambda(value)
    assert label + rationale == pytest.approx(1)
    assert rationale == pytest.approx(value * label)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_lambda_that_is_none(value):
    with pytest.raises(UserError, match="expected a number >= 0"):
        weights_from_lambda(value)


def test_targets_without_tokens_are_refused():
    with pytest.raises(UserError, match="target of 0 tokens"):
        token_weight(0, "per_sequence", 3.0)
    with pytest.raises(UserError, match="rationale task has 0 target tokens"):
        mixture_rates(
            {"label": 0.5, "rationale": 0.5}, "per_token", {"label": 2.0, "rationale": 0.0}
        )


def test_per_sequence_rates_are_the_weights():
    rates = mixture_rates({"label": 0.3, "rationale": 0.7}, "per_sequence", {})
    assert rates == {"label": 0.3, "rationale": 0.7}


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
        (
            {"normalization": "per_token_batch", "scheme": "mixture_rates"},
            "fixed sampling rates cannot reproduce",
        ),
        ({"scheme": "paired_batch"}, "macro WEIGHTING.*closest: paired_batches"),
    ],
)
def test_bad_weights_name_their_macro(settings, message):
    with pytest.raises(UserError, match=message):
        Weighting(**settings)


def test_one_task_methods_have_one_weight():
    assert Weighting().task_weights(("label",)) == (1.0,)
    with pytest.raises(UserError, match="method with one task"):
        Weighting(0.3, 0.7).task_weights(("label",))
