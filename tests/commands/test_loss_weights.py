"""`distill loss-weights`: its keys, and variances that equal those of plainly made batches."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest

from distill import cli
from distill.config import resolve
from distill.data import cache as caches
from distill.student.params import init_params
from distill.training import gradient_noise
from distill.training.step import loss_fn

TICKETS = "--gin_file=tickets_step_by_step"


@pytest.fixture(scope="module")
def overrides(micro):
    return [f"--gin.{text}" for text in micro]


def _json(capsys, *argv):
    assert cli.main(["loss-weights", TICKETS, "--json", *argv]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_object_that_other_programs_read(capsys, overrides):
    found = _json(capsys, *overrides, "--pairs=0", "--gin.NORMALIZATION='per_token'")
    assert found["tasks"]["label"]["mean_target_tokens"] == 2
    assert found["tasks"]["rationale"]["mean_target_tokens"] == 7
    assert found["naive_label_weight"] == pytest.approx(2 / 9)
    assert found["effective_label_weight"] == pytest.approx(0.3)
    raw = np.array([0.3 / 2, 0.7 / 7])
    expected = dict(zip(("label", "rationale"), raw / raw.sum(), strict=True))
    assert found["rates"]["per_token"] == pytest.approx(expected)
    assert found["rates"]["per_sequence"] == pytest.approx({"label": 0.3, "rationale": 0.7})
    assert found["epochs"]["label"] == pytest.approx(12 * 8 / 54)
    assert "gradient_variance" not in found


def test_text_and_lambda(capsys, overrides):
    argv = [*overrides, "--pairs=4", "--lambda=1", "--gin.WEIGHTING='mixture_rates'"]
    assert cli.main(["loss-weights", TICKETS, *argv]) == 0
    shown = capsys.readouterr().out
    assert "LABEL_WEIGHT = 0.5, RATIONALE_WEIGHT = 0.5" in shown
    assert "mixture_rates / paired_batches = " in shown
    assert (
        "warning: a 1:1 mixture with pooled tokens would give the label task weight 0.222" in shown
    )


def test_the_number_of_pairs_is_the_one_that_was_used(capsys, overrides):
    assert cli.main(["loss-weights", TICKETS, *overrides, "--pairs=100000000"]) == 0
    captured = capsys.readouterr()
    assert "(54 pairs, " in captured.out  # NUM_LABELS less VALIDATION_FRACTION
    assert "of 54 pairs" in captured.err or "pairs" not in captured.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--gin_file=tickets_finetune"], "trains one task and has no loss weights"),
        (["--gin_file=tickets_answer_first"], "has label and rationale in one target and needs no"),
        ([TICKETS, "--pairs=1"], "expected 0 or at least 2"),
        ([TICKETS, "--lambda=-2", "--pairs=0"], "got lambda = -2.0"),
        ([TICKETS, "--gin.LABEL_WEIGHT=0.5"], "set both macros"),
    ],
)
def test_bad_input(argv, message, overrides, capsys):
    assert cli.main(["loss-weights", *argv, *overrides]) == 2
    assert message in capsys.readouterr().err


def test_moments_and_variances_are_those_of_plain_gradients(micro):
    run = resolve.resolve(["tickets_step_by_step"], micro).run
    cache = caches.load_cache(run.data)
    noise = gradient_noise.measure(cache, run.data, run.student, "per_token", 6, seed=3)
    batches = gradient_noise._pairs(cache, run.data, "per_token", 6, 3)
    params = init_params(run.student, jax.random.key(3))
    config = dataclasses.replace(run.student, dropout_rate=0.0)
    gradient = jax.jit(
        jax.grad(lambda p, b: loss_fn(p, b, jax.random.key(0), config, (1.0, 1.0), 1.0)[0])
    )

    def flat(pair, task):
        tree = gradient(params, {k: v[pair, task : task + 1] for k, v in batches.items()})
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)]).astype(float)

    label, rationale = (np.stack([flat(n, task) for n in range(6)]) for task in (0, 1))
    for task, gradients in enumerate((label, rationale)):
        np.testing.assert_allclose(
            noise.variance[task], gradients.var(axis=0, ddof=1).sum(), rtol=1e-4
        )
    # The variance of w_l g_l + w_r g_r over pairs, and of one drawn sequence, from all outcomes.
    weights, rates = (0.3, 0.7), (0.6, 0.4)
    pairs = 0.3 * label + 0.7 * rationale
    np.testing.assert_allclose(noise.paired(weights, 1), pairs.var(axis=0, ddof=1).sum(), rtol=1e-4)
    means = [g.mean(axis=0) for g in (label, rationale)]
    squares = [(m @ m) for m in means] + [means[0] @ means[1]]
    population = gradient_noise.Moments(
        tuple(g.var(axis=0).sum() for g in (label, rationale)), 0.0, tuple(squares)
    )
    outcomes = [
        (rate / 6, weight / rate * gradient)
        for weight, rate, gradients in zip(weights, rates, (label, rationale), strict=True)
        for gradient in gradients
    ]
    mean = sum(p * g for p, g in outcomes)
    expected = sum(p * ((g - mean) @ (g - mean)) for p, g in outcomes)
    np.testing.assert_allclose(population.drawn(weights, rates, 1), expected / 2, rtol=1e-6)
    assert all(a > 0 for a in itertools.chain(noise.variance))
