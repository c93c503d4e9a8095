"""Losses against formulas written out in numpy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.student import losses

B, T, V, K = 3, 5, 11, 2


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, dict]:
    rng = np.random.default_rng(0)
    weights = rng.random((B, T)).astype(np.float32)
    weights[1, 3:] = 0
    return rng.normal(0, 3, (B, T, V)).astype(np.float32), {
        "decoder_target_tokens": rng.integers(0, V, (B, T)).astype(np.int32),
        "decoder_loss_weights": weights,
        "decoder_task_ids": rng.integers(0, K, (B, T)).astype(np.int32),
    }


def nll_by_hand(logits, targets) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -np.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]


def test_token_nll(case):
    logits, batch = case
    targets = batch["decoder_target_tokens"]
    got = losses.token_nll(logits, targets)
    assert got.shape == (B, T) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, nll_by_hand(logits, targets), rtol=1e-5)


def test_token_nll_survives_huge_logits():
    logits = jnp.array([[1e4, 0.0], [-1e4, 1e4]])
    targets = jnp.array([0, 0])
    np.testing.assert_allclose(losses.token_nll(logits, targets), [0.0, 2e4])
    gradient = jax.grad(lambda x: losses.token_nll(x, targets).sum())(logits)
    np.testing.assert_allclose(gradient, [[0, 0], [-1, 1]])


def test_gradient_is_softmax_minus_target(case):
    logits, batch = case
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    got = jax.grad(weighted_nll)(logits, targets, weights)
    softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = weights[..., None] * (softmax - np.eye(V)[targets])
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def weighted_nll(logits, targets, weights, z_loss=0.0):
    return jnp.sum(losses.token_nll(logits, targets, z_loss) * weights)


def plain_loss(logits, targets, weights, z_loss):
    """Cross entropy and z-loss as one would write them; jax differentiates."""
    log_z = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.sum(jax.nn.one_hot(targets, V) * logits, axis=-1)
    return jnp.sum((log_z - chosen + z_loss * log_z**2) * weights)


@pytest.mark.parametrize("z_loss", [0.0, 1e-4, 0.3])
def test_z_loss_and_its_gradient_are_those_of_the_plain_formula(case, z_loss):
    logits, batch = case
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    got = jax.value_and_grad(weighted_nll)(logits, targets, weights, z_loss)
    expected = jax.value_and_grad(plain_loss)(logits, targets, weights, z_loss)
    for a, b in zip(got, expected, strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)
    # What it adds is z_loss * log(Z)^2 by the same weights, seen by each task.
    log_z = np.log(np.exp(logits.astype(np.float64)).sum(-1))
    added = losses.task_losses(logits, batch, K, 7.0, z_loss) - losses.task_losses(
        logits, batch, K, 7.0
    )
    term = z_loss * log_z**2 * weights / 7
    by_hand = [term[batch["decoder_task_ids"] == k].sum() for k in range(K)]
    np.testing.assert_allclose(added, by_hand, rtol=1e-4, atol=2e-6)


def test_without_z_loss_the_numbers_are_those_of_cross_entropy_to_the_bit(case):
    logits, batch = case
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    log_z = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    np.testing.assert_array_equal(losses.token_nll(logits, targets, 0.0), log_z - chosen)
    softmax = jnp.exp(logits - log_z[..., None])
    got = jax.grad(weighted_nll)(logits, targets, weights, 0.0)
    hit = targets[..., None] == np.arange(V)
    np.testing.assert_array_equal(got, weights[..., None] * (softmax - hit))


def test_bfloat16_logits_give_a_float32_loss_and_a_bfloat16_gradient(case):
    logits, batch = case
    targets = batch["decoder_target_tokens"]
    rounded = jnp.asarray(logits, jnp.bfloat16)
    value, gradient = jax.value_and_grad(lambda x: losses.token_nll(x, targets).sum())(rounded)
    assert gradient.dtype == jnp.bfloat16
    assert value == pytest.approx(nll_by_hand(rounded, targets).sum(), rel=1e-5)


def test_task_losses_add_up_tokens_of_their_task(case):
    logits, batch = case
    got = losses.task_losses(logits, batch, K, divisor=7.0)
    weighted = nll_by_hand(logits, batch["decoder_target_tokens"]) * batch["decoder_loss_weights"]
    expected = [weighted[batch["decoder_task_ids"] == k].sum() / 7 for k in range(K)]
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    total = losses.combined_loss(got, (0.3, 0.7))
    assert float(total) == pytest.approx(0.3 * expected[0] + 0.7 * expected[1], rel=1e-5)


def test_task_ids_of_padding_do_not_matter(case):
    logits, batch = case
    ids = np.where(batch["decoder_loss_weights"] > 0, batch["decoder_task_ids"], 1)
    np.testing.assert_array_equal(
        losses.task_losses(logits, batch, K, 7.0),
        losses.task_losses(logits, batch | {"decoder_task_ids": ids}, K, 7.0),
    )
