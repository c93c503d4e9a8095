"""Attention over scores in float32, or float64, with a gradient of its own.

On a CPU, a pass over an array of scores costs more than the arithmetic on it. The backward pass
keeps the softmax alone and makes fewer passes than that of autodiff: masked scores need no second
mask, since their probability is 0, and the gradient of the bias is a product.
`distill.student.attend` is for scores in bfloat16.
Shape letters: S sequences, T queries, I keys, H heads, K head dim.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from distill.student.attend import MASKED, at_least_float32
from distill.student.dropout import drop
from distill.student.gradients import sum_of_rows

_Saved = tuple[Any, ...]


@jax.custom_vjp
def softmax_attend(
    queries_SxHxTxK: jax.Array,
    keys_SxHxIxK: jax.Array,
    values_SxHxIxK: jax.Array,
    mask: jax.Array,
    bias_1xHxTxI: jax.Array | None,
    factors: jax.Array | None,
) -> jax.Array:
    """Softmax attention: the values, weighted by each query's softmax over the keys.

    Args:
      queries_SxHxTxK: scaled already.
      keys_SxHxIxK: of the same type.
      values_SxHxIxK: of the same type.
      mask: bool, broadcastable to [S, H, T, I]; true where a query sees a key. The result of a
        query that sees no key must not be used.
      bias_1xHxTxI: of the scores' type, or None.
      factors: dropout factors of the weights, broadcastable to [S, H, T, I], or None; they have
        no gradient.

    Returns:
      [S, H, T, K], of the values' type.
    """
    queries, keys, values = queries_SxHxTxK, keys_SxHxIxK, values_SxHxIxK
    return _forward(queries, keys, values, mask, bias_1xHxTxI, factors)[0]


def _forward(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    mask: jax.Array,
    bias: jax.Array | None,
    factors: jax.Array | None,
) -> tuple[jax.Array, _Saved]:
    wide = at_least_float32(queries.dtype)
    scores = jnp.einsum("shtk,shik->shti", queries, keys, preferred_element_type=wide)
    if bias is not None:
        scores += bias
    weights = jax.nn.softmax(jnp.where(mask, scores, MASKED))
    dropped = drop(weights.astype(values.dtype), factors)
    mixed = jnp.einsum("shti,shik->shtk", dropped, values)
    return mixed, (queries, keys, values, weights, bias, factors)


def _backward(saved: _Saved, gradient: jax.Array) -> tuple[Any, ...]:
    queries, keys, values, weights, bias, factors = saved
    dtype, wide = queries.dtype, weights.dtype
    dropped = drop(weights.astype(dtype), factors)
    to_values = jnp.einsum("shti,shtk->shik", dropped, gradient)
    to_weights = jnp.einsum("shtk,shik->shti", gradient, values, preferred_element_type=wide)
    to_weights = drop(to_weights, factors)
    inner = jnp.sum(weights * to_weights, axis=-1, keepdims=True)
    to_scores = weights * (to_weights - inner)
    to_scores = jax.lax.optimization_barrier(to_scores)  # is read three times, written once
    to_queries = jnp.einsum("shti,shik->shtk", to_scores.astype(dtype), keys)
    to_keys = jnp.einsum("shti,shtk->shik", to_scores.astype(dtype), queries)
    to_bias = sum_of_rows(to_scores)[None] if bias is not None else None
    return to_queries, to_keys, to_values, None, to_bias, None


softmax_attend.defvjp(_forward, _backward)
