"""The flat layout computes what the packed one computes, gradients included."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from injected_dropout import (
    DECODER_LAYER,
    ENCODER_LAYER,
    draw_factors,
    flat_factors,
    injected,
    packed_factors,
)

from distill.config.student import T5Config
from distill.data.batching import flat, flat_parts, packing
from distill.student import class_maps, flat_losses
from distill.student.losses import token_nll
from distill.student.params import init_params, stack_layers
from distill.training.step import accumulated, loss_fn

CONFIG = T5Config(
    vocab_size=50,
    embed_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=24,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dropout_rate=0.3,
)
TWO = {"num_encoder_layers": 2, "num_decoder_layers": 2}
ROW = {"inputs": 30, "targets": 24}
WEIGHTS, DIVISOR, Z_LOSS = (0.3, 0.7), 4.0, 0.01


def make_sequences(seed: int = 0, count: int = 12) -> list[packing.TrainSequence]:
    rng = np.random.default_rng(seed)
    sequences = []
    for number in range(count):
        inputs, targets = rng.integers(4, 22), (rng.integers(2, 4), rng.integers(5, 20))[number % 2]
        target = np.append(rng.integers(2, 50, targets - 1), 1)
        one = packing.TrainSequence(rng.integers(2, 50, inputs), target, number % 2, 1 / targets)
        sequences.append(one)
    return sequences


def lengths_of(sequences) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.array([len(one.inputs) for one in sequences])
    return inputs, np.array([len(one.targets) for one in sequences])


def both_batches(sequences) -> tuple[dict, dict, list[list[int]]]:
    rows = packing.assign_rows(sequences, **{f"{k[:-1]}_length": n for k, n in ROW.items()})
    shape = flat.choose_shapes([lengths_of(sequences)] * 2, len(sequences))[0]
    packed = packing.pack(sequences, rows, len(rows), ROW["inputs"], ROW["targets"])
    return packed, flat.lay_out(sequences, shape), rows


def make_params(config: T5Config) -> dict:
    """Initial ones, but for the norms' scales, which would all be equal."""
    rng = np.random.default_rng(1)

    def change(leaf) -> np.ndarray:
        return leaf * rng.normal(1.0, 0.2, leaf.shape) if leaf.ndim == 1 else np.asarray(leaf)

    unscanned = dataclasses.replace(config, scan_layers=False, dtype="float32")
    params = jax.tree.map(change, init_params(unscanned, jax.random.key(0)))
    return stack_layers(params) if config.scan_layers else params


def gradient(config: T5Config, params, batch) -> tuple:
    """((loss, task losses), gradients)."""
    of = jax.value_and_grad(loss_fn, has_aux=True)
    settings = config, WEIGHTS, DIVISOR, Z_LOSS
    with jax.default_matmul_precision("highest"):
        return jax.device_get(
            jax.jit(lambda p, b: of(p, b, jax.random.key(0), *settings))(params, batch)
        )


def with_same_dropout(config, sequences, rows, batch, seed=0):
    """A context in which both layouts drop the same units of the same sequences."""
    drawn = draw_factors(config, sequences, seed)
    encoder, decoder = (flat._order(side) for side in lengths_of(sequences))
    layers = {"encoder": ENCODER_LAYER, "decoder": DECODER_LAYER}
    packed = {
        stack: packed_factors(drawn[stack], names, rows, ROW, sequences)
        for stack, names in layers.items()
    }
    in_decoder = {"own_weights": "decoder", "weights": "cross"}
    flats = {
        "encoder": flat_factors(
            drawn["encoder"], ENCODER_LAYER, encoder, batch, {"weights": "encoder"}, sequences
        ),
        "decoder": flat_factors(
            drawn["decoder"], DECODER_LAYER, decoder, batch, in_decoder, sequences
        ),
    }
    return injected(packed, flats)


def distance(got, want) -> float:
    """Relative error of all leaves as one vector."""
    pairs = [*zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)]
    squares = sum(np.sum((np.float64(a) - b) ** 2) for a, b in pairs)
    return float(np.sqrt(squares / sum(np.sum(np.float64(b) ** 2) for _, b in pairs)))


def worst(got, want) -> float:
    """Relative error of the leaf that differs most."""

    def error(a, b) -> float:
        assert a.dtype == b.dtype
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))

    return max(jax.tree.leaves(jax.tree.map(error, got, want)))


