"""The parts of T5 v1.1: norm, dense, embedding, masks, attention, feed-forward.

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
from flax import linen as nn

from distill.config.student import T5Config
from distill.student.attend import MASKED, Bias, at_least_float32, attend, attend_to_states
from distill.student.attended import HeadsFirst, KeysValues, RealTokens, States
from distill.student.dropout import drop
from distill.student.gradients import NORM_EPSILON, gated_gelu, rms_norm

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
        x = x.astype(self.dtype)
        # With all axes, XLA's TPU compiler lays heads out as the attention reads them.
        return x @ kernel if self.dtype == "bfloat16" else flat_matmul(x, kernel)

    def weights(self) -> jax.Array:
        """The kernel [in, features] in `dtype`, of a module that is applied with parameters."""
        kernel: jax.Array = self.get_variable("params", "kernel")
        return kernel.astype(self.dtype)


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
        scale = gathered(scale.astype(self.dtype), ("embed",))
        x = x.astype(at_least_float32(x.dtype))
        if x.dtype == self.dtype:
            return rms_norm(x, scale)
        x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON)
        return x.astype(self.dtype) * scale


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

    def keys_values(self, x_BxSxD: jax.Array, real: RealTokens | None = None) -> KeysValues:
        """Keys and values of x; with `real`, x is [1, M, D], and they are those of the rows."""
        keys, values = self.key(x_BxSxD), self.value(x_BxSxD)
        if real is not None:
            keys, values = real.spread(keys), real.spread(values)
        return KeysValues(self._heads(keys), self._heads(values))

    def stored(self, x_BxSxD: jax.Array) -> KeysValues | HeadsFirst:
        """Keys and values of x for cross-attention that reads them at every decoded position.

        Heads come first unless `config.narrow_scores` is set or there is one row.
        """
        keys_values = self.keys_values(x_BxSxD)
        if self.config.narrow_scores or x_BxSxD.shape[0] == 1:
            return keys_values
        return HeadsFirst(*(jnp.swapaxes(each, 1, 2) for each in keys_values))

    def __call__(
        self,
        x_BxQxD: jax.Array,
        keys_values: KeysValues | HeadsFirst | States,
        mask: jax.Array,
        bias: Bias,
        factors: jax.Array | None,
        real: RealTokens | None = None,
    ) -> jax.Array:
        """Attends from x to the given keys and values.

        Args:
          x_BxQxD: where the queries come from.
          keys_values: of B' rows, from `keys_values` or `stored`, or the states that they are made
            of, which work without bias and factors. B may be a multiple of B': then
            B / B' consecutive rows of x share one row of keys and values (candidate targets of one
            input), which are not copied.
          mask: bool, broadcastable to [B', 1, Q', S], Q' = Q * B / B'.
          bias: broadcastable to [B', H, Q', S], or None.
          factors: dropout factors [B, H, 1, S] of the attention weights, or None.
          real: where the tokens of x stand in B' rows, if x is [1, M, D].

        Returns:
          As x.
        """
        rows, joined = keys_values[0].shape[0], self.config.joined_dim
        queries = self.query(x_BxQxD) if real is None else real.spread(self.query(x_BxQxD))
        queries_BxQxHxK = self._heads(queries.reshape(rows, -1, joined))
        if isinstance(keys_values, States):
            assert bias is None and factors is None
            shape = (-1, self.config.num_heads, self.config.head_dim)
            kernels = (dense.weights().reshape(shape) for dense in (self.key, self.value))
            mixed_BxQxHxK = attend_to_states(queries_BxQxHxK, keys_values.states, mask, *kernels)
        elif self.config.narrow_scores:
            keys, values = keys_values
            mixed_BxQxHxK = attend(queries_BxQxHxK, keys, values, mask, bias, factors)
        else:
            assert not isinstance(bias, tuple)  # see `RelativeBias.of_stack`
            keys, values = keys_values
            axes = "bhsk" if isinstance(keys_values, HeadsFirst) else "bshk"
            mixed_BxQxHxK = self._wide(queries_BxQxHxK, keys, values, mask, bias, factors, axes)
        if real is not None:
            return self.out(real.collect(mixed_BxQxHxK.reshape(rows, -1, joined)))
        return self.out(mixed_BxQxHxK.reshape(*x_BxQxD.shape[:-1], joined))

    def _wide(
        self,
        queries_BxQxHxK: jax.Array,
        keys: jax.Array,
        values: jax.Array,
        mask: jax.Array,
        bias: jax.Array | None,
        factors: jax.Array | None,
        axes: str,
    ) -> jax.Array:
        """`attend` with scores that are stored in float32, or float64; axes are of the keys."""
        logits_BxHxQxS = jnp.einsum(
            f"bqhk,{axes}->bhqs",
            queries_BxQxHxK,
            keys,
            preferred_element_type=at_least_float32(self.config.dtype),
        )
        if bias is not None:
            logits_BxHxQxS += bias
        weights_BxHxQxS = jax.nn.softmax(jnp.where(mask, logits_BxHxQxS, MASKED))
        weights_BxHxQxS = drop(weights_BxHxQxS.astype(self.config.dtype), factors)
        return jnp.einsum(f"bhqs,{axes}->bqhk", weights_BxHxQxS, values)


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
        projected = [
            Dense(
                config.mlp_dim,
                ("embed", "mlp"),
                dtype=config.dtype,
                name="wi" if len(names) == 1 else f"wi_{i}",
            )(x_BxTxD)
            for i in range(len(names))
        ]
        hidden_BxTxF = _activated(names, projected)
        hidden_BxTxF = drop(hidden_BxTxF, factors_BxTxF)
        hidden_BxTxF = constrained(hidden_BxTxF, ("batch", "length", "mlp"))
        return Dense(config.embed_dim, ("mlp", "embed"), dtype=config.dtype, name="wo")(
            hidden_BxTxF
        )


def _activated(names: Sequence[str], projected: Sequence[jax.Array]) -> jax.Array:
    """The product of the projections, each through its activation."""
    if tuple(names) == ("gelu", "linear") and projected[0].dtype != jnp.bfloat16:
        return gated_gelu(projected[0], projected[1])
    factors = (ACTIVATION_FUNCTIONS[n](x) for n, x in zip(names, projected, strict=True))
    return functools.reduce(jnp.multiply, factors)
