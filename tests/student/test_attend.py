"""Attention with stored scores: against its definition, and what it writes to memory."""

from __future__ import annotations

import functools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.config.student import T5Config
from distill.student.attend import MASKED, TableBias, attend
from distill.student.network import T5
from distill.student.params import param_shapes
from distill.student.relative_bias import relative_buckets

B, Q, S, H, K, N = 3, 6, 6, 4, 5, 32


def arrays(dtype: str, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    of_segment = np.array([[1, 1, 1, 2, 2, 0]] * B)  # the last query sees no key
    mask = (of_segment[:, :, None] == of_segment[:, None]) & (of_segment > 0)[:, None]
    return {
        "queries": rng.normal(0, 1.5, (B, Q, H, K)).astype(dtype),
        "keys": rng.normal(0, 1, (B, S, H, K)).astype(dtype),
        "values": rng.normal(0, 1, (B, S, H, K)).astype(dtype),
        "table": rng.normal(0, 1, (H, N)).astype(dtype),
        "mask": mask[:, None],
        "factors": ((rng.random((B, H, 1, S)) < 0.9) / 0.9).astype(dtype),
        "direction": rng.normal(0, 1, (B, Q, H, K)).astype(dtype),
    }


def plain(queries, keys, values, mask, bias, factors):
    scores = jnp.einsum("bqhk,bshk->bhqs", queries, keys) + bias
    weights = jax.nn.softmax(jnp.where(mask, scores, MASKED)) * factors
    return jnp.einsum("bhqs,bshk->bqhk", weights, values)


@functools.cache
def gradient_function(core, as_table: bool):
    """Of attention's weighted sum to queries, keys, values and the bias's table."""
    buckets = relative_buckets(Q, S, bidirectional=True)

    def weighted(queries, keys, values, table, given):
        bias = table[:, buckets][None]
        if as_table:
            bias = TableBias(jax.lax.stop_gradient(bias), table, jnp.asarray(buckets))
        mixed = core(queries, keys, values, given["mask"], bias, given["factors"])
        return jnp.sum(mixed * given["direction"]), mixed

    return jax.jit(jax.grad(weighted, argnums=(0, 1, 2, 3), has_aux=True))


def gradients(core, given: dict, as_table: bool) -> tuple:
    """Attention's results, and the gradients."""
    differentiated = [given[name] for name in ("queries", "keys", "values", "table")]
    grads, mixed = gradient_function(core, as_table)(*differentiated, given)
    return mixed, *grads


def error(got, want) -> float:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


@pytest.mark.parametrize("as_table", [False, True])
def test_results_and_gradients_are_those_of_the_definition(as_table):
    with jax.enable_x64(True):
        given = arrays("float64")
        want = gradients(plain, given, as_table=False)
        got = gradients(attend, given, as_table)
    for one, other in zip(got, want, strict=True):
        assert error(one, other) < 1e-13


def test_a_query_that_sees_nothing_weighs_all_alike_and_has_no_gradient():
    given = arrays("float32")
    mixed, to_queries, *_ = gradients(attend, given, as_table=True)
    alike = np.einsum("bshk,bhs->bhk", given["values"], given["factors"][:, :, 0]) / S
    np.testing.assert_allclose(mixed[:, -1], alike, rtol=1e-5, atol=1e-6)
    assert not np.any(to_queries[:, -1])


def test_in_bfloat16_it_is_at_least_as_exact_as_t5xs_formula():
    """Both against float64, from the same numbers; `plain` is T5X's dot_product_attention."""
    errors = np.zeros((2, 5))
    for seed in range(20):
        given = arrays("bfloat16", seed)
        with jax.enable_x64(True):
            exact = {name: array.astype("float64") for name, array in given.items()}
            want = gradients(plain, exact, as_table=False)
        for number, core in enumerate((attend, plain)):
            got = gradients(core, given, as_table=core is attend)
            errors[number] += [error(one, other) for one, other in zip(got, want, strict=True)]
    assert np.all(errors[0] <= 1.05 * errors[1]), errors / 20
    assert np.mean(errors[0]) < np.mean(errors[1]), errors / 20


def batch_of(rows: int, inputs: int, targets: int, vocabulary: int) -> dict:
    rng = np.random.default_rng(1)

    def draw(length):
        return rng.integers(2, vocabulary, (rows, length)).astype(np.int32)

    batch = {"encoder_input_tokens": draw(inputs)}
    batch |= {f"decoder_{side}_tokens": draw(targets) for side in ("input", "target")}
    for side, length in (("encoder", inputs), ("decoder", targets)):
        batch[f"{side}_segment_ids"] = np.repeat([1, 2], length // 2)[None].repeat(rows, 0)
    return batch


def make_loss(config: T5Config):
    def loss(params, batch):
        rngs = {"dropout": jax.random.key(1)}
        logits = T5(config).apply({"params": params}, batch, deterministic=False, rngs=rngs)
        return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 3])

    return loss


