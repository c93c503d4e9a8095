"""What attention reads: keys and values in two layouts, or states; and tokens without padding.

Shape letters: B rows, S keys, N tokens of a row, M tokens of all rows, D embed, H heads, K head
dim, J = H * K.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class KeysValues(NamedTuple):
    """What queries attend to: keys and values, each [B, S, H, K]."""

    keys: jax.Array
    values: jax.Array


class HeadsFirst(NamedTuple):
    """Keys and values [B, H, S, K], since products with [B, S, H, K] transpose it first on CPUs."""

    keys: jax.Array
    values: jax.Array


class States(NamedTuple):
    """What keys and values are made of, [B, S, D]: see `attend.attend_to_states`."""

    states: jax.Array


class RealTokens(NamedTuple):
    """Where tokens stand that are kept without the padding of their rows.

    Products with parameters read them as one row of M tokens; attention reads rows of N slots.

    Attributes:
      slots_M: the slot of each token, among those of all rows end to end.
      tokens_BxN: the token at each slot, M or more for padding.
    """

    slots_M: jax.Array
    tokens_BxN: jax.Array

    def spread(self, x_1xMxJ: jax.Array) -> jax.Array:
        """The tokens in their rows, [B, N, J], with zeros on padding."""
        return jnp.take(x_1xMxJ[0], self.tokens_BxN, axis=0, mode="fill", fill_value=0)

    def collect(self, x_BxNxJ: jax.Array) -> jax.Array:
        """The tokens of all rows, [1, M, J]."""
        return x_BxNxJ.reshape(-1, x_BxNxJ.shape[-1])[self.slots_M][None]


def real_tokens(is_real_BxN: jax.Array, at_most: int) -> RealTokens:
    """The tokens that are no padding, row by row, and then padding up to M = `at_most`.

    Args:
      is_real_BxN: bool; true at M slots or fewer.
      at_most: M (static).
    """
    order = jnp.argsort(~is_real_BxN.reshape(-1), stable=True)
    return RealTokens(order[:at_most], jnp.argsort(order).reshape(is_real_BxN.shape))
