"""Beam search with a key/value cache and T5X's length penalty."""

from __future__ import annotations

import functools
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from distill.config.student import T5Config
from distill.errors import UserError
from distill.student.decoding import encode
from distill.student.label_tree import EOS_ID, PAD_ID
from distill.student.network import Params, StackKeysValues, apply_student, empty_cache

LENGTH_PENALTY = 0.6  # T5X's alpha
MOST_BEAMS, MOST_PENALTY = 1000, 10


def check_beam(beam: int, length_penalty: float) -> None:
    """Raises UserError for settings that no search can have.

    The bounds keep the arrays of a search within the memory and its scores within float32.
    """
    is_whole = isinstance(beam, numbers.Integral) and not isinstance(beam, bool)
    if not (is_whole and 1 <= beam <= MOST_BEAMS):
        raise UserError(f"got --beam {beam!r}, expected 1 (greedy) or more, up to {MOST_BEAMS:,}")
    is_number = isinstance(length_penalty, numbers.Real) and not isinstance(length_penalty, bool)
    if not (is_number and 0 <= length_penalty <= MOST_PENALTY):
        raise UserError(
            f"got --length_penalty {length_penalty!r}, expected 0 (none) or more, up to "
            f"{MOST_PENALTY}; T5X's is {LENGTH_PENALTY}"
        )


class Search(NamedTuple):
    """Where the search stands: K live prefixes a row, and the best sequence that has ended."""

    position: jax.Array
    live_BxKxT: jax.Array
    live_BxK: jax.Array  # log-probabilities, -inf for a place without a prefix
    cache: StackKeysValues  # keys and values of B * K rows, see `empty_cache`
    best_BxT: jax.Array
    best_B: jax.Array  # scores, -inf as long as nothing has ended


def beam_search(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array | np.ndarray,
    max_length: int,
    beam: int,
    length_penalty: float = LENGTH_PENALTY,
) -> tuple[jax.Array, jax.Array]:
    """The sequence of the highest score among those that a beam of prefixes meets.

    A score is log P(sequence) / ((5 + length) / 6)^length_penalty, EOS counted (Wu et al.
    2016, section 7, arXiv:1609.08144). As in t5x/decoding.py's `beam_search`, the best
    2 * beam continuations are looked at, those with EOS leave the beam, and only where
    none ever ended a cut prefix is the answer. Three things differ: one answer is given,
    so a row is done as soon as no live prefix can beat it; the score of a cut prefix is
    divided like any other; and beam = 1 looks at one continuation, which makes it `greedy`
    (T5X would look at two and may answer with an early EOS that was second best).

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes (static).
      encoder_input_tokens_BxI: int inputs, one sequence a row, padded with 0.
      max_length: positions to decode at most, EOS included (static).
      beam: live prefixes a row, K (static).
      length_penalty: 0 prefers short sequences most.

    Returns:
      int32 [B, max_length], up to and including EOS, then padding (a row of padding alone
      gives padding alone), and float32 scores [B] in nats.

    Raises:
      UserError: a beam or a length below 1, a negative penalty.
    """
    check_beam(beam, length_penalty)
    if max_length < 1:
        raise UserError(
            f"got {max_length} positions to decode, expected at least 1; set by macro TARGET_LENGTH"
        )
    tokens_BxT, scores_B = _search(
        params, config, encoder_input_tokens_BxI, max_length, beam, length_penalty
    )
    return tokens_BxT, scores_B


