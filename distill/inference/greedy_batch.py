"""Greedy answers of a batch, with the layout of its rows that suits the device.

An accelerator decodes all rows of a batch in one program. On one CPU, a product with a few
thousand numbers is as fast as a large one, so less is computed there:

  encoder  reads a few rows at a time. The rows of a batch are sorted by length, so that each such
           group needs little padding. Its activations also stay in the processor's cache.
  decoder  puts the rows that are left into a smaller batch when most rows have ended.

These programs take longer to compile, so fewer than LEAST_ROWS rows do not use them. Batches of
several rows, whose answers have few tokens, make no keys and values of the encoder's states:
cross-attention reads the states.

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
LABEL_TOKENS = 8  # that are expected of a label
_GROUP = 16  # rows
_LEAST_OF_STATES = 8  # rows; with one row, small products take longer than keys and values
_STATES_COST = 1.5  # of an operation on states, relative to one of keys and values, as measured
_LENGTH_MULTIPLE = 8  # of a group


def are_many(rows: int) -> bool:
    """Whether so many rows in all batches are worth programs that take longer to compile."""
    return rows >= LEAST_ROWS


def suits_groups(params: Params, config: T5Config, tokens_BxI: np.ndarray, rows: int) -> bool:
    """Whether `encode_by_group` pays off for a batch; `rows` counts those of all batches."""
    if not are_many(rows) or len(tokens_BxI) < 2 * _GROUP:
        return False
    return not config.narrow_scores and on_one_cpu(params, tokens_BxI)


def on_one_cpu(params: Params, tokens_BxI: np.ndarray) -> bool:
    """Whether a batch is answered on one CPU device."""
    one_device = isinstance(shard_like_params(params, tokens_BxI), np.ndarray)
    return one_device and jax.default_backend() == "cpu"


def reads_states(params: Params, config: T5Config, tokens_BxI: np.ndarray, positions: int) -> bool:
    """Whether cross-attention costs less on the encoder's states than on keys and values of them.

    Only on one CPU, for several rows. See `attend.attend_to_states` for the operations: with keys
    and values, 4 I D H K for a row; with states, 4 D H (I + K) more for each position.

    Args:
      params: parameters of the student.
      config: its sizes.
      tokens_BxI: the rows' inputs.
      positions: of the decoder that are computed for a row, about.
    """
    if config.narrow_scores or config.scan_layers or not on_one_cpu(params, tokens_BxI):
        return False
    rows, length = tokens_BxI.shape
    more = _STATES_COST * positions * (length + config.head_dim)
    return rows >= _LEAST_OF_STATES and more <= length * config.head_dim


def encode_by_group(
    params: Params, config: T5Config, tokens_BxI: np.ndarray, positions: int
) -> Encoded:
    """`decoding.encode` on one CPU, with less padding.

    Args:
      params: parameters of the student.
      config: its sizes.
      tokens_BxI: the rows' inputs, padded with 0, best sorted by length.
      positions: of `reads_states`.
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
    on_states = reads_states(params, config, tokens_BxI, positions)
    encoded: Encoded = _encoded(params, config, states_BxIxD, tokens_BxI, on_states)
    return encoded


def decode_greedily(
    params: Params,
    config: T5Config,
    tokens_BxI: np.ndarray,
    max_length: int,
    rows: int,
    positions: int,
) -> np.ndarray:
    """`decoding.greedy` of a host batch: int32 [B, max_length], on the host.

    Args:
      params: parameters of the student.
      config: its sizes.
      tokens_BxI: the rows' inputs, padded with 0, best sorted by length.
      max_length: positions to decode at most, EOS included.
      rows: that are answered altogether, in this batch and in others.
      positions: tokens that are expected of a row (`reads_states`).
    """
    positions = min(positions, max_length)
    if suits_groups(params, config, tokens_BxI, rows):
        encoded = encode_by_group(params, config, tokens_BxI, positions)
        is_open_B = np.ones(len(tokens_BxI), bool)
        return to_host(greedy_of_encoded(params, config, encoded, is_open_B, max_length))
    on_states = reads_states(params, config, tokens_BxI, positions)
    placed_BxI = shard_like_params(params, tokens_BxI)
    return to_host(greedy(params, config, placed_BxI, max_length, on_states))


@functools.partial(jax.jit, static_argnames=("config",))
def _states(params: Params, config: T5Config, tokens_BxI: jax.Array) -> jax.Array:
    states_BxIxD: jax.Array = apply_student(config, params, tokens_BxI, method="encode")
    return states_BxIxD


_encoded = jax.jit(encoded_of_states, static_argnames=("config", "reads_states"))
