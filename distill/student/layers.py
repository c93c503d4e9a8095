"""The parts of T5 v1.1: norm, dense, embedding, relative bias, masks, attention, feed-forward.

Parameter names, shapes and initializers are T5X's
(t5x/examples/t5/layers.py), so that checkpoints carry over; the code is ours.
Shape letters: B rows, Q queries, S keys, D embed, H heads, K head dim, F mlp, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.dropout import drop

NUM_BUCKETS = 32
MAX_DISTANCE = 128
NORM_EPSILON = 1e-6
MASKED = -1e10  # attention logit of a pair that may not see each other

ACTIVATION_FUNCTIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": nn.gelu,
    "linear": lambda x: x,
    "relu": nn.relu,
    "silu": nn.silu,
    "tanh": nn.tanh,
}
Initializer = Callable[[jax.Array, Sequence[int], Any], jax.Array]
attention_init: Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
dense_init: Initializer = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
bias_init: Initializer = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def at_least_float32(dtype: str | jnp.dtype) -> jnp.dtype:
    """What is computed in where bfloat16 would lose too much: float32, or float64 for float64."""
    return jnp.promote_types(dtype, jnp.float32)


def constrained(x: jax.Array, axes: Sequence[str | None]) -> jax.Array:
    """x with the names of its logical axes, which the mesh's rules map to devices."""
    return cast(jax.Array, nn.with_logical_constraint(x, tuple(axes)))


def flat_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x [..., in] @ kernel [in, out], with the leading axes of x joined for the product.

    The gradient of a product of two matrices is again two such products; with more
    axes XLA's CPU compiler adds transpositions that cost as much as the product.
    """
    rows = x.reshape(-1, x.shape[-1])
    return (rows @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def gathered(param: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """The parameter with all of its embedding axis on every device; its gradient is scattered.

    Where the mesh's rules split "embed" (`distill.training.mesh`, 'zero'), a compiler left alone
    may gather the activations of all rows instead, which are larger. Elsewhere nothing happens.

    Args:
      param: in the type that it is used in, so that no more than that is sent.
      axes: its logical axis names.
    """
    kept = tuple(None if axis == "embed" else axis for axis in axes)
    return constrained(param, kept)


def _gathered_forward(param: jax.Array, axes: tuple[str, ...]) -> tuple[jax.Array, None]:
    return gathered(param, axes), None


def _gathered_backward(axes: tuple[str, ...], _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (constrained(gradient, axes),)


gathered.defvjp(_gathered_forward, _gathered_backward)


def array_param(
    module: nn.Module, name: str, init: Callable[..., object], shape: tuple[int, ...]
) -> jax.Array:
    """A float32 parameter as the array that a module's methods get.

    flax declares what the initializer returns: the array in a box with its axes' names.
    """
    array: Any = module.param(name, init, shape, jnp.float32)
    return cast(jax.Array, array)


class Dense(nn.Module):
    """x @ kernel without a bias; the parameter is float32, the product in `dtype`.

    Attributes:
      features: width of the result.
      axes: logical axis names of the kernel's two axes.
      kernel_init: initializer of the kernel.
      dtype: what is computed in.
    """

    features: int
    axes: tuple[str, str]
    kernel_init: Initializer = dense_init
    dtype: str | jnp.dtype = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., in] to [..., features]."""
        init = nn.with_logical_partitioning(self.kernel_init, self.axes)
        param = array_param(self, "kernel", init, (x.shape[-1], self.features))
        kernel = gathered(param.astype(self.dtype), self.axes)
        return flat_matmul(x.astype(self.dtype), kernel)