@functools.partial(jax.jit, static_argnames=("config", "max_length", "beam"))
def _search(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array,
    max_length: int,
    beam: int,
    length_penalty: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    rows = encoder_input_tokens_BxI.shape[0]
    keys_values, cross_mask = encode(params, config, encoder_input_tokens_BxI)
    filler_B = ~jnp.any(cross_mask, axis=(1, 2, 3))
    longest = _penalty(max_length, length_penalty)

    def undecided(state: Search) -> jax.Array:
        # The most that a live prefix can still come to: no further loss, the largest divisor.
        bound_B = jnp.max(state.live_BxK, axis=1) / longest
        return (state.position < max_length) & jnp.any((bound_B > state.best_B) & ~filler_B)

    def step(state: Search) -> Search:
        previous_BxK = jnp.where(
            state.position == 0, PAD_ID, state.live_BxKxT[..., state.position - 1]
        )
        logits_NxV, cache = apply_student(
            config,
            params,
            previous_BxK.reshape(-1),
            state.position,
            state.cache,
            keys_values,
            cross_mask,
            method="decode_step",
        )
        return _advance(state, logits_NxV, cache, length_penalty)

    start = Search(
        jnp.int32(0),
        jnp.full((rows, beam, max_length), PAD_ID, jnp.int32),
        jnp.tile(jnp.where(jnp.arange(beam) == 0, 0.0, -jnp.inf), (rows, 1)),
        empty_cache(config, rows * beam, max_length),
        jnp.full((rows, max_length), PAD_ID, jnp.int32),
        jnp.full(rows, -jnp.inf),
    )
    end = jax.lax.while_loop(undecided, step, start)
    cut_B = end.best_B == -jnp.inf
    tokens_BxT = jnp.where(cut_B[:, None], end.live_BxKxT[:, 0], end.best_BxT)
    scores_B = jnp.where(cut_B, end.live_BxK[:, 0] / longest, end.best_B)
    return jnp.where(filler_B[:, None], PAD_ID, tokens_BxT), jnp.where(filler_B, 0.0, scores_B)


def _penalty(length: int | jax.Array, alpha: jax.Array) -> jax.Array:
    """T5X's `brevity_penalty`: what a log-probability of this length is divided by."""
    return ((5.0 + length) / 6.0) ** alpha


def _advance(
    state: Search, logits_NxV: jax.Array, cache: StackKeysValues, alpha: jax.Array
) -> Search:
    """The search one position further, from the logits of its N = B * K prefixes."""
    rows, beam, _ = state.live_BxKxT.shape
    vocabulary = logits_NxV.shape[-1]
    log_NxV = jax.nn.log_softmax(logits_NxV.astype(jnp.float32))
    log_BxKV = (state.live_BxK.reshape(-1, 1) + log_NxV).reshape(rows, -1)
    looked_at = 1 if beam == 1 else 2 * beam
    log_BxC, index_BxC = jax.lax.top_k(log_BxKV, looked_at)
    parent_BxC, token_BxC = index_BxC // vocabulary, index_BxC % vocabulary
    tokens_BxCxT = jnp.take_along_axis(state.live_BxKxT, parent_BxC[..., None], axis=1)
    tokens_BxCxT = jax.lax.dynamic_update_index_in_dim(
        tokens_BxCxT, token_BxC, state.position, axis=2
    )
    ended_BxC = token_BxC == EOS_ID

    score_BxC = jnp.where(ended_BxC, log_BxC, -jnp.inf) / _penalty(state.position + 1, alpha)
    first_Bx1 = jnp.argmax(score_BxC, axis=1)[:, None]
    score_B = jnp.take_along_axis(score_BxC, first_Bx1, axis=1)[:, 0]
    new_BxT = jnp.take_along_axis(tokens_BxCxT, first_Bx1[..., None], axis=1)[:, 0]
    better_B = score_B > state.best_B

    live_BxK, place_BxK = jax.lax.top_k(jnp.where(ended_BxC, -jnp.inf, log_BxC), beam)
    parent_BxK = jnp.take_along_axis(parent_BxC, place_BxK, axis=1)
    parent_N = (jnp.arange(rows)[:, None] * beam + parent_BxK).reshape(-1)
    return Search(
        state.position + 1,
        jnp.take_along_axis(tokens_BxCxT, place_BxK[..., None], axis=1),
        live_BxK,
        # [..., N, T, H, K]: a scanned stack has its layers in front.
        jax.tree.map(lambda leaf: jnp.take(leaf, parent_N, axis=leaf.ndim - 4), cache),
        jnp.where(better_B[:, None], new_BxT, state.best_BxT),
        jnp.maximum(score_B, state.best_B),
    )
