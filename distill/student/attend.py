"""Attention over scores that are stored in the type of the activations, with its own gradient.

Scores, of shape [B, H, Q, S], are the largest arrays of a layer. Here only they and their gradient
are written to memory, both in the type of the activations. All arithmetic between the products is
in float32 (float64 for float64) and follows from the scores and two numbers per query, the maximum
and the reciprocal of the sum of the softmax. The gradient needs the sum of each query's
probabilities times their gradients; it is the product of the result and its gradient (Dao et al.
2022, arXiv:2205.14135, appendix B.2).
Shape letters: B rows, Q queries, S keys, D embed, H heads, K head dim, N buckets of the relative
bias.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from distill.student.dropout import drop

MASKED = -1e10  # attention logit of a pair that may not see each other
# Arrays that REMAT = 'minimal' stores, so that only the scores themselves are computed again.
STORED = ("attention_maximum", "attention_scale", "attention_result")


class TableBias(NamedTuple):
    """A relative bias whose gradient goes to its table directly.

    The gradient of the bias, [1, H, Q, S], is then never stored, nor added up over the layers.

    Attributes:
      values_1xHxQxS: the bias, without a gradient of its own.
      table_HxN: what it was looked up in.
      buckets_QxS: the table's column of each pair.
    """

    values_1xHxQxS: jax.Array
    table_HxN: jax.Array
    buckets_QxS: jax.Array


Bias = TableBias | jax.Array | None
_Saved = tuple[Any, ...]


def at_least_float32(dtype: str | jnp.dtype) -> jnp.dtype:
    """What is computed in where bfloat16 would lose too much: float32, or float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)


@jax.custom_vjp
def attend(
    queries_BxQxHxK: jax.Array,
    keys_BxSxHxK: jax.Array,
    values_BxSxHxK: jax.Array,
    mask: jax.Array,
    bias: Bias,
    factors: jax.Array | None,
) -> jax.Array:
    """Softmax attention: the values, weighted by each query's softmax over the keys.

    Args:
      queries_BxQxHxK: scaled already.
      keys_BxSxHxK: of the same type.
      values_BxSxHxK: of the same type.
      mask: bool, broadcastable to [B, H, Q, S]; true where a query sees a key.
      bias: broadcastable to [B, H, Q, S], or None.
      factors: dropout factors of the weights, broadcastable to [B, H, Q, S], or None; they have
        no gradient.

    Returns:
      [B, Q, H, K], of the values' type.
    """
    return _forward(queries_BxQxHxK, keys_BxSxHxK, values_BxSxHxK, mask, bias, factors)[0]


def attend_to_states(
    queries_BxQxHxK: jax.Array,
    states_BxSxD: jax.Array,
    mask: jax.Array,
    key_kernel_DxHxK: jax.Array,
    value_kernel_DxHxK: jax.Array,
) -> jax.Array:
    """Softmax attention to what keys and values are made of, without making them.

    A query times all keys, `q (X W)^T`, is `(q W^T) X^T`, and a mixture of values, `p (X W)`, is
    `(p X) W`. Keys and values of S states cost 4 * S * D * H * K operations. Here each query costs
    that of one state, and H * D instead of H * K numbers for each state. With few queries, that
    is less.

    Args:
      queries_BxQxHxK: scaled already.
      states_BxSxD: what keys and values are projected from.
      mask: bool, broadcastable to [B, H, Q, S]; true where a query sees a key.
      key_kernel_DxHxK: of the projection to keys.
      value_kernel_DxHxK: of the projection to values.

    Returns:
      [B, Q, H, K], as of `attend` without bias and dropout, but for rounding.
    """
    heads_BxHxQxD = jnp.einsum("bqhk,dhk->bhqd", queries_BxQxHxK, key_kernel_DxHxK)
    scores_BxHxQxS = jnp.einsum("bhqd,bsd->bhqs", heads_BxHxQxD, states_BxSxD)
    weights_BxHxQxS = jax.nn.softmax(jnp.where(mask, scores_BxHxQxS, MASKED))
    mixed_BxHxQxD = jnp.einsum("bhqs,bsd->bhqd", weights_BxHxQxS, states_BxSxD)
    return jnp.einsum("bhqd,dhk->bqhk", mixed_BxHxQxD, value_kernel_DxHxK)


