"""A scan over layers computes what the layers one by one compute, from stacked parameters."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from distill.config.student import T5Config
from distill.data.batching.packing import TrainSequence, assign_rows, pack
from distill.errors import UserError
from distill.student.beam import beam_search
from distill.student.decoding import greedy
from distill.student.label_tree import make_tree, to_arrays
from distill.student.network import T5
from distill.student.params import (
    init_params,
    param_count,
    param_shapes,
    param_specs,
    stack_layers,
    unstack_layers,
)
from distill.student.tree_scores import score_tree
from distill.training.step import loss_fn

WEIGHTS, DIVISOR = (0.3, 0.7), 4.0
LENGTHS = (16, 10)


@pytest.fixture(scope="module")
def deep(student) -> T5Config:
    """Two layers and three, so that a stack that is taken for the other shows."""
    return dataclasses.replace(student.config, num_decoder_layers=3, dropout_rate=0.0)


@pytest.fixture(scope="module")
def params(deep) -> dict:
    """Not initial ones, whose norm scales are all equal."""
    rng = np.random.default_rng(1)

    def draw(leaf) -> np.ndarray:
        return rng.normal(len(leaf.shape) == 1, 0.2, leaf.shape).astype(np.float32)

    return jax.tree.map(draw, param_shapes(deep))


def make_batch(packed: bool) -> dict:
    """Four sequences in four rows; packed, some rows are empty."""
    rng = np.random.default_rng(2)
    sequences = []
    for n, (inputs, targets) in enumerate([(7, 3), (5, 6), (9, 2), (6, 4)]):
        target = np.append(rng.integers(2, 40, targets - 1), 1)
        one = TrainSequence(rng.integers(2, 40, inputs), target, n % 2, 1 / targets)
        sequences.append(one)
    rows = assign_rows(sequences, *LENGTHS) if packed else [[n] for n in range(len(sequences))]
    assert len(rows) == (2 if packed else 4)
    return pack(sequences, rows, len(sequences), *LENGTHS)


def scan(config: T5Config, **settings) -> T5Config:
    return dataclasses.replace(config, scan_layers=True, **settings)


def relative_error(got, want) -> float:
    return float(np.linalg.norm(np.asarray(got) - want) / np.linalg.norm(want))


@functools.cache
def compiled(config: T5Config):
    """(params, batch, seed of dropout) to (logits, task losses, gradient)."""

    def run(params, batch, seed):
        logits = T5(config).apply({"params": params}, batch, deterministic=True)
        gradient = jax.value_and_grad(loss_fn, has_aux=True)
        settings = config, WEIGHTS, DIVISOR, 0.01
        (_, losses_K), grads = gradient(params, batch, jax.random.key(seed), *settings)
        return logits, losses_K, grads

    return jax.jit(run)


def compute(config: T5Config, params: dict, batch: dict, seed: int = 0) -> tuple:
    """(logits of target tokens, task losses, gradient)."""
    with jax.default_matmul_precision("highest"):
        logits, *others = jax.device_get(compiled(config)(params, batch, seed))
    return logits[batch["decoder_target_tokens"] > 0], *others


@pytest.mark.parametrize(
    "remat", ["none", *(pytest.param(name, marks=pytest.mark.slow) for name in ("minimal", "full"))]
)
@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
def test_scanned_is_unscanned(deep, params, packed, remat):
    batch = make_batch(packed)
    logits, losses_K, grads = compute(deep, params, batch)
    got = compute(scan(deep, remat=remat), stack_layers(params), batch)
    assert relative_error(got[0], logits) <= 1e-6
    np.testing.assert_allclose(got[1], losses_K, rtol=1e-6)
    errors = jax.tree.map(relative_error, unstack_layers(got[2]), grads)
    assert max(jax.tree.leaves(errors)) <= 1e-6, errors


@pytest.mark.slow
def test_dropout_draws_the_same_zeros_in_each_layer(deep, params):
    batch = make_batch(True)
    config = dataclasses.replace(deep, dropout_rate=0.3)
    _, unscanned, grads = compute(config, params, batch, 1)
    _, once, scanned_grads = compute(scan(config), stack_layers(params), batch, 1)
    _, again, _ = compute(scan(config), stack_layers(params), batch, 1)
    _, other, _ = compute(scan(config), stack_layers(params), batch, 2)
    np.testing.assert_array_equal(once, again)
    np.testing.assert_allclose(once, unscanned, rtol=1e-6)
    errors = jax.tree.map(relative_error, unstack_layers(scanned_grads), grads)
    assert max(jax.tree.leaves(errors)) <= 1e-6, errors
    assert (np.abs(other - once) > 1e-3 * once).all()


def test_dropout_differs_by_layer(deep, params):
    """A hidden unit that is dropped in all segments has no gradient: others in each layer."""
    config = scan(dataclasses.replace(deep, dropout_rate=0.3))
    batch = make_batch(False)
    batch["decoder_loss_weights"][1:] = 0  # one sequence counts
    _, _, grads = compute(config, stack_layers(params), batch, 3)
    wo_FxLxD = grads["decoder"]["decoder"]["mlp"]["wo"]["kernel"]
    dropped_LxF = ~wo_FxLxD.any(axis=2).T
    assert len({tuple(row) for row in dropped_LxF.tolist()}) == len(dropped_LxF)
    assert (abs(dropped_LxF.mean(axis=1) - 0.3) < 0.28).all()  # 3 standard errors of 24 units


@pytest.mark.slow
def test_decoding_gives_the_same_tokens_and_scores(deep, params):
    tokens = np.random.default_rng(4).integers(2, 40, (6, 9)).astype(np.int32)
    tokens[:3, 6:] = 0
    tree = to_arrays([make_tree([(7, 1), (7, 9, 1), (12, 5, 1)])], 8, 3, 4)
    want = np.asarray(greedy(params, deep, tokens, 12))
    assert len(np.unique(want)) > 3
    got = greedy(stack_layers(params), scan(deep), tokens, 12)
    np.testing.assert_array_equal(got, want)
    want, scores = beam_search(params, deep, tokens, 5, 2)
    got, scanned_scores = beam_search(stack_layers(params), scan(deep), tokens, 5, 2)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(scanned_scores, scores, rtol=1e-6)
    want, best = score_tree(params, deep, tokens, tree)
    got, scanned_best = score_tree(stack_layers(params), scan(deep), tokens, tree)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(scanned_best, best)


def test_the_tree_is_scalable_t5s(deep):
    """Names and shapes as t5x/examples/scalable_t5 makes them; the bias stays the stack's."""
    shapes = jax.tree.map(lambda leaf: leaf.shape, param_shapes(scan(deep)))
    layer = shapes["decoder"]["decoder"]
    assert layer["encoder_decoder_attention"]["query"]["kernel"] == (16, 3, 16)
    assert layer["mlp"]["wi_1"]["kernel"] == (16, 3, 24)
    assert layer["pre_mlp_layer_norm"]["scale"] == (16, 3)
    assert set(shapes["encoder"]) == {"encoder", "encoder_norm", "relpos_bias"}
    assert set(shapes["decoder"]) == {"decoder", "decoder_norm", "logits_dense", "relpos_bias"}
    specs = param_specs(scan(deep))["decoder"]["decoder"]
    assert specs["mlp"]["wo"]["kernel"] == PartitionSpec("mlp", "layers", "embed")
    assert specs["pre_mlp_layer_norm"]["scale"] == PartitionSpec("embed", "layers")
    assert param_count(scan(deep)) == param_count(deep)


