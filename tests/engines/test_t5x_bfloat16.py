"""Activations in bfloat16: gradients of native and of stock T5X against those in float32."""

from __future__ import annotations

import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import parity
from parity import needs_t5x
from test_parity import norm_of_difference

from distill.training.step import loss_fn

pytestmark = [needs_t5x, pytest.mark.t5x]
SEEDS = 6
SCALES = 1.0, 4.0  # of the queries' kernels: attention that is even, and that is sharp


def native_gradient(config):
    def of(params, batch):
        return loss_fn(
            params, batch, jax.random.key(0), config, parity.TASK_WEIGHTS, float(parity.PAIRS)
        )[0]

    return jax.jit(jax.grad(of))


def t5x_gradient(**settings):
    model = parity.t5x_model(parity.CONFIG, parity.PAIRS, dtype="bfloat16", **settings)
    gradient = jax.jit(jax.grad(lambda params, batch: model.loss_fn(params, batch, None)[0]))
    return lambda params, batch: gradient(params, parity.weighted(batch))


def sharpened(params: dict, scale: float) -> dict:
    def change(path, leaf):
        return leaf * scale if "query" in jax.tree_util.keystr(path) else leaf

    return jax.tree_util.tree_map_with_path(change, params)


def distance(got, want) -> float:
    """Mean over parameters of the relative norm of the difference."""
    return float(np.mean(jax.tree.leaves(jax.tree.map(norm_of_difference, got, want))))


@pytest.fixture(scope="module")
def distances() -> dict[tuple[str, str], float]:
    """Mean distances between gradients, over parameters, batches and scales."""
    narrow = dataclasses.replace(parity.CONFIG, dtype="bfloat16")
    wide = dataclasses.replace(narrow, float32_attention_logits=True)
    gradients = {
        "float32": native_gradient(parity.CONFIG),
        "native": native_gradient(narrow),
        "native, float32 scores": native_gradient(wide),
        "t5x": t5x_gradient(),
    }
    pairs = [("native", "float32"), ("native, float32 scores", "float32"), ("t5x", "float32")]
    pairs += [("native", "t5x"), ("native, float32 scores", "t5x")]
    totals = dict.fromkeys(pairs, 0.0)
    batches = parity.random_batches()
    for seed in range(SEEDS):
        batch = {name: array[seed] for name, array in batches.items()}
        for scale in SCALES:
            params = sharpened(parity.random_params(parity.CONFIG, seed), scale)
            params = jax.tree.map(jnp.asarray, params)
            found = {name: gradient(params, batch) for name, gradient in gradients.items()}
            for pair in pairs:
                totals[pair] += distance(found[pair[0]], found[pair[1]]) / SEEDS / len(SCALES)
    return totals


def test_native_is_as_far_from_float32_as_t5x(distances):
    """With bfloat16 scores by T5X's distance, to 10%; with float32 scores by less."""
    assert distances["native", "float32"] == pytest.approx(distances["t5x", "float32"], rel=0.1)
    assert distances["native, float32 scores", "float32"] < 0.8 * distances["t5x", "float32"]


def test_native_is_closer_to_t5x_than_with_float32_scores(distances):
    before = distances["native, float32 scores", "t5x"]
    assert 0 < distances["native", "t5x"] < 0.8 * before, distances
