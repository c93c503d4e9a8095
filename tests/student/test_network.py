"""What the network has to be: packing, padding, causality, dropout, sizes, logical axes."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from distill.config.student import T5Config
from distill.student.dropout import (
    SEGMENT_SLOTS,
    by_key,
    by_segment,
    drop,
    dropout_factors,
)
from distill.student.network import T5
from distill.student.params import init_params, param_count, param_shapes, param_specs
from distill.student.relative_bias import RelativeBias, relative_buckets

LENGTHS = [(5, 3), (4, 6), (7, 2), (6, 4)]  # encoder and target tokens of four sequences


def shift(targets: np.ndarray) -> np.ndarray:
    return np.pad(targets[:-1], (1, 0))


@pytest.fixture(scope="module")
def sequences() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    return [(rng.integers(2, 40, i), np.append(rng.integers(2, 40, t - 1), 1)) for i, t in LENGTHS]


def pad(arrays: list[np.ndarray], length: int) -> np.ndarray:
    return np.stack([np.pad(a, (0, length - len(a))) for a in arrays]).astype(np.int32)


def plain_batch(sequences, encoder_length: int = 14, target_length: int = 9) -> dict:
    return {
        "encoder_input_tokens": pad([i for i, _ in sequences], encoder_length),
        "decoder_target_tokens": pad([t for _, t in sequences], target_length),
        "decoder_input_tokens": pad([shift(t) for _, t in sequences], target_length),
    }


def packed_batch(sequences) -> dict:
    """Two rows of two sequences each, in the shapes of `plain_batch`."""
    batch = {}
    for name, length, part in (
        ("encoder_input_tokens", 14, lambda s: s[0]),
        ("encoder_segment_ids", 14, lambda s: s[0]),
        ("decoder_target_tokens", 9, lambda s: s[1]),
        ("decoder_segment_ids", 9, lambda s: s[1]),
        ("decoder_input_tokens", 9, lambda s: shift(s[1])),
    ):
        rows = []
        for row in (sequences[:2], sequences[2:]):
            parts = [part(s) for s in row]
            if name.endswith("segment_ids"):
                parts = [np.full(len(p), k + 1) for k, p in enumerate(parts)]
            rows.append(np.concatenate(parts))
        batch[name] = pad(rows, length)
    return batch


def test_packing_changes_nothing(student, sequences):
    alone = student.logits(plain_batch(sequences))
    packed = student.logits(packed_batch(sequences))
    for n, (_, targets) in enumerate(sequences):
        start = 0 if n % 2 == 0 else LENGTHS[n - 1][1]
        got = packed[n // 2, start : start + len(targets)]
        np.testing.assert_allclose(got, alone[n, : len(targets)], rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing(student, sequences):
    tight = student.logits(plain_batch(sequences, 7, 6))
    wide = student.logits(plain_batch(sequences))
    for n, (_, targets) in enumerate(sequences):
        np.testing.assert_allclose(
            wide[n, : len(targets)], tight[n, : len(targets)], rtol=1e-5, atol=1e-5
        )


def test_the_future_does_not_change_the_past(student, sequences):
    batch = plain_batch(sequences)
    before = student.logits(batch)
    batch["decoder_input_tokens"] = batch["decoder_input_tokens"].copy()
    batch["decoder_input_tokens"][:, 3:] = 17
    after = student.logits(batch)
    past = batch["decoder_target_tokens"] > 0
    future, past = past & (np.arange(9) >= 3), past & (np.arange(9) < 3)
    np.testing.assert_array_equal(after[past], before[past])
    assert np.abs(after[future] - before[future]).max(axis=-1).min() > 1e-3


def test_relative_buckets_by_hand():
    causal = relative_buckets(400, 400, bidirectional=False)
    assert causal[0].tolist() == [0] * 400  # what is ahead counts as distance 0
    assert causal[399, ::-1][:17].tolist() == [*range(16), 16]
    # 16 + floor(16 log(distance / 16) / log(128 / 16)), at most 31
    assert [causal[399, 399 - n] for n in (60, 100, 112, 127, 399)] == [26, 30, 30, 31, 31]
    both = relative_buckets(400, 400, bidirectional=True)
    assert both[200, 200 - 7 : 208].tolist() == [*range(7, -1, -1), *range(17, 24)]
    assert both[0, 399] == 31 and both[399, 0] == 15


@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (5, 9), (9, 5), (1, 4), (4, 1)])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_bias_is_the_tables_number_of_each_querys_and_keys_bucket(
    student, queries, keys, bidirectional
):
    bias = RelativeBias(student.config, bidirectional)
    table = np.random.default_rng(0).normal(size=(student.config.num_heads, 32)).astype("float32")
    direction = np.random.default_rng(1).normal(size=(table.shape[0], queries, keys))

    def made(table, only_query=None):
        variables = {"params": {"rel_embedding": table}}
        return bias.apply(variables, queries, keys, only_query=only_query)

    buckets = relative_buckets(queries, keys, bidirectional)
    np.testing.assert_array_equal(made(table), table[:, buckets][None])
    last = made(table, only_query=queries - 1)
    np.testing.assert_array_equal(last, table[:, buckets[-1:]][None])
    gradient = jax.grad(lambda table: jnp.sum(made(table)[0] * direction))(table)
    expected = np.zeros(table.shape)
    np.add.at(expected, (slice(None), buckets), direction)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_dropout_is_drawn_by_its_key_and_off_at_rate_0(student, sequences, rate):
    config = dataclasses.replace(student.config, dropout_rate=rate)
    batch = plain_batch(sequences)

    @jax.jit
    def logits(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return T5(config).apply({"params": student.params}, batch, deterministic=False, rngs=rngs)

    once, again, other = logits(0), logits(0), logits(1)
    np.testing.assert_array_equal(once, again)
    assert (np.abs(once - other).max() > 1e-2) == (rate > 0)


class Stack(nn.Module):
    """Nothing but the dropout factors of two places."""

    config: T5Config

    @nn.compact
    def __call__(self, deterministic: bool) -> list:
        return dropout_factors(self, deterministic, 50, [[40], [40, 3]])


def test_dropout_factors_are_unbiased_and_differ_between_rows_and_places(student):
    config = dataclasses.replace(student.config, dropout_rate=0.25)
    rngs = {"dropout": jax.random.key(1)}
    (first,), (second, third) = Stack(config).apply({}, False, rngs=rngs)
    assert (first.shape, second.shape, third.shape) == ((50, 40), (50, 40), (50, 3))
    for factors in (first, second):
        np.testing.assert_allclose(np.unique(factors), [0, 4 / 3], rtol=1e-6)
        assert np.mean(factors) == pytest.approx(1, abs=0.06)  # 4 standard errors
        assert (factors[0] != factors[1]).any() and (factors[:, 0] != factors[:, 1]).any()
    assert (first != second).any()
    assert Stack(config).apply({}, True) == [[None], [None, None]]


def test_dropout_has_the_same_zeros_within_a_segment_and_others_in_the_next():
    segments = np.array([[1, 1, 2, 2, 0], [3, 3, 3, 0, 0]])
    factors = np.arange(2 * SEGMENT_SLOTS * 3, dtype=np.float32).reshape(2, -1)
    got = np.asarray(drop(jnp.ones((2, 5, 3)), by_segment(factors, segments)))
    np.testing.assert_array_equal(got[0, 0], got[0, 1])
    np.testing.assert_array_equal(got[0, 2], got[0, 3])
    assert (got[0, 0] != got[0, 2]).all() and (got[0, 2] != got[1, 0]).all()
    np.testing.assert_array_equal(got[1, 0], factors.reshape(2, SEGMENT_SLOTS, 3)[1, 3])


def test_attention_dropout_is_the_same_for_every_query():
    factors = np.arange(12, dtype=np.float32).reshape(2, 6)  # 2 heads, 3 keys
    got = np.asarray(drop(jnp.ones((2, 2, 4, 3)), by_key(factors, 2)))
    np.testing.assert_array_equal(got, np.tile(factors.reshape(2, 2, 1, 3), (1, 1, 4, 1)))


def test_bfloat16_stays_close(student, sequences):
    config = dataclasses.replace(student.config, dtype="bfloat16")
    batch = plain_batch(sequences)
    forward = jax.jit(lambda p: T5(config).apply({"params": p}, batch, deterministic=True))
    got = forward(student.params)
    expected = student.logits(batch)
    assert got.dtype == jnp.float32
    real = batch["decoder_target_tokens"] > 0
    error = np.linalg.norm((got - expected)[real]) / np.linalg.norm(expected[real])
    assert 1e-6 < error < 0.03  # not float32 in disguise, and not another function
    assert {leaf.dtype for leaf in jax.tree.leaves(param_shapes(config))} == {jnp.dtype("float32")}


# d_model, d_ff, layers of each stack, heads (of 64), and the count by the published
# checkpoints' shapes: T5 v1.1, vocabulary 32128, untied.
PUBLISHED = {
    "small": (512, 1024, 8, 6, 76_961_152),
    "base": (768, 2048, 12, 12, 247_577_856),
    "large": (1024, 2816, 24, 16, 783_150_080),
    "xl": (2048, 5120, 24, 32, 2_849_757_184),
    "xxl": (4096, 10240, 24, 64, 11_135_332_352),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_parameter_counts(size):
    embed_dim, mlp_dim, layers, heads, count = PUBLISHED[size]
    config = T5Config(
        vocab_size=32128,
        embed_dim=embed_dim,
        num_heads=heads,
        head_dim=64,
        mlp_dim=mlp_dim,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
    )
    assert param_count(config) == count
    tied = dataclasses.replace(config, tie_embeddings=True)
    if size == "small":
        assert count - param_count(tied) == 32128 * embed_dim


def test_logical_axes_name_every_axis(student):
    specs = param_specs(student.config)
    shapes = param_shapes(student.config)
    ranks = jax.tree.map(lambda leaf: len(leaf.shape), shapes)
    is_spec = {"is_leaf": lambda leaf: isinstance(leaf, PartitionSpec)}
    assert jax.tree.map(len, specs, **is_spec) == ranks
    layer = specs["decoder"]["layers_1"]
    assert layer["self_attention"]["query"]["kernel"] == PartitionSpec("embed", "joined_kv")
    assert layer["encoder_decoder_attention"]["out"]["kernel"] == PartitionSpec(
        "joined_kv", "embed"
    )
    assert layer["mlp"]["wi_0"]["kernel"] == PartitionSpec("embed", "mlp")
    assert layer["mlp"]["wo"]["kernel"] == PartitionSpec("mlp", "embed")
    assert layer["pre_mlp_layer_norm"]["scale"] == PartitionSpec("embed")
    assert specs["token_embedder"]["embedding"] == PartitionSpec("vocab", "embed")
    assert specs["decoder"]["logits_dense"]["kernel"] == PartitionSpec("embed", "vocab")
    assert specs["encoder"]["relpos_bias"]["rel_embedding"] == PartitionSpec(
        "heads", "relpos_buckets"
    )


def test_heads_start_looking_backward_and_forward_by_turns():
    """DIRECTION_INIT moves the encoder's bias alone: up on a head's own side, down on the other."""
    plain = T5Config(64, 32, 4, 8, 64, 1, 1)
    turned = dataclasses.replace(plain, direction_init=1.5)
    before, after = (init_params(config, jax.random.key(0)) for config in (plain, turned))
    start = before["encoder"].pop("relpos_bias")["rel_embedding"]
    bias = after["encoder"].pop("relpos_bias")["rel_embedding"]
    buckets_QxS = relative_buckets(9, 9, bidirectional=True)
    added_HxQxS = np.asarray(bias - start)[:, buckets_QxS]
    is_before_QxS = np.tri(9, dtype=bool)  # the token itself counts as before
    for head, added_QxS in enumerate(added_HxQxS):
        expected = np.where(is_before_QxS == (head % 2 == 0), 1.5, -1.5)
        np.testing.assert_allclose(added_QxS, expected, atol=1e-6)
    for got, same in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(got, same)


@pytest.mark.parametrize("seed", range(4))
def test_a_new_encoder_with_directions_tells_where_a_token_stands(seed):
    """The same two parts in the other order: near the same for a new T5, not with directions.

    Measured: .08 to .14 of the states' norm, and .53 to .74 (docs/paper.md).
    """
    parts = jnp.asarray([[5, 6, 7, 8, 9, 20, 21, 22, 23, 24]])
    swapped = jnp.roll(parts, 5, axis=1)

    def shift_of_first_part(direction_init: float) -> float:
        config = T5Config(64, 64, 4, 16, 128, 2, 2, direction_init=direction_init)
        params = {"params": init_params(config, jax.random.key(seed))}

        def encode(tokens: jax.Array) -> jax.Array:
            return T5(config).apply(params, tokens, deterministic=True, method="encode")[0]

        first, second = encode(parts)[:5], encode(swapped)[5:]
        return float(jnp.linalg.norm(first - second) / jnp.linalg.norm(first))

    assert 0.07 < shift_of_first_part(0.0) < 0.15
    assert 0.5 < shift_of_first_part(1.5) < 0.8


def test_initial_scales_are_t5x():
    """Standard deviations of the initializers, on matrices wide enough to tell."""
    config = T5Config(64, 256, 4, 64, 512, 1, 1, embed_init=0.1)
    params = init_params(config, jax.random.key(2))
    layer = params["encoder"]["layers_0"]
    for got, expected in (
        (params["token_embedder"]["embedding"], 0.1),
        (layer["attention"]["query"]["kernel"], 256**-0.5 / 8),
        (layer["attention"]["key"]["kernel"], 256**-0.5),
        (layer["mlp"]["wo"]["kernel"], 512**-0.5),
        (params["decoder"]["logits_dense"]["kernel"], 256**-0.5),
        (params["decoder"]["relpos_bias"]["rel_embedding"], (2 / (4 + 32)) ** 0.5),
    ):
        assert np.std(got) == pytest.approx(expected, rel=0.12)
    assert np.abs(layer["mlp"]["wo"]["kernel"]).max() < 2.5 * 512**-0.5  # truncated
    assert np.abs(layer["attention"]["key"]["kernel"]).max() > 3 * 256**-0.5  # not truncated