def test_dropout_of_hidden_units_does_not_depend_on_how_factors_are_found():
    from distill.student.dropout import by_segment

    rng = np.random.default_rng(0)
    factors = rng.random((3, 8 * 5)).astype(np.float32)
    segments = rng.integers(0, 20, (3, 40)).astype(np.int32)
    got, want = (by_segment(factors, segments, dtype) for dtype in ("bfloat16", "float32"))
    np.testing.assert_array_equal(got, want)


def inner_jaxprs(equation):
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else [value]:
            one = getattr(one, "jaxpr", one)
            if hasattr(one, "eqns"):
                yield one


def shapes_at_products(jaxpr, times: int = 1) -> Counter:
    """How often products read or write an array, by (shape, type); sides of a shape sorted."""
    found: Counter = Counter()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            for var in (*equation.invars, *equation.outvars):
                found[tuple(sorted(var.aval.shape)), str(var.aval.dtype)] += times
        inner = times * equation.params.get("length", 1)
        for one in inner_jaxprs(equation):
            found += shapes_at_products(one, inner if equation.primitive.name == "scan" else times)
    return found


def loop_carries(jaxpr) -> set[tuple[int, ...]]:
    """Shapes that scans hand from layer to layer, or store for each."""
    found: set[tuple[int, ...]] = set()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            found |= {var.aval.shape for var in equation.outvars}
        for one in inner_jaxprs(equation):
            found |= loop_carries(one)
    return found


XXL = {"embed_dim": 4096, "num_heads": 64, "head_dim": 64, "mlp_dim": 10240, "vocab_size": 32128}
ENCODER_SCORES = (2, 64, 512, 512)


@pytest.fixture(scope="module")
def traced():
    """The jaxpr of XXL's gradient on a chip's two rows; nothing is allocated or compiled."""

    @functools.cache
    def trace(**settings):
        config = T5Config(
            **XXL,
            num_encoder_layers=24,
            num_decoder_layers=24,
            dtype="bfloat16",
            remat="minimal",
            scan_layers=True,
            **settings,
        )
        batch = batch_of(2, 512, 256, 32128)
        return jax.make_jaxpr(jax.grad(make_loss(config)))(param_shapes(config), batch).jaxpr

    return trace


def test_scores_are_stored_in_bfloat16_and_eight_times_a_layer(traced):
    """Written and read: scores, twice each way; weights for the values' gradient; the gradient of
    weights, and of scores, for queries, keys and the bias's table."""
    products = shapes_at_products(traced())
    of_scores = {
        dtype: count for (shape, dtype), count in products.items() if shape == ENCODER_SCORES
    }
    assert of_scores == {"bfloat16": 24 * 8}
    with_float32 = shapes_at_products(traced(float32_attention_logits=True))
    assert with_float32[ENCODER_SCORES, "float32"] > 0


def test_no_array_of_the_size_of_the_bias_goes_from_layer_to_layer(traced):
    """Neither the gradient of the relative bias, nor scores that are kept for later."""
    least = math.prod(ENCODER_SCORES[1:])
    large = {shape for shape in loop_carries(traced()) if math.prod(shape[-3:]) >= least}
    wide = {
        shape
        for shape in loop_carries(traced(float32_attention_logits=True))
        if shape[-3:] == ENCODER_SCORES[1:]
    }
    assert wide == {(1, *ENCODER_SCORES[1:])}
    assert not {shape for shape in large if shape[-2:] == ENCODER_SCORES[2:]}