class RMSNorm(nn.Module):
    """Division by the root mean square, times a scale (Zhang & Sennrich 2019, arXiv:1910.07467).

    The statistics are float32 where `dtype` is bfloat16.
    """

    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes the last axis of x."""
        init = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        scale = array_param(self, "scale", init, (x.shape[-1],))
        x = x.astype(at_least_float32(x.dtype))
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON)
        return x.astype(self.dtype) * gathered(scale.astype(self.dtype), ("embed",))


class Embedding(nn.Module):
    """The token embedding, looked up by gather; may serve as the output layer as well."""

    config: T5Config

    def setup(self) -> None:
        config = self.config
        init = nn.with_logical_partitioning(
            nn.initializers.normal(stddev=config.embed_init), ("vocab", "embed")
        )
        shape = (config.vocab_size, config.embed_dim)
        self.embedding = array_param(self, "embedding", init, shape)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Rows of int tokens of any shape [...]: [..., D] (NaN for ids beyond the vocabulary)."""
        return jnp.take(self.embedding, tokens, axis=0).astype(self.config.dtype)

    def attend(self, y_BxTxD: jax.Array) -> jax.Array:
        """Logits [B, T, V] of the tied output layer, float32, divided by sqrt(D) if so set."""
        dtype = at_least_float32(y_BxTxD.dtype)
        divisor = math.sqrt(self.config.embed_dim) if self.config.scale_tied_logits else 1.0
        y_BxTxD = y_BxTxD.astype(dtype) / divisor
        return flat_matmul(y_BxTxD, gathered(self.embedding.T.astype(dtype), ("embed", "vocab")))


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

    @nn.compact
    def __call__(
        self, num_queries: int, num_keys: int, only_query: jax.Array | None = None
    ) -> jax.Array:
        """float32 [1, H, Q, S], or [1, H, 1, S] of the one query position that is given."""
        shape = (self.config.num_heads, NUM_BUCKETS)
        init = nn.with_logical_partitioning(self._init, ("heads", "relpos_buckets"))
        table_HxN = array_param(self, "rel_embedding", init, shape)
        buckets_QxS = jnp.asarray(relative_buckets(num_queries, num_keys, self.bidirectional))
        if only_query is not None:
            buckets_QxS = jax.lax.dynamic_slice_in_dim(buckets_QxS, only_query, 1)
        # A product with one-hot columns: its gradient is a product too, not a scatter.
        columns_NxQxS = jax.nn.one_hot(buckets_QxS, NUM_BUCKETS, dtype=table_HxN.dtype, axis=0)
        return jnp.einsum("hn,nqs->hqs", table_HxN, columns_NxQxS)[None]

    def _init(self, rng: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
        table_HxN = bias_init(rng, shape, dtype)
        if self.bidirectional and self.config.direction_init:
            table_HxN += direction_bias(shape[0], self.config.direction_init)
        return table_HxN


class Attention(nn.Module):
    """Multi-head attention; 1/sqrt(K) is in the query initializer, as in T5."""

    config: T5Config

    def setup(self) -> None:
        config = self.config

        def query_init(rng: jax.Array, shape: Sequence[int], dtype: Any) -> jax.Array:
            return attention_init(rng, shape, dtype) / math.sqrt(config.head_dim)

        def project(init: Initializer) -> Dense:
            return Dense(config.joined_dim, ("embed", "joined_kv"), init, config.dtype)

        self.query = project(query_init)
        self.key = project(attention_init)
        self.value = project(attention_init)
        self.out = Dense(config.embed_dim, ("joined_kv", "embed"), attention_init, config.dtype)

    def _heads(self, x_BxSxJ: jax.Array) -> jax.Array:
        """Splits the joined axis: [B, S, H, K]."""
        shape = (*x_BxSxJ.shape[:-1], self.config.num_heads, self.config.head_dim)
        return constrained(x_BxSxJ.reshape(shape), ("batch", "length", "heads", "kv"))

    def keys_values(self, x_BxSxD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values of x, each [B, S, H, K]."""
        return self._heads(self.key(x_BxSxD)), self._heads(self.value(x_BxSxD))

    def __call__(
        self,
        x_BxQxD: jax.Array,
        keys_values: tuple[jax.Array, jax.Array],
        mask: jax.Array,
        bias: jax.Array | None,
        factors: jax.Array | None,
    ) -> jax.Array:
        """Attends from x to the given keys and values.

        Args:
          x_BxQxD: where the queries come from.
          keys_values: from `keys_values`, [B', S, H, K] each. B may be a multiple of
            B': then B / B' consecutive rows of x share one row of keys and values
            (candidate targets of one input), which are not copied.
          mask: bool, broadcastable to [B', 1, Q', S], Q' = Q * B / B'.
          bias: float32, broadcastable to [1, H, Q', S], or None.
          factors: dropout factors [B, H, 1, S] of the attention weights, or None.

        Returns:
          [B, Q, D].
        """
        keys_BxSxHxK, values_BxSxHxK = keys_values
        rows = keys_BxSxHxK.shape[0]
        queries_BxQxHxK = self._heads(self.query(x_BxQxD).reshape(rows, -1, self.config.joined_dim))
        logits_BxHxQxS = jnp.einsum(
            "bqhk,bshk->bhqs",
            queries_BxQxHxK,
            keys_BxSxHxK,
            preferred_element_type=at_least_float32(self.config.dtype),
        )
        if bias is not None:
            logits_BxHxQxS += bias
        weights_BxHxQxS = jax.nn.softmax(jnp.where(mask, logits_BxHxQxS, MASKED))
        weights_BxHxQxS = drop(weights_BxHxQxS.astype(self.config.dtype), factors)
        mixed_BxQxHxK = jnp.einsum("bhqs,bshk->bqhk", weights_BxHxQxS, values_BxSxHxK)
        joined_BxQxJ = mixed_BxQxHxK.reshape(*x_BxQxD.shape[:-1], self.config.joined_dim)
        return self.out(joined_BxQxJ)


def segments(tokens: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """Segment of every token, 0 on padding; one segment a row if no ids are given.

    Args:
      tokens: int [B, L], pad id 0.
      segment_ids: int [B, L] of a packed batch, or None.
    """
    return jnp.where(tokens > 0, 1 if segment_ids is None else segment_ids, 0)


def segment_mask(queries_BxQ: jax.Array, keys_BxS: jax.Array) -> jax.Array:
    """bool [B, 1, Q, S]: both tokens are of the same segment and not padding."""
    same_BxQxS = queries_BxQ[:, :, None] == keys_BxS[:, None, :]
    return (same_BxQxS & (keys_BxS > 0)[:, None, :])[:, None]


def causal_mask(length: int) -> jax.Array:
    """bool [1, 1, T, T]: the key is not after the query."""
    return jnp.tril(jnp.ones((length, length), bool))[None, None]


def residual_stream(x_BxTxD: jax.Array) -> jax.Array:
    """Names the logical axes of the residual stream."""
    return constrained(x_BxTxD, ("batch", "length", "embed"))


class FeedForward(nn.Module):
    """Product of the activated input projections, then the output projection."""

    config: T5Config

    @nn.compact
    def __call__(self, x_BxTxD: jax.Array, factors_BxTxF: jax.Array | None) -> jax.Array:
        """Maps [B, T, D] to [B, T, D]; factors are of the hidden units' dropout."""
        config = self.config
        names = config.mlp_activations
        hidden_BxTxF: jax.Array | None = None
        for i, name in enumerate(names):
            dense = Dense(
                config.mlp_dim,
                ("embed", "mlp"),
                dtype=config.dtype,
                name="wi" if len(names) == 1 else f"wi_{i}",
            )
            factor_BxTxF = ACTIVATION_FUNCTIONS[name](dense(x_BxTxD))
            hidden_BxTxF = factor_BxTxF if hidden_BxTxF is None else hidden_BxTxF * factor_BxTxF
        assert hidden_BxTxF is not None  # T5Config refuses no activations
        hidden_BxTxF = drop(hidden_BxTxF, factors_BxTxF)
        hidden_BxTxF = constrained(hidden_BxTxF, ("batch", "length", "mlp"))
        return Dense(config.embed_dim, ("mlp", "embed"), dtype=config.dtype, name="wo")(
            hidden_BxTxF
        )
