"""Settings to schedules and optimizers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.config import resolve
from distill.config.optimizer import OptimizerConfig
from distill.errors import UserError
from distill.training.optimizer import make_optimizer, make_schedule

CONFIG = OptimizerConfig(learning_rate=0.4, warmup_steps=4, total_steps=12)


@pytest.mark.parametrize(
    ("schedule", "warmup_steps", "expected"),
    [
        # after 0, 2, 4, 8 and 12 updates
        ("cosine", 4, [0, 0.2, 0.4, 0.2, 0]),
        ("linear", 4, [0, 0.2, 0.4, 0.2, 0]),
        ("linear", 0, [0.4, 0.4 * 10 / 12, 0.4 * 8 / 12, 0.4 * 4 / 12, 0]),
        ("constant", 4, [0, 0.2, 0.4, 0.4, 0.4]),
        ("constant", 0, [0.4] * 5),
        ("rsqrt", 4, [0.2, 0.2, 0.2, 0.4 / 8**0.5, 0.4 / 12**0.5]),
        ("rsqrt", 0, [0.4, 0.4 / 2**0.5, 0.2, 0.4 / 8**0.5, 0.4 / 12**0.5]),
    ],
)
def test_schedules(schedule, warmup_steps, expected):
    rate = make_schedule(dataclasses.replace(CONFIG, schedule=schedule, warmup_steps=warmup_steps))
    got = [float(rate(jnp.int32(step))) for step in (0, 2, 4, 8, 12)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    assert [float(rate(step)) for step in (0, 2, 4, 8, 12)] == pytest.approx(got)  # plain ints


def test_a_line_is_not_a_cosine():
    rates = [
        float(make_schedule(dataclasses.replace(CONFIG, schedule=name))(6))
        for name in ("linear", "cosine")
    ]
    assert rates == pytest.approx([0.3, 0.2 * (1 + 0.5**0.5)])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "OPTIMIZER=adamax",
            r"unknown optimizer 'adamax'.*macro OPTIMIZER\); closest: adamw$",
        ),
        ("SCHEDULE=liner", r"macro SCHEDULE\); closest: linear$"),
        ("Z_LOSS=-0.1", "got Z_LOSS = -0.1, expected a number >= 0"),
    ],
)
def test_wrong_settings_name_their_macro(override, message):
    with pytest.raises(UserError, match=message):
        resolve.resolve(["tickets_step_by_step"], [override])


def test_the_defaults_are_adamw_without_z_loss():
    run = resolve.resolve(["tickets_step_by_step"]).run
    assert (run.optimizer.name, run.z_loss) == ("adamw", 0.0)
    config = run.optimizer
    ours = make_optimizer(config)
    plain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(make_schedule(config), b1=0.9, b2=0.98, weight_decay=0.01),
    )
    params, grads = {"w": jnp.arange(6.0)}, {"w": jnp.linspace(-9, 9, 6)}
    state, plain_state = ours.init(params), plain.init(params)
    for _ in range(3):
        got, state = ours.update(grads, state, params)
        expected, plain_state = plain.update(grads, plain_state, params)
        jax.tree.map(np.testing.assert_array_equal, (got, state), (expected, plain_state))
    assert np.any(got["w"])


def test_weight_decay_means_the_same_to_both_optimizers():
    """Gradients of zero leave the decay: rate * WEIGHT_DECAY of the parameter."""
    params = {"w": jnp.arange(1.0, 7.0)}
    grads = {"w": jnp.zeros(6)}
    for name in ("adamw", "adafactor"):
        config = dataclasses.replace(
            CONFIG, name=name, weight_decay=0.1, schedule="constant", warmup_steps=0
        )
        optimizer = make_optimizer(config)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        np.testing.assert_allclose(updates["w"], -0.4 * 0.1 * params["w"], rtol=1e-5)


def test_adafactor_is_chosen_by_its_macro_and_clipped_by_clip_norm():
    run = resolve.resolve(["tickets_step_by_step"], ["OPTIMIZER=adafactor"]).run
    params = {"w": jnp.ones(4)}
    optimizer = make_optimizer(run.optimizer)
    _, state = optimizer.update({"w": jnp.full(4, 50.0)}, optimizer.init(params), params)
    moment = optax.tree_utils.tree_get(state, "v")["w"]
    np.testing.assert_allclose(moment, 0.25, rtol=1e-5)  # of a gradient of norm 1