@pytest.mark.parametrize(
    ("dtype", "settings", "tolerance"),
    [
        ("float64", {}, 1e-12),
        ("float32", {"tie_embeddings": True}, 1e-6),
        pytest.param(
            "float64",
            {"scan_layers": True, "remat": "full"} | TWO,
            1e-12,
            marks=pytest.mark.slow,
        ),
        pytest.param("float32", {}, 1e-6, marks=pytest.mark.slow),
        pytest.param("float64", {"tie_embeddings": True}, 1e-12, marks=pytest.mark.slow),
        pytest.param(
            "float64",
            {"tie_embeddings": True, "scale_tied_logits": False},
            1e-12,
            marks=pytest.mark.slow,
        ),
        pytest.param("float64", TWO, 1e-12, marks=pytest.mark.slow),
        pytest.param("float64", {"remat": "minimal"}, 1e-12, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_packed_layout(dtype, settings, tolerance):
    config = dataclasses.replace(CONFIG, dtype=dtype, **settings)
    sequences = make_sequences()
    packed, flat_batch, rows = both_batches(sequences)
    assert len(rows) > 1 and max(map(len, rows)) > 1
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), make_params(config))
        with with_same_dropout(config, sequences, rows, flat_batch):
            want, got = (gradient(config, params, batch) for batch in (packed, flat_batch))
    # In float32 a single parameter's gradient is itself uncertain by up to 2e-6 in either layout.
    error = worst if dtype == "float64" else distance
    assert error(got[1], want[1]) <= tolerance
    np.testing.assert_allclose(np.hstack(got[0]), np.hstack(want[0]), rtol=tolerance)


@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
def test_parts_add_up_to_the_whole(dropout_rate):
    """The gradient of a batch in parts; with dropout, each part draws by its number."""
    config = dataclasses.replace(CONFIG, dtype="float64", dropout_rate=dropout_rate)
    sequences = make_sequences(count=14)
    inputs, targets = lengths_of(sequences)
    dealt = flat_parts.deal(inputs, targets, 3)
    shapes = flat.choose_shapes([(inputs[part], targets[part]) for part in dealt] * 2, 5, 3)
    stacked = flat_parts.lay_out(sequences, shapes, 3)
    assert {len(part) for part in dealt} == {4, 5}
    key, settings = jax.random.key(0), (config, WEIGHTS, DIVISOR, Z_LOSS)
    of_one = jax.value_and_grad(loss_fn, has_aux=True)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, "float64"), make_params(config))
        got = accumulated(of_one, 1)(params, stacked, key, *settings)
        if dropout_rate:
            parts = [{name: array[part] for name, array in stacked.items()} for part in range(3)]
            keys = [jax.random.fold_in(key, part) for part in range(3)]
        else:
            parts, keys = [both_batches(sequences)[1]], [key]
        each = [of_one(params, *both, *settings) for both in zip(parts, keys, strict=True)]
        want = jax.tree.map(lambda *leaves: sum(leaves), *each)
        assert worst(got[1], want[1]) <= 1e-12
        np.testing.assert_allclose(np.hstack(got[0]), np.hstack(want[0]), rtol=1e-12)


@pytest.mark.slow
def test_300_steps_end_at_the_same_parameters():
    """AdamW in float64 on a new batch each step."""
    config = dataclasses.replace(CONFIG, dtype="float64", dropout_rate=0.0)
    optimizer, most_rows = optax.adamw(1e-3), 10
    shape = flat.FlatShape(256, 160, ((6, 24), (6, 16)), ((6, 24), (6, 8)))

    def step(params, state, batch):
        settings = jax.random.key(0), config, WEIGHTS, DIVISOR, Z_LOSS
        grads = jax.grad(loss_fn, has_aux=True)(params, batch, *settings)[0]
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    with jax.enable_x64(True):
        start = jax.tree.map(lambda leaf: np.asarray(leaf, "float64"), make_params(config))
        ends, compiled, done = [(start, optimizer.init(start))] * 2, jax.jit(step), 0
        for seed in range(400):
            sequences = make_sequences(seed)
            packed, _, rows = both_batches(sequences)
            if done == 300 or len(rows) > most_rows or not shape.fits(*lengths_of(sequences)):
                continue
            packed = packing.pack(sequences, rows, most_rows, ROW["inputs"], ROW["targets"])
            batches = packed, flat.lay_out(sequences, shape)
            pairs = zip(ends, batches, strict=True)
            ends, done = [compiled(*end, batch) for end, batch in pairs], done + 1
        params = [jax.device_get(end[0]) for end in ends]
    assert done == 300
    assert distance(params[0], start) > 0.05  # they moved
    assert worst(params[1], params[0]) <= 1e-8


