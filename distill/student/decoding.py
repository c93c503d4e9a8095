"""Greedy decoding with a key/value cache."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from distill.config.student import T5Config
from distill.errors import UserError
from distill.student.attended import States
from distill.student.label_tree import EOS_ID, PAD_ID
from distill.student.network import (
    Params,
    StackKeysValues,
    StackSources,
    apply_student,
    empty_cache,
)

_ARGMAX_BLOCKS = (64, 128, 100, 32, 16)  # of `first_argmax`; the first that divides V
_LEAST_ROWS = 8  # of a decoding step; fewer cost as much, since the embedding is read anyway


class Encoded(NamedTuple):
    """What the decoder reads of B inputs.

    Attributes:
      keys_values: of each layer's cross-attention, or the encoder's states.
      cross_mask: bool [B, 1, 1, I], true on input tokens.
    """

    keys_values: StackSources
    cross_mask: jax.Array


def encode(
    params: Params, config: T5Config, tokens_BxI: jax.Array, reads_states: bool = False
) -> Encoded:
    """Encodes inputs once for all that is decoded from them.

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes.
      tokens_BxI: int inputs, one sequence a row, padded with 0.
      reads_states: whether the decoder reads the encoder's states, which costs less where few
        tokens are decoded (`attend.attend_to_states`); not with narrow scores or scanned layers.
    """
    states_BxIxD = apply_student(config, params, tokens_BxI, method="encode")
    return encoded_of_states(params, config, states_BxIxD, tokens_BxI, reads_states)


def encoded_of_states(
    params: Params,
    config: T5Config,
    states_BxIxD: jax.Array,
    tokens_BxI: jax.Array,
    reads_states: bool = False,
) -> Encoded:
    """As `encode`, of states that the encoder has made; those of padding may be any numbers."""
    cross_mask = (tokens_BxI != PAD_ID)[:, None, None, :]
    if reads_states:
        return Encoded(States(states_BxIxD), cross_mask)
    keys_values = apply_student(config, params, states_BxIxD, method="encoder_keys_values")
    return Encoded(keys_values, cross_mask)


@functools.partial(jax.jit, static_argnames=("config", "max_length", "reads_states"))
def greedy(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array,
    max_length: int,
    reads_states: bool = False,
) -> jax.Array:
    """The most likely next token, again and again, for every row.

    Stops as soon as every row has ended. The same tokens as t5x/decoding.py's
    `temperature_sample` with topk=1, except that a row of padding alone (a filler of
    the last batch) gives padding alone, so that it cannot keep the loop running.

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes (static).
      encoder_input_tokens_BxI: int inputs, one sequence a row, padded with 0.
      max_length: positions to decode at most, EOS included (static).
      reads_states: of `encode` (static).

    Returns:
      int32 [B, max_length]: up to and including EOS, then padding; a row that was cut
      has no EOS.

    Raises:
      UserError: max_length below 1.
    """
    inputs = params, config, encoder_input_tokens_BxI
    tokens_BxT, _ = _decode(*inputs, max_length, reads_states=reads_states)
    return tokens_BxT


@functools.partial(jax.jit, static_argnames=("config",))
def greedy_after(
    params: Params, config: T5Config, encoder_input_tokens_BxI: jax.Array, given_BxT: jax.Array
) -> jax.Array:
    """What `greedy` decodes after tokens that are given, an EOS among them or not.

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes (static).
      encoder_input_tokens_BxI: int inputs, one sequence a row, padded with 0.
      given_BxT: the first tokens of each row, padded with 0 to the T positions to decode.

    Returns:
      int32 [B, T]: the given tokens, and those after them up to and including EOS.
    """
    tokens_BxT, _ = _decode(params, config, encoder_input_tokens_BxI, given_BxT.shape[1], given_BxT)
    return tokens_BxT


@functools.partial(jax.jit, static_argnames=("config", "max_length"))
def greedy_of_encoded(
    params: Params, config: T5Config, encoded: Encoded, is_open_B: jax.Array, max_length: int
) -> jax.Array:
    """`greedy` after `encode`, for one CPU, where a step costs less with fewer rows.

    Once three quarters of the rows have ended, the others go on as a batch of a quarter the size.

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes (static).
      encoded: of B rows.
      is_open_B: bool, whether to decode a row; the others give padding alone.
      max_length: positions to decode at most, EOS included (static).

    Returns:
      int32 [B, max_length], as of `greedy`.

    Raises:
      UserError: max_length below 1.
    """
    rows = _start(config, encoded, max_length)
    rows = rows._replace(ended=rows.ended | ~is_open_B)
    return _decode_rows(params, config, jnp.int32(0), rows, shrinks=True)[1]


class _Rows(NamedTuple):
    """What rows that are decoded read and write; each array has B rows.

    Attributes:
      previous: token before the position.
      ended: whether nothing but padding follows.
      output: tokens so far, [B, T].
      cache: of the decoder's self-attention.
      encoded: what the cross-attention reads.
      given: tokens that are not chosen, [B, T], or None.
    """

    previous: jax.Array
    ended: jax.Array
    output: jax.Array
    cache: StackKeysValues
    encoded: Encoded
    given: jax.Array | None

    def take(self, indices: jax.Array, config: T5Config) -> _Rows:
        """Some of the rows."""

        def of_layers(leaf: jax.Array) -> jax.Array:
            return jnp.take(leaf, indices, axis=1 if config.scan_layers else 0)

        return _Rows(
            self.previous[indices],
            self.ended[indices],
            self.output[indices],
            jax.tree.map(of_layers, self.cache),
            Encoded(
                jax.tree.map(of_layers, self.encoded.keys_values), self.encoded.cross_mask[indices]
            ),
            None if self.given is None else self.given[indices],
        )


def _start(
    config: T5Config, encoded: Encoded, max_length: int, given_BxT: jax.Array | None = None
) -> _Rows:
    if max_length < 1:
        raise UserError(
            f"got {max_length} positions to decode, expected at least 1; set by macro TARGET_LENGTH"
        )
    rows = encoded.cross_mask.shape[0]  # may be a symbol, as in an exported program
    return _Rows(
        jnp.full(rows, PAD_ID, jnp.int32),
        ~jnp.any(encoded.cross_mask, axis=(1, 2, 3)),
        jnp.full((rows, max_length), PAD_ID, jnp.int32),
        empty_cache(config, rows, max_length),
        encoded,
        given_BxT,
    )


def _decode(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array,
    max_length: int,
    given_BxT: jax.Array | None = None,
    reads_states: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """`greedy` or `greedy_after`, and the number of positions that were computed."""
    encoded = encode(params, config, encoder_input_tokens_BxI, reads_states)
    rows = _start(config, encoded, max_length, given_BxT)
    positions, output_BxT = _decode_rows(params, config, jnp.int32(0), rows, shrinks=False)
    return output_BxT, positions


def _decode_rows(
    params: Params, config: T5Config, position: jax.Array, rows: _Rows, shrinks: bool
) -> tuple[jax.Array, jax.Array]:
    """Decodes rows from a position on: the first one that was not computed, and tokens [B, T].

    With `shrinks`, the rows that are left when at most a quarter are go on by themselves.
    """
    count, max_length = rows.output.shape
    quarter = count // 4 if shrinks and count >= 4 * _LEAST_ROWS else 0

    def goes_on(state: tuple[jax.Array, _Rows]) -> jax.Array:
        return (state[0] < max_length) & (jnp.sum(~state[1].ended) > quarter)

    def step(state: tuple[jax.Array, _Rows]) -> tuple[jax.Array, _Rows]:
        return state[0] + 1, _step(params, config, *state)

    position, rows = jax.lax.while_loop(goes_on, step, (position, rows))
    if not quarter:
        return position, rows.output

    def decode_quarter() -> tuple[jax.Array, jax.Array]:
        chosen = jnp.argsort(rows.ended, stable=True)[:quarter]
        left = rows.take(chosen, config)
        end, output_QxT = _decode_rows(params, config, position, left, shrinks)
        return end, rows.output.at[chosen].set(output_QxT)

    is_over = (position >= max_length) | jnp.all(rows.ended)
    found: tuple[jax.Array, jax.Array] = jax.lax.cond(
        is_over, lambda: (position, rows.output), decode_quarter
    )
    return found


def _step(params: Params, config: T5Config, position: jax.Array, rows: _Rows) -> _Rows:
    """The rows one position further."""
    logits_BxV, cache = apply_student(
        config, params, rows.previous, position, rows.cache, *rows.encoded, method="decode_step"
    )
    next_B = first_argmax(logits_BxV)
    next_B = jnp.where(rows.ended, PAD_ID, next_B)
    ends_B = next_B == EOS_ID
    if rows.given is not None:
        given_B = jax.lax.dynamic_index_in_dim(rows.given, position, axis=1, keepdims=False)
        next_B = jnp.where(given_B != PAD_ID, given_B, next_B)
        ends_B = (given_B == PAD_ID) & ends_B
    output_BxT = jax.lax.dynamic_update_index_in_dim(rows.output, next_B, position, axis=1)
    return rows._replace(previous=next_B, ended=rows.ended | ends_B, output=output_BxT, cache=cache)


def first_argmax(logits: jax.Array) -> jax.Array:
    """Index of the largest value along the last axis, the first of equal ones: `jnp.argmax`.

    The largest value of each block is found first, then the block, then the place in it. XLA's CPU
    compiler vectorizes a maximum but not an argmax, which would cost more than the logits.
    """
    size = logits.shape[-1]
    block = next((width for width in _ARGMAX_BLOCKS if size % width == 0), 0)
    if not block:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    blocks = logits.reshape(*logits.shape[:-1], size // block, block)
    first = jnp.argmax(jnp.max(blocks, axis=-1), axis=-1).astype(jnp.int32)
    chosen = jnp.take_along_axis(blocks, first[..., None, None], axis=-2)[..., 0, :]
    return first * block + jnp.argmax(chosen, axis=-1).astype(jnp.int32)
