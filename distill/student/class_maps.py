"""Moves the heads of flat tokens to classes of padded sequences and back, by gathers alone.

Attention reads queries, keys and values as [S, H, L, K], a class of S sequences of one padded
length, and its products need no transposition then. The other layers read flat tokens [N, H * K].
`distill.data.batching.flat` says which token stands at which slot. As both directions are known,
the gradient of a gather is the gather of the other direction; what jax would make of one is a
scatter, which is slow on CPUs and GPUs.
Shape letters: N flat tokens, S sequences of a class, L their length, H heads, K head dim,
R rows of K numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

_Saved = tuple[jax.Array, jax.Array]


@jax.custom_vjp
def gather_rows(x_RxK: jax.Array, sources: jax.Array, targets: jax.Array) -> jax.Array:
    """x_RxK[sources], and zeros where a source is R or more.

    Args:
      x_RxK: rows.
      sources: the row for each place of the result, [P].
      targets: the place in the result of each row, [R], P or more for rows that have none. The
        two arrays are inverse to each other: no row is the source of two places.
    """
    return jnp.take(x_RxK, sources, axis=0, mode="fill", fill_value=0)


def _gather_forward(
    x_RxK: jax.Array, sources: jax.Array, targets: jax.Array
) -> tuple[jax.Array, _Saved]:
    return gather_rows(x_RxK, sources, targets), (sources, targets)


def _gather_backward(saved: _Saved, gradient_PxK: jax.Array) -> tuple[jax.Array, None, None]:
    sources, targets = saved
    return gather_rows(gradient_PxK, targets, sources), None, None


gather_rows.defvjp(_gather_forward, _gather_backward)


class ClassMap(NamedTuple):
    """Where the heads of flat tokens stand in classes.

    Attributes:
      is_token: of each class, bool [S, L]: whether there is a token at a slot.
      sources: row of [N * H, K] at each place of all classes, as each is [S, H, L], end to end.
      targets: place of each row.
    """

    is_token: tuple[jax.Array, ...]
    sources: jax.Array
    targets: jax.Array

    def spread(self, x_NxJ: jax.Array, num_heads: int) -> list[jax.Array]:
        """The heads of flat tokens, J = H * K, in each class: [S, H, L, K], zeros on padding."""
        rows_RxK = x_NxJ.reshape(len(x_NxJ) * num_heads, -1)
        placed_PxK = gather_rows(rows_RxK, self.sources, self.targets)
        of_classes, start = [], 0
        for is_token_SxL in self.is_token:
            count, length = is_token_SxL.shape
            end = start + count * num_heads * length
            shape = count, num_heads, length, -1
            of_classes.append(placed_PxK[start:end].reshape(shape))
            start = end
        return of_classes

    def collect(self, of_classes: Sequence[jax.Array]) -> jax.Array:
        """The flat tokens [N, J] of heads in classes, each [S, H, L, K]; zeros on padding."""
        num_heads, width = of_classes[0].shape[1], of_classes[0].shape[3]
        rows_PxK = jnp.concatenate([one.reshape(-1, width) for one in of_classes])
        flat_RxK = gather_rows(rows_PxK, self.targets, self.sources)
        return flat_RxK.reshape(-1, num_heads * width)


def class_map(batch: Mapping[str, jax.Array], name: str, num_heads: int) -> ClassMap:
    """The map `encoder`, `decoder` or `cross` of a flat batch, for heads.

    Args:
      batch: of `distill.data.batching.flat.lay_out`.
      name: of the map.
      num_heads: H.
    """
    places_N = batch[f"{name}_places"]
    heads_H = jnp.arange(num_heads)
    tokens = len(places_N)
    slots = [batch[f"{name}_slots_{number}"] for number in range(count_classes(batch, name))]
    places = sum(slots_SxL.size for slots_SxL in slots) * num_heads
    targets_NxH = jnp.full((tokens, num_heads), places)
    sources, start = [], 0
    for slots_SxL in slots:
        length = slots_SxL.shape[1]
        rows_SxHxL = slots_SxL[:, None] * num_heads + heads_H[:, None]
        sources.append(jnp.minimum(rows_SxHxL, tokens * num_heads).reshape(-1))
        sequence_N, position_N = jnp.divmod(places_N - start, length)
        places_NxH = (sequence_N[:, None] * num_heads + heads_H) * length + position_N[:, None]
        is_here_N = (places_N >= start) & (places_N < start + slots_SxL.size)
        targets_NxH = jnp.where(is_here_N[:, None], start * num_heads + places_NxH, targets_NxH)
        start += slots_SxL.size
    is_token = tuple(slots_SxL < tokens for slots_SxL in slots)
    return ClassMap(is_token, jnp.concatenate(sources), targets_NxH.reshape(-1))


def count_classes(batch: Mapping[str, jax.Array], name: str) -> int:
    """Classes of a map of a flat batch."""
    return sum(key.startswith(f"{name}_slots_") for key in batch)