def test_initial_layers_differ_and_have_the_scale_of_one_layer(deep):
    wide = scan(deep, embed_dim=128, mlp_dim=256)
    kernel = init_params(wide, jax.random.key(0))["encoder"]["encoder"]["mlp"]["wi_0"]["kernel"]
    np.testing.assert_allclose(np.std(kernel, axis=(0, 2)), 128**-0.5, rtol=0.05)
    assert len({float(value) for value in kernel[0, :, 0]}) == 2


@pytest.mark.parametrize("module", [np, jnp], ids=["numpy", "jax"])
def test_stacking_and_unstacking_are_inverses(deep, params, module):
    params = jax.tree.map(module.asarray, params)
    stacked = stack_layers(params)
    shapes = jax.tree.map(lambda leaf: leaf.shape, stacked)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, param_shapes(scan(deep)))
    assert {type(leaf) for leaf in jax.tree.leaves(stacked)} == {
        type(leaf) for leaf in jax.tree.leaves(params)
    }
    jax.tree.map(np.testing.assert_array_equal, unstack_layers(stacked), params)
    jax.tree.map(np.testing.assert_array_equal, stack_layers(unstack_layers(stacked)), stacked)
    second = stacked["encoder"]["encoder"]["attention"]["key"]["kernel"][:, 1]
    np.testing.assert_array_equal(
        second, params["encoder"]["layers_1"]["attention"]["key"]["kernel"]
    )


def test_a_tree_of_the_other_form_is_refused(params):
    with pytest.raises(UserError, match="it is already stacked"):
        stack_layers(stack_layers(params))
    with pytest.raises(UserError, match="it is not stacked"):
        unstack_layers(params)


def equations(jaxpr) -> int:
    """Equations of a program, those of inner programs included."""
    return sum(1 + sum(map(equations, _inner(eqn.params))) for eqn in jaxpr.eqns)


def _inner(parameters: dict) -> list:
    found = jax.tree.leaves(list(parameters.values()), is_leaf=lambda v: hasattr(v, "eqns"))
    return [getattr(value, "jaxpr", value) for value in found if hasattr(value, "eqns")]


@pytest.mark.parametrize("remat", ["none", "full"])
def test_the_program_does_not_grow_with_depth(deep, remat):
    batch = make_batch(True)

    def size(layers: int, scan_layers: bool) -> int:
        config = dataclasses.replace(
            deep,
            num_encoder_layers=layers,
            num_decoder_layers=layers,
            scan_layers=scan_layers,
            dropout_rate=0.1,
            remat=remat,
        )

        def loss(params: dict) -> jax.Array:
            return loss_fn(params, batch, jax.random.key(0), config, WEIGHTS, DIVISOR)[0]

        return equations(jax.make_jaxpr(jax.grad(loss))(param_shapes(config)).jaxpr)

    assert size(2, True) == size(8, True)
    assert size(8, False) > 3 * size(2, False)
