"""Adafactor's rules, one by one; T5X's own numbers are in tests/student/test_golden.py."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from distill.errors import UserError
from distill.train.adafactor import adafactor, factored_axes

SHAPES = {
    "wide": (130, 200),
    "tall": (200, 130),
    "square": (128, 128),
    "thin": (127, 300),
    "vector": (300,),
    "number": (),
}


def tree(seed: int, size: float = 1.0) -> dict:
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(rng.normal(0, size, shape), jnp.float32) for name, shape in SHAPES.items()
    }


def rms(values) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, np.float64)))))


def test_matrices_from_128_on_are_factored_by_their_longer_side():
    found = {name: factored_axes(shape, 128) for name, shape in SHAPES.items()}
    assert found == {
        "wide": (0, 1), "tall": (1, 0), "square": (0, 1), "thin": None, "vector": None,
        "number": None,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"shape \(2, 3, 4\).*OPTIMIZER = 'adamw'"):
        adafactor(0.1).init({"fused": jnp.zeros((2, 3, 4))})


def test_a_factored_matrix_costs_its_sides():
    state = adafactor(0.1).init(tree(0))
    sizes = {n: state.v_row[n].size + state.v_col[n].size + state.v[n].size for n in SHAPES}
    assert sizes == {
        "wide": 331, "tall": 331, "square": 257, "thin": 127 * 300 + 2, "vector": 302, "number": 3,
    }  # fmt: skip
    assert state.v_row["tall"].shape == (130,) and state.v_col["tall"].shape == (200,)


@pytest.mark.parametrize("clipping_threshold", [1.0, 0.3, None])
@pytest.mark.parametrize("by_scale", [True, False])
def test_five_updates_are_those_of_optax(clipping_threshold, by_scale):
    """An independent implementation, equal where no decay is asked for."""
    rate = optax.linear_schedule(0.1, 0.0, 10)
    ours = adafactor(
        rate, clipping_threshold=clipping_threshold, multiply_by_parameter_scale=by_scale
    )
    theirs = optax.adafactor(
        rate, clipping_threshold=clipping_threshold, multiply_by_parameter_scale=by_scale
    )
    params = tree(0)
    states = ours.init(params), theirs.init(params)
    for step in range(5):
        grads = tree(step + 1, 10.0**step)
        got, ours_state = ours.update(grads, states[0], params)
        expected, theirs_state = theirs.update(grads, states[1], params)
        states = ours_state, theirs_state
        for name in SHAPES:
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5, atol=1e-9)
        params = optax.apply_updates(params, got)
    assert int(states[0].count) == 5


def test_an_update_is_no_larger_than_the_rate_times_the_scale():
    """A gradient that grew a hundredfold: U's root mean square is far above 1 unclipped."""
    params = tree(0)
    sizes = {}
    for threshold in (1.0, None):
        rule = adafactor(0.1, clipping_threshold=threshold)
        state = rule.init(params)
        for step in range(3):
            _, state = rule.update(tree(step, 0.01), state, params)
        updates, _ = rule.update(tree(3), state, params)
        sizes[threshold] = {n: rms(updates[n]) / (0.1 * rms(params[n])) for n in SHAPES}
    assert all(size == pytest.approx(1, rel=1e-4) for size in sizes[1.0].values()), sizes
    assert all(sizes[None][n] > 1.2 for n in SHAPES if n != "number"), sizes


def test_parameters_of_zero_move_and_gradients_of_zero_do_not():
    params = {"weight": jnp.zeros((128, 128)), "bias": jnp.ones(4)}
    grads = {"weight": jnp.ones((128, 128)), "bias": jnp.zeros(4)}
    rule = adafactor(0.1)
    updates, _ = rule.update(grads, rule.init(params), params)
    np.testing.assert_allclose(updates["weight"], -0.1 * 1e-3, rtol=1e-5)
    np.testing.assert_array_equal(updates["bias"], 0)


@pytest.mark.parametrize(("exponent", "share"), [(0.0, 0.5), (1.0, 0.05), (2.0, 0.005)])
def test_decay_takes_a_share_of_every_parameter(exponent, share):
    params, grads = tree(0), tree(1)
    plain = adafactor(0.1)
    rule = adafactor(0.1, weight_decay=0.5, weight_decay_lr_exponent=exponent)
    without, _ = plain.update(grads, plain.init(params), params)
    updates, _ = rule.update(grads, rule.init(params), params)
    for name, param in params.items():
        np.testing.assert_allclose(
            updates[name] - without[name], -share * param, rtol=1e-4, atol=1e-6
        )


def test_the_step_offset_forgets_what_came_before():
    params, offset, fresh = tree(0), adafactor(0.1, step_offset=3), adafactor(0.1)
    state = offset.init(params)
    for step in range(3):
        _, state = offset.update(tree(step, 100.0), state, params)
    fresh_state = fresh.init(params)
    for step in (3, 4):
        got, state = offset.update(tree(step), state, params)
        expected, fresh_state = fresh.update(tree(step), fresh_state, params)
        jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_moments_are_float32_and_updates_have_the_parameters_type():
    params = {"weight": jnp.ones((128, 129), jnp.bfloat16)}
    rule = adafactor(0.1)
    updates, state = rule.update(params, rule.init(params), params)
    assert updates["weight"].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("f4"), jnp.dtype("i4")}
    with pytest.raises(ValueError, match="no parameters"):
        rule.update(params, state)