@pytest.mark.slow
def test_padding_changes_nothing():
    """A larger shape, and other ids on its padding, give the same loss and gradients."""
    config = dataclasses.replace(CONFIG, dropout_rate=0.0)
    sequences = make_sequences()
    _, batch, _ = both_batches(sequences)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, "float32"), make_params(config))
    large = flat.lay_out(
        sequences, flat.FlatShape(320, 256, ((9, 32), (8, 24)), ((12, 24), (2, 8)))
    )
    for name in ("encoder_tokens", "decoder_input_tokens", "decoder_target_tokens"):
        is_padding = large[name.replace("target_tokens", "loss_weights")] == 0
        is_padding = np.arange(len(large[name])) >= np.count_nonzero(batch["decoder_loss_weights"])
        if name.startswith("encoder"):
            is_padding = large[name] == 0
        large[name] = np.where(is_padding, 7, large[name])
    assert worst(gradient(config, params, large), gradient(config, params, batch)) <= 1e-6


def test_tokens_of_a_sequence_share_their_zeros():
    """Own draws: a unit is dropped for a whole sequence, at the rate; other sequences differ."""
    from distill.student.flat_blocks import by_sequence
    from distill.student.flat_network import dropout_factors

    class Stack:
        config = CONFIG

        def make_rng(self, name):
            return jax.random.key(3)

    ((factors,),) = dropout_factors(Stack(), False, 1, [[40 * 100]])
    of_N = np.repeat(np.arange(40), 5)
    spread = np.asarray(by_sequence(factors, 100, of_N))[0].reshape(40, 5, 100)
    assert (spread == spread[:, :1]).all()
    assert len({row.tobytes() for row in spread[:, 0]}) == 40
    assert np.mean(spread == 0) == pytest.approx(0.3, abs=0.03)
    assert spread.max() == pytest.approx(1 / 0.7)


@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_loss_in_chunks_is_the_loss(vocab_axis, monkeypatch):
    """Value and gradients of several chunks, the last one with padding."""
    monkeypatch.setattr(flat_losses, "CHUNK_NUMBERS", 50 * 16)
    keys = jax.random.split(jax.random.key(0), 4)
    states, targets = jax.random.normal(keys[0], (37, 8)), jax.random.randint(keys[1], (37,), 0, 50)
    kernel, weights = jax.random.normal(keys[2], (50, 8)), jax.random.uniform(keys[3], (37,))

    def plain(states, kernel):
        return jnp.dot(token_nll(states @ kernel.T, targets, Z_LOSS), weights)

    def chunked(states, kernel):
        kernel = kernel if vocab_axis == 0 else kernel.T
        return (
            3.0 * flat_losses.weighted_nll(states, kernel, targets, weights, vocab_axis, Z_LOSS)[0]
        )

    with jax.default_matmul_precision("highest"):
        want = jax.value_and_grad(lambda *a: 3.0 * plain(*a), (0, 1))(states, kernel)
        got = jax.jit(jax.value_and_grad(chunked, (0, 1)))(states, kernel)
    assert worst(jax.device_get(got), jax.device_get(want)) <= 1e-6


def test_no_gather_has_a_scatter_as_its_gradient():
    """But the one of the embedding, whose rows are read by several tokens."""
    config = dataclasses.replace(CONFIG, dropout_rate=0.0)
    _, batch, _ = both_batches(make_sequences())
    params = make_params(config)
    of = jax.value_and_grad(loss_fn, has_aux=True)
    settings = config, WEIGHTS, DIVISOR, Z_LOSS
    text = str(jax.make_jaxpr(lambda p, b: of(p, b, jax.random.key(0), *settings))(params, batch))
    assert text.count("scatter-add") + text.count("scatter_add") == 1
    assert " gather[" in text


def test_gather_rows_fills_with_zeros():
    x = jnp.arange(6.0).reshape(3, 2) + 1
    sources, targets = jnp.array([2, 3, 0, 3]), jnp.array([2, 4, 0])
    got, pull = jax.vjp(lambda x: class_maps.gather_rows(x, sources, targets), x)
    np.testing.assert_array_equal(got, [[5, 6], [0, 0], [1, 2], [0, 0]])
    np.testing.assert_array_equal(pull(jnp.ones((4, 2)))[0], [[1, 1], [0, 0], [1, 1]])
