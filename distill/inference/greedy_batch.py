"""Greedy answers of a batch, with the layout of its rows that suits the device.

An accelerator decodes all rows of a batch in one program. On one CPU, a product with a few
thousand numbers is as fast as a large one, so less is computed there:

  encoder  reads a few rows at a time. The rows of a batch are sorted by length, so that each such
           group needs little padding. Its activations also stay in the processor's cache.
  decoder  puts the rows that are left into a smaller batch when most rows have ended.

These programs take longer to compile, so fewer than LEAST_ROWS rows do not use them.

Shape letters: B rows, I input length, T target length, D embed.
"""

from __future__ import annotations

import functools

import jax
import numpy as np

from distill.config.student import T5Config
from distill.student.decoding import Encoded, encoded_of_states, greedy, greedy_of_encoded
from distill.student.network import Params, apply_student
from distill.training.mesh import shard_like_params, to_host

LEAST_ROWS = 2048  # that are answered altogether
_GROUP = 16  # rows
_LENGTH_MULTIPLE = 8  # of a group


def suits_groups(params: Params, config: T5Config, tokens_BxI: np.ndarray, rows: int) -> bool:
    """Whether `encode_by_group` pays off for a batch; `rows` counts those of all batches."""
    if rows < LEAST_ROWS or len(tokens_BxI) < 2 * _GROUP:
        return False
    return not config.narrow_scores and on_one_cpu(params, tokens_BxI)


def on_one_cpu(params: Params, tokens_BxI: np.ndarray) -> bool:
    """Whether a batch is answered on one CPU device."""
    one_device = isinstance(shard_like_params(params, tokens_BxI), np.ndarray)
    return one_device and jax.default_backend() == "cpu"


def encode_by_group(params: Params, config: T5Config, tokens_BxI: np.ndarray) -> Encoded:
    """`decoding.encode` on one CPU, with less padding.

    Args:
      params: parameters of the student.
      config: its sizes.
      tokens_BxI: the rows' inputs, padded with 0, best sorted by length.
    """
    rows, length = tokens_BxI.shape
    parts = []
    for start in range(0, rows, _GROUP):
        group = tokens_BxI[start : start + _GROUP]
        columns = np.flatnonzero(group.any(axis=0))
        if len(columns):  # else it is padding alone
            end = -(-(int(columns[-1]) + 1) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
            parts.append((start, _states(params, config, group[:, :end])))
    states_BxIxD = np.zeros((rows, length, config.embed_dim), config.dtype)
    for start, states in parts:
        states_BxIxD[start : start + _GROUP, : states.shape[1]] = states
    encoded: Encoded = _encoded(params, config, states_BxIxD, tokens_BxI)
    return encoded


def decode_greedily(
    params: Params, config: T5Config, tokens_BxI: np.ndarray, max_length: int, rows: int
) -> np.ndarray:
    """`decoding.greedy` of a host batch: int32 [B, max_length], on the host.

    Args:
      params: parameters of the student.
      config: its sizes.
      tokens_BxI: the rows' inputs, padded with 0, best sorted by length.
      max_length: positions to decode at most, EOS included.
      rows: that are answered altogether, in this batch and in others.
    """
    if suits_groups(params, config, tokens_BxI, rows):
        encoded = encode_by_group(params, config, tokens_BxI)
        is_open_B = np.ones(len(tokens_BxI), bool)
        return to_host(greedy_of_encoded(params, config, encoded, is_open_B, max_length))
    return to_host(greedy(params, config, shard_like_params(params, tokens_BxI), max_length))


@functools.partial(jax.jit, static_argnames=("config",))
def _states(params: Params, config: T5Config, tokens_BxI: jax.Array) -> jax.Array:
    states_BxIxD: jax.Array = apply_student(config, params, tokens_BxI, method="encode")
    return states_BxIxD


_encoded = jax.jit(encoded_of_states, static_argnames=("config",))
