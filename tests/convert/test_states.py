"""A training state goes from T5X to native and back, and the run goes on as if it had not."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "engines"))
import parity
from parity import needs_t5x

from distill.convert.states import from_t5x, to_t5x
from distill.errors import UserError
from distill.inference import t5x_run
from distill.training.optimizer import make_optimizer, make_schedule

# Wide enough for factored moments.
WIDE = dataclasses.replace(
    parity.CONFIG, embed_dim=130, vocab_size=140, num_encoder_layers=1, num_decoder_layers=1
)


def draw(tree, seed: int):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.1, x.shape), jnp.float32), tree)


def native_steps(optimizer, params, state, seeds):
    @jax.jit
    def step(grads, params, state):
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for seed in seeds:
        params, state = step(draw(params, seed), params, state)
    return params, state


def assert_equal(got, expected, rtol: float = 0.0) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_there_and_back_is_the_same_state(name):
    config = parity.optimizer_config(name)
    optimizer = make_optimizer(config)
    params = parity.random_params(WIDE)
    params, state = native_steps(optimizer, params, optimizer.init(params), range(3))
    saved = to_t5x(3, params, state, config)
    step, again, opt_state = from_t5x(saved, WIDE, config)
    assert step == 3
    assert_equal(again, params)
    assert_equal(opt_state, state)


def test_a_checkpoint_of_another_kind_is_refused():
    config = parity.optimizer_config("adamw")
    optimizer = make_optimizer(config)
    params = parity.random_params(parity.CONFIG)
    saved = to_t5x(0, params, optimizer.init(params), config)
    with pytest.raises(UserError, match=r"kernel has shape \(12, 24\) .* expected \(12, 28\)"):
        from_t5x(saved, dataclasses.replace(parity.CONFIG, vocab_size=28), config)
    with pytest.raises(UserError, match=r"state/param_states/.* OPTIMIZER"):
        from_t5x(saved, parity.CONFIG, parity.optimizer_config("adafactor"))
    less = {k: v for k, v in saved["target"].items() if k != "token_embedder"}
    with pytest.raises(UserError, match="target/token_embedder/embedding is not in"):
        from_t5x({**saved, "target": less}, parity.CONFIG, config)


@needs_t5x
@pytest.mark.t5x
@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_a_run_moves_engines_in_the_middle(name):
    from flax.traverse_util import flatten_dict

    from distill.training.optimizer import make_t5x_optimizer

    config = parity.optimizer_config(name)
    schedule, native = make_schedule(config), make_optimizer(config)

    @jax.jit
    def t5x_step(optimizer, grads, rate):
        return optimizer.apply_gradient(grads, learning_rate=rate)

    def t5x_steps(optimizer, seeds):
        for seed in seeds:
            optimizer = t5x_step(optimizer, draw(optimizer.target, seed), schedule(seed))
        return optimizer

    params = jax.tree.map(jnp.asarray, parity.random_params(WIDE))
    middle = t5x_steps(make_t5x_optimizer(config).create(params), range(3))
    saved = middle.state_dict()
    step, params, state = from_t5x(saved, WIDE, config)
    assert step == 3
    # What native would have saved in its place is what T5X has, name by name.
    back = to_t5x(step, params, state, config)
    ours, theirs = (flatten_dict(tree, sep="/") for tree in (back, saved))
    assert ours.keys() == theirs.keys()
    for path, leaf in theirs.items():
        np.testing.assert_array_equal(ours[path], leaf, err_msg=path)
    expected = t5x_steps(middle, range(3, 6)).target
    assert_equal(native_steps(native, params, state, range(3, 6))[0], expected, rtol=1e-5)
    restored = middle.restore_state(back)
    assert_equal(t5x_steps(restored, range(3, 6)).target, expected)


def test_a_run_that_answers_is_not_told_to_set_macros(monkeypatch, tmp_path):
    saved = {"target": parity.random_params(WIDE)}
    monkeypatch.setattr(t5x_run.t5x_files, "read_checkpoint", lambda *given: saved)
    monkeypatch.setattr(t5x_run, "chosen_step", lambda *given: 1)
    for student in (parity.CONFIG, dataclasses.replace(WIDE, num_encoder_layers=2)):
        with pytest.raises(
            UserError, match=r"in the checkpoint.*config.gin and the check"
        ) as found:
            t5x_run.load_params(tmp_path, types.SimpleNamespace(student=student))
        assert "macro" not in str(found.value)
