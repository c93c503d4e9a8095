"""Rematerialization changes memory, and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.errors import UserError
from distill.student.network import T5
from distill.student.params import init_params


def make_loss(config, rows, length):
    """A loss with dropout, as a function of the parameters."""
    tokens = np.random.default_rng(0).integers(2, 40, (rows, length)).astype(np.int32)
    sides = ("encoder_input", "decoder_input", "decoder_target")
    batch = {f"{side}_tokens": tokens for side in sides}

    def loss(params):
        rngs = {"dropout": jax.random.key(1)}
        logits = T5(config).apply({"params": params}, batch, deterministic=False, rngs=rngs)
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1))

    return loss


@pytest.mark.parametrize("remat", [pytest.param("minimal", marks=pytest.mark.slow), "full"])
def test_the_gradient_stays_the_same(student, remat):
    def gradient(remat):
        config = dataclasses.replace(student.config, remat=remat, dropout_rate=0.1)
        return jax.device_get(jax.jit(jax.grad(make_loss(config, 4, 8)))(student.params))

    def close(got, want):
        assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)

    jax.tree.map(close, gradient(remat), gradient("none"))


def test_less_is_kept_the_more_is_computed_again(student):
    def kept_bytes(remat):
        """What the forward pass hands to the backward pass."""
        config = dataclasses.replace(student.config, remat=remat, dropout_rate=0.0)
        loss = make_loss(config, 4, 32)
        kept = jax.eval_shape(lambda params: jax.vjp(loss, params)[1], student.params)
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))

    none, minimal, full = map(kept_bytes, ("none", "minimal", "full"))
    assert none > 1.5 * minimal and minimal > 1.5 * full, (none, minimal, full)


def test_parameters_keep_their_names_and_values(student):
    config = dataclasses.replace(student.config, remat="full")
    want = init_params(student.config, jax.random.key(3))
    got = init_params(config, jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, got, want)


def test_an_unknown_policy_is_refused(student):
    with pytest.raises(UserError, match=r"closest: minimal.*macro REMAT|macro REMAT.*minimal"):
        dataclasses.replace(student.config, remat="minimum")