def _forward(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    bias: Bias,
    factors: jax.Array | None,
) -> tuple[jax.Array, _Saved]:
    scores_BxHxQxS = jnp.einsum("bqhk,bshk->bhqs", queries, keys)
    if bias is not None:
        values_of_bias = bias.values_1xHxQxS if isinstance(bias, TableBias) else bias
        scores_BxHxQxS += values_of_bias.astype(scores_BxHxQxS.dtype)
    scores_BxHxQxS = jnp.where(mask, scores_BxHxQxS, MASKED)
    maximum, scale = _statistics(scores_BxHxQxS)
    weights = _probabilities(scores_BxHxQxS, maximum, scale).astype(values.dtype)
    mixed = jnp.einsum("bhqs,bshk->bqhk", drop(weights, factors), values)
    mixed = checkpoint_name(mixed, STORED[2])
    return mixed, (
        queries,
        keys,
        values,
        mask,
        bias,
        factors,
        scores_BxHxQxS,
        maximum,
        scale,
        mixed,
    )


def _statistics(scores_BxHxQxS: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maximum of each query's scores, and one over the sum of the exponentials: [B, H, Q, 1]."""
    scores_BxHxQxS = scores_BxHxQxS.astype(at_least_float32(scores_BxHxQxS.dtype))
    maximum = jnp.max(scores_BxHxQxS, axis=-1, keepdims=True)
    scale = 1 / jnp.sum(jnp.exp(scores_BxHxQxS - maximum), axis=-1, keepdims=True)
    # Without the barrier, XLA stores the differences from the maximum in float32 for later use.
    maximum, scale = jax.lax.optimization_barrier((maximum, scale))
    return checkpoint_name(maximum, STORED[0]), checkpoint_name(scale, STORED[1])


def _probabilities(scores: jax.Array, maximum: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.exp(scores.astype(maximum.dtype) - maximum) * scale


def _backward(saved: _Saved, gradient_BxQxHxK: jax.Array) -> tuple[Any, ...]:
    queries, keys, values, mask, bias, factors, scores_BxHxQxS, maximum, scale, mixed = saved
    dtype = at_least_float32(queries.dtype)
    probabilities = _probabilities(scores_BxHxQxS, maximum, scale)
    weights = drop(probabilities.astype(values.dtype), factors)
    to_values = jnp.einsum("bhqs,bqhk->bshk", weights, gradient_BxQxHxK)
    inner = mixed.astype(dtype) * gradient_BxQxHxK.astype(dtype)
    inner_BxHxQx1 = jnp.swapaxes(jnp.sum(inner, axis=-1), 1, 2)[..., None]
    to_weights = jnp.einsum("bqhk,bshk->bhqs", gradient_BxQxHxK, values).astype(dtype)
    to_scores = probabilities * (drop(to_weights, factors) - inner_BxHxQx1)
    to_scores = jnp.where(mask, to_scores, 0).astype(queries.dtype)
    to_scores = jax.lax.optimization_barrier(to_scores)  # is read three times, written once
    to_queries = jnp.einsum("bhqs,bshk->bqhk", to_scores, keys)
    to_keys = jnp.einsum("bhqs,bqhk->bshk", to_scores, queries)
    return to_queries, to_keys, to_values, None, _bias_gradient(to_scores, bias), None


def _bias_gradient(to_scores_BxHxQxS: jax.Array, bias: Bias) -> Any:
    if bias is None:
        return None
    dtype = at_least_float32(to_scores_BxHxQxS.dtype)
    if isinstance(bias, TableBias):
        buckets = bias.table_HxN.shape[1]
        columns_QxSxN = jax.nn.one_hot(bias.buckets_QxS, buckets, dtype=to_scores_BxHxQxS.dtype)
        to_table_BxHxN = jnp.einsum(
            "bhqs,qsn->bhn", to_scores_BxHxQxS, columns_QxSxN, preferred_element_type=dtype
        )
        to_table_HxN = jnp.sum(to_table_BxHxN, axis=0).astype(bias.table_HxN.dtype)
        nothing: Any = None
        return TableBias(nothing, to_table_HxN, nothing)
    axes = tuple(axis for axis, size in enumerate(bias.shape) if size == 1)
    summed = jnp.sum(to_scores_BxHxQxS.astype(dtype), axis=axes, keepdims=True)
    return summed.astype(bias.dtype)


attend.defvjp(_forward, _backward)
