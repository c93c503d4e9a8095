"""An optimizer steps over stacked layers as over single ones; a scanned run trains."""

from __future__ import annotations

import json

import jax
import numpy as np
import optax
import pytest

from distill.config import resolve
from distill.config.optimizer import OptimizerConfig
from distill.config.student import T5Config
from distill.engines import native
from distill.engines.t5x import train as t5x_train
from distill.errors import UserError
from distill.student.params import param_shapes, stack_layers, unstack_layers
from distill.training.optimizer import make_optimizer

EXPERIMENT = "tickets_step_by_step"
# Sides of 128 and more, so that Adafactor factors the feed-forward kernels; layer counts that
# differ, and more decoder layers than T5X would have columns to confuse them with.
WIDE = T5Config(128, 128, 2, 8, 136, num_encoder_layers=2, num_decoder_layers=3)


def draw(seed: int, scale: float) -> dict:
    """A tree like the parameters, of other size in each layer."""
    rng = np.random.default_rng(seed)

    def leaf(shape):
        return (scale * rng.uniform(0.1, 3) * rng.normal(size=shape.shape)).astype(np.float32)

    return jax.tree.map(leaf, param_shapes(WIDE))


def three_steps(config: OptimizerConfig, params: dict, gradients: list[dict]) -> tuple:
    optimizer = make_optimizer(config)

    @jax.jit
    def step(params, state, grads):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(optimizer.init)(params)
    for grads in gradients:
        params, state = step(params, state, grads)
    return jax.device_get(params), state


@pytest.mark.parametrize("name", [pytest.param("adafactor", marks=pytest.mark.slow), "adamw"])
def test_three_steps_scanned_are_those_unscanned(name):
    config = OptimizerConfig(
        0.05, 9, warmup_steps=1, schedule="linear", name=name, weight_decay=0.1, clip_norm=1.0
    )
    params, gradients = draw(0, 0.3), [draw(seed, 0.01) for seed in (1, 2, 3)]
    want, _ = three_steps(config, params, gradients)
    got, state = three_steps(config, stack_layers(params), list(map(stack_layers, gradients)))

    def check(got, want, before):
        assert np.linalg.norm(got - want) <= 1e-6 * np.linalg.norm(want)
        # Of the step as well, which is small against the parameters.
        assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want - before)

    jax.tree.map(check, unstack_layers(got), want, params)
    if name == "adafactor":
        rows = optax.tree_utils.tree_get(state, "v_row")["decoder"]["decoder"]
        assert rows["mlp"]["wo"]["kernel"].shape == (128, 3)  # factored, layer by layer
        assert rows["self_attention"]["out"]["kernel"].shape == (1, 3)  # not factored
        assert all(count.ndim == 0 for count in _counts(state))


def _counts(state) -> list:
    return [value for _, value in optax.tree_utils.tree_get_all_with_path(state, "count")]


@pytest.mark.slow
def test_a_scanned_run_trains_resumes_and_answers(micro, tmp_path):
    overrides = (*micro, "SCAN_LAYERS=True", "NUM_DECODER_LAYERS=2", "OPTIMIZER=adafactor")
    overrides = (*overrides, "MICROBATCHES=2", "REMAT='minimal'")
    resolved = resolve.resolve([EXPERIMENT], overrides)
    lines: list[str] = []
    results = native.train(resolved, tmp_path / "run", lines.append)
    assert results["n_test"] == 24
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    losses = [record["loss"] for record in metrics if "loss" in record]
    assert losses[-1] < losses[0]
    (tmp_path / "run/results.json").unlink()
    again = native.train(resolved, tmp_path / "run", lines.append)
    assert any("resumed at step 12" in line for line in lines)
    assert again["accuracy"] == results["accuracy"]


def test_the_t5x_engine_says_that_it_goes_layer_by_layer(micro):
    resolved = resolve.resolve([EXPERIMENT], (*micro, "SCAN_LAYERS=True"), "t5x")
    (line,) = t5x_train.check_t5x_run(resolved.run, resolved.macros)
    assert line.startswith("SCAN_LAYERS has no effect with T5X: it runs the same layers one")


def test_a_wrong_value_names_its_macro():
    with pytest.raises(UserError, match=r"got SCAN_LAYERS = 1, expected True or False"):
        resolve.resolve([EXPERIMENT], ["SCAN_LAYERS=1"])
