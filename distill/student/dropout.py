"""Dropout as factors that are drawn once for a whole stack, and spread to where they are used.

The places are T5X's (t5x/examples/t5/network.py). What shares its zeros is a segment of a packed
row, not the row.
Shape letters: B rows, L length, S keys, H heads, N factors of a row, G segment slots.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

# Segments of a packed row that have dropout factors of their own.
SEGMENT_SLOTS = 8


def dropout_factors(
    stack: nn.Module, deterministic: bool, rows: int, widths: list[list[int]]
) -> list[list[jax.Array | None]]:
    """Dropout factors for all places of a stack, from one draw of its rng "dropout".

    One draw instead of one for each place: less to run, and much less to compile.

    Args:
      stack: the module, whose `config` has the rate.
      deterministic: no dropout.
      rows: B.
      widths: how many factors each row needs, for each place of each layer.

    Returns:
      As nested as `widths`: float32 [B, width], 0 with probability rate, else
      1 / (1 - rate); None without dropout.
    """
    rate = stack.config.dropout_rate
    if deterministic or rate == 0:
        return [[None] * len(layer) for layer in widths]
    ends = np.cumsum([width for layer in widths for width in layer])
    kept_BxN = jax.random.bernoulli(stack.make_rng("dropout"), 1 - rate, (rows, int(ends[-1])))
    factors_BxN = nn.with_logical_constraint(kept_BxN / (1 - rate), ("batch", None))
    places = iter(jnp.split(factors_BxN, ends[:-1], axis=1))
    return [[next(places) for _ in layer] for layer in widths]


def by_layer(factors_BxN: jax.Array | None, count: int) -> jax.Array | None:
    """Factors of `count` layers, one after the other in a row: [L, B, N / L], or None."""
    if factors_BxN is None:
        return None
    return jnp.moveaxis(factors_BxN.reshape(len(factors_BxN), count, -1), 1, 0)


def by_place(factors_BxN: jax.Array | None, widths: list[int]) -> list[jax.Array | None]:
    """Splits a layer's factors into those of its places, [B, width] each, or None each."""
    if factors_BxN is None:
        return [None] * len(widths)
    return [*jnp.split(factors_BxN, np.cumsum(widths)[:-1], axis=1)]


def by_segment(
    factors_BxN: jax.Array | None, segments_BxL: jax.Array, dtype: str = "float32"
) -> jax.Array | None:
    """Spreads a hidden place's factors over a row: all of a segment shares the same ones.

    T5X shares dropout's zeros along a row's length. Packed, that would tie together
    sequences that have nothing to do with each other, so here each segment has its own,
    as it would in a row of its own.

    Args:
      factors_BxN: N = SEGMENT_SLOTS * width; segments SEGMENT_SLOTS apart share.
      segments_BxL: segment ids.
      dtype: of the activations; it decides how factors are found, not their values.

    Returns:
      [B, L, width], or None without dropout.
    """
    if factors_BxN is None:
        return None
    slots_BxGxN = factors_BxN.reshape(len(factors_BxN), SEGMENT_SLOTS, -1)
    slots_BxLx1 = (segments_BxL % SEGMENT_SLOTS)[..., None]
    if dtype != "bfloat16":
        return jnp.take_along_axis(slots_BxGxN, slots_BxLx1, axis=1)
    # Accelerators: selections are fused into what reads them, a gather is stored.
    spread_BxLxN = slots_BxGxN[:, :1]
    for slot in range(1, SEGMENT_SLOTS):
        spread_BxLxN = jnp.where(slots_BxLx1 == slot, slots_BxGxN[:, slot : slot + 1], spread_BxLxN)
    return spread_BxLxN


def by_key(factors_BxN: jax.Array | None, num_heads: int) -> jax.Array | None:
    """Factors of attention weights [B, H, 1, S]: one for each head and key, for all queries."""
    if factors_BxN is None:
        return None
    return factors_BxN.reshape(len(factors_BxN), num_heads, 1, -1)


def drop(x: jax.Array, factors: jax.Array | None) -> jax.Array:
    """x times its dropout factors (broadcast to it), or x itself if there are none."""
    return x if factors is None else x * factors.astype(x.dtype)
