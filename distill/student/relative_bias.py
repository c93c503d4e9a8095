"""The relative position bias of T5: a learned number for each head and bucket of distances.

Shape letters: Q queries, S keys, P distances of a query and a key (Q + S - 1), H heads, N buckets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.attend import Bias, TableBias
from distill.student.layers import Initializer, array_param

NUM_BUCKETS = 32
MAX_DISTANCE = 128
bias_init: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def relative_buckets(num_queries: int, num_keys: int, bidirectional: bool) -> np.ndarray:
    """Bucket of every (query, key) distance, a constant of the program.

    Half of the buckets (a quarter each way if bidirectional) are exact distances, the
    others grow logarithmically up to MAX_DISTANCE (Raffel et al. 2020, section 2.1,
    arXiv:1910.10683). In float32 like T5X's, so that no distance lands elsewhere.

    Returns:
      int32 [Q, S] in [0, NUM_BUCKETS).
    """
    distance = np.arange(num_queries)[:, None] - np.arange(num_keys)[None, :]
    buckets, offset = NUM_BUCKETS, np.zeros_like(distance)
    if bidirectional:
        buckets, offset = NUM_BUCKETS // 2, np.where(distance < 0, NUM_BUCKETS // 2, 0)
        distance = np.abs(distance)
    else:
        distance = np.maximum(distance, 0)
    exact = buckets // 2
    ratio = distance.astype(np.float32) / exact + np.finfo(np.float32).eps
    growth = np.log(ratio) / np.log(MAX_DISTANCE / exact) * (buckets - exact)
    far = np.minimum(exact + growth.astype(np.int32), buckets - 1)
    buckets_QxS: np.ndarray = offset + np.where(distance < exact, distance, far)
    return buckets_QxS.astype(np.int32)


def by_diagonal(values_HxP: jax.Array, num_queries: int) -> jax.Array:
    """Matrices with the same number all along a diagonal, as a bias by distance is.

    They are made of a broadcast, reshapes and slices. For long sequences, these and their gradient
    cost much less than a product with one-hot columns of all queries and keys.

    Args:
      values_HxP: of the diagonals, from the lower left corner to the upper right one.
      num_queries: Q.

    Returns:
      [H, Q, S], with S = P - Q + 1.
    """
    heads, distances = values_HxP.shape
    # Copies have P + 1 numbers, but are read back P at a time: each row begins one number earlier
    # than the row before it.
    padded_HxP = jnp.pad(values_HxP, ((0, 0), (0, 1)))
    copies_HxQxP = jnp.broadcast_to(padded_HxP[:, None], (heads, num_queries, distances + 1))
    first = num_queries - 1  # of the first row
    flat = copies_HxQxP.reshape(heads, -1)[:, first : first + num_queries * distances]
    return flat.reshape(heads, num_queries, distances)[:, :, : distances - first]


def direction_bias(num_heads: int, strength: float) -> np.ndarray:
    """float32 [H, NUM_BUCKETS]: +strength for keys before the query (and itself) in even heads
    and for keys after it in odd ones, -strength for the others."""
    is_before_N = np.arange(NUM_BUCKETS) < NUM_BUCKETS // 2
    is_even_H = np.arange(num_heads) % 2 == 0
    return np.where(is_even_H[:, None] == is_before_N, strength, -strength).astype(np.float32)


class RelativeBias(nn.Module):
    """Learned bias of each head and distance bucket, made once for all layers of a stack.

    T5X starts it near 0, so that a new encoder sees a bag of tokens, and has a large corpus to
    learn order from. `config.direction_init` starts its heads looking backward and forward by
    turns, as the two directions of DiSAN do (Shen et al. 2018, arXiv:1709.04696, which masks).
    """

    config: T5Config
    bidirectional: bool

    def setup(self) -> None:
        shape = (self.config.num_heads, NUM_BUCKETS)
        init = nn.with_logical_partitioning(self._init, ("heads", "relpos_buckets"))
        self.rel_embedding = array_param(self, "rel_embedding", init, shape)

    def __call__(
        self, num_queries: int, num_keys: int, only_query: jax.Array | None = None
    ) -> jax.Array:
        """float32 [1, H, Q, S], or [1, H, 1, S] of the one query position that is given."""
        table_HxN = self.rel_embedding
        if only_query is not None:
            buckets_QxS = jnp.asarray(relative_buckets(num_queries, num_keys, self.bidirectional))
            row_S = jax.lax.dynamic_index_in_dim(buckets_QxS, only_query, keepdims=False)
            return _of_buckets(table_HxN, row_S)[None, :, None]
        # From the last query's distance to the first key, to the first query's to the last key.
        to_first_key_Qx1 = relative_buckets(num_queries, 1, self.bidirectional)
        of_first_query_1xS = relative_buckets(1, num_keys, self.bidirectional)
        buckets_P = np.concatenate([to_first_key_Qx1[:0:-1, 0], of_first_query_1xS[0]])
        return by_diagonal(_of_buckets(table_HxN, jnp.asarray(buckets_P)), num_queries)[None]

    def of_stack(self, num_queries: int, num_keys: int) -> Bias:
        """What all layers of a stack add to their scores, in the type that these have."""
        values_1xHxQxS = self(num_queries, num_keys)
        if not self.config.narrow_scores:
            return values_1xHxQxS
        values_1xHxQxS = jax.lax.stop_gradient(values_1xHxQxS).astype(self.config.dtype)
        buckets_QxS = jnp.asarray(relative_buckets(num_queries, num_keys, self.bidirectional))
        return TableBias(values_1xHxQxS, self.rel_embedding, buckets_QxS)

    def _init(self, rng: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        table_HxN = bias_init(rng, shape, dtype)
        if self.bidirectional and self.config.direction_init:
            table_HxN += direction_bias(shape[0], self.config.direction_init)
        return table_HxN


def _of_buckets(table_HxN: jax.Array, buckets: jax.Array) -> jax.Array:
    """[H, length of buckets], as a product: its gradient is a product too, not a scatter."""
    columns_N = jax.nn.one_hot(buckets, NUM_BUCKETS, dtype=table_HxN.dtype, axis=0)
    return jnp.einsum("hn,np->hp", table_HxN, columns_N)
