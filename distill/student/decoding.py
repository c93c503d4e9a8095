"""Greedy decoding with a key/value cache, and exact scores of candidate labels."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from distill.config.student import T5Config
from distill.errors import UserError
from distill.student.attend import at_least_float32
from distill.student.label_tree import EOS_ID, PAD_ID, TreeArrays
from distill.student.network import Params, StackKeysValues, apply_student, empty_cache

_ARGMAX_BLOCKS = (64, 128, 100, 32, 16)  # of `first_argmax`; the first that divides V
_CHUNK = 128  # nodes whose logits are computed at once, of `score_tree` in chunks
# Nodes that are done, logits of labels' tokens, normalizers and best tokens so far.
_Scored = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
# Position, token before it, ended rows, cache, tokens so far.
_Decoded = tuple[jax.Array, jax.Array, jax.Array, StackKeysValues, jax.Array]


def encode(
    params: Params, config: T5Config, tokens_BxI: jax.Array
) -> tuple[StackKeysValues, jax.Array]:
    """Encodes once: what each cross-attention reads, and its mask [B, 1, 1, I]."""
    encoded_BxIxD = apply_student(config, params, tokens_BxI, method="encode")
    keys_values = apply_student(config, params, encoded_BxIxD, method="encoder_keys_values")
    return keys_values, (tokens_BxI != PAD_ID)[:, None, None, :]


@functools.partial(jax.jit, static_argnames=("config", "max_length"))
def greedy(
    params: Params, config: T5Config, encoder_input_tokens_BxI: jax.Array, max_length: int
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

    Returns:
      int32 [B, max_length]: up to and including EOS, then padding; a row that was cut
      has no EOS.

    Raises:
      UserError: max_length below 1.
    """
    if max_length < 1:
        raise UserError(
            f"got {max_length} positions to decode, expected at least 1; set by macro TARGET_LENGTH"
        )
    tokens_BxT, _ = _decode(params, config, encoder_input_tokens_BxI, max_length)
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


def _decode(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array,
    max_length: int,
    given_BxT: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`greedy` or `greedy_after`, and the number of positions that were computed."""
    rows = encoder_input_tokens_BxI.shape[0]
    keys_values, cross_mask = encode(params, config, encoder_input_tokens_BxI)

    def unfinished(state: _Decoded) -> jax.Array:
        position, _, ended_B, _, _ = state
        return (position < max_length) & ~jnp.all(ended_B)

    def step(state: _Decoded) -> _Decoded:
        position, previous_B, ended_B, cache, output_BxT = state
        logits_BxV, cache = apply_student(
            config,
            params,
            previous_B,
            position,
            cache,
            keys_values,
            cross_mask,
            method="decode_step",
        )
        next_B = first_argmax(logits_BxV)
        next_B = jnp.where(ended_B, PAD_ID, next_B)
        ends_B = next_B == EOS_ID
        if given_BxT is not None:
            given_B = jax.lax.dynamic_index_in_dim(given_BxT, position, axis=1, keepdims=False)
            next_B = jnp.where(given_B != PAD_ID, given_B, next_B)
            ends_B = (given_B == PAD_ID) & ends_B
        output_BxT = jax.lax.dynamic_update_index_in_dim(output_BxT, next_B, position, axis=1)
        return position + 1, next_B, ended_B | ends_B, cache, output_BxT

    start = (
        jnp.int32(0),
        jnp.full(rows, PAD_ID, jnp.int32),
        ~jnp.any(cross_mask, axis=(1, 2, 3)),
        empty_cache(config, rows, max_length),
        jnp.full((rows, max_length), PAD_ID, jnp.int32),
    )
    positions, *_, output_BxT = jax.lax.while_loop(unfinished, step, start)
    return output_BxT, positions


@functools.partial(jax.jit, static_argnames=("config", "in_chunks"))
def score_tree(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array,
    tree: TreeArrays,
    in_chunks: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of every candidate label, and the best token after each of their prefixes.

    Inputs are encoded once, and so is each prefix that labels share.

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes (static).
      encoder_input_tokens_BxI: int inputs, one sequence a row, padded with 0.
      tree: the labels of each row, or of 1 row if all rows share them.
      in_chunks: whether to compute logits of a few nodes at a time, and none of padding, which
        is faster on a CPU; all nodes must be on one device (static).

    Returns:
      float32 [B, C], the sum over the label's tokens (EOS included) of their log-probability in
      nats; -inf for a label of padding alone, which stands for no label (so that rows may have
      different numbers of labels). int32 [B, N], the most probable token after each node, the
      first of equal ones, as `greedy` would choose it.
    """
    keys_values, cross_mask = encode(params, config, encoder_input_tokens_BxI)
    last_BxNxD = apply_student(config, params, tree, keys_values, cross_mask, method="decode_tree")
    rows, nodes, _ = last_BxNxD.shape
    shape = (rows, *tree.targets_BxCxT.shape[1:])
    path_BxCxT = jnp.broadcast_to(jnp.asarray(tree.path_BxCxT), shape)
    targets_BxCxT = jnp.broadcast_to(jnp.asarray(tree.targets_BxCxT), shape)
    if in_chunks and rows * nodes > _CHUNK:
        is_real_BxN = (jnp.asarray(tree.depths_BxN) > 0) | (jnp.arange(nodes) == 0)
        chosen_BxCxT, normalizer_BxN, best_BxN = _in_chunks(
            params,
            config,
            last_BxNxD,
            jnp.broadcast_to(is_real_BxN, (rows, nodes)),
            path_BxCxT,
            targets_BxCxT,
        )
    else:
        logits_BxNxV = apply_student(config, params, last_BxNxD, method="logits")
        best_BxN = first_argmax(logits_BxNxV)
        normalizer_BxN = jax.nn.logsumexp(logits_BxNxV, axis=-1)
        flat_indices = (path_BxCxT * logits_BxNxV.shape[-1] + targets_BxCxT).reshape(rows, -1)
        chosen = jnp.take_along_axis(logits_BxNxV.reshape(rows, -1), flat_indices, axis=1)
        chosen_BxCxT = chosen.reshape(shape)
    normalizers = jnp.take_along_axis(normalizer_BxN, path_BxCxT.reshape(rows, -1), axis=1)
    log_probs_BxCxT = chosen_BxCxT - normalizers.reshape(shape)
    real_BxCxT = targets_BxCxT != PAD_ID
    scores_BxC = jnp.sum(jnp.where(real_BxCxT, log_probs_BxCxT, 0.0), axis=-1)
    return jnp.where(jnp.any(real_BxCxT, axis=-1), scores_BxC, -jnp.inf), best_BxN


def _in_chunks(
    params: Params,
    config: T5Config,
    last_BxNxD: jax.Array,
    is_real_BxN: jax.Array,
    path_BxCxT: jax.Array,
    targets_BxCxT: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of labels' tokens [B, C, T], and each node's logsumexp and first argmax [B, N].

    The logits of a chunk of nodes are computed, read and forgotten; padding comes last and is left
    out.
    """
    rows, nodes, width = last_BxNxD.shape
    is_real = is_real_BxN.reshape(-1)
    order = jnp.argsort(~is_real, stable=True)
    place_BxN = jnp.argsort(order).reshape(rows, nodes)  # in that order
    place_BxCxT = jnp.take_along_axis(place_BxN[:, None], path_BxCxT, axis=2)
    order = jnp.pad(order, (0, -len(order) % _CHUNK))
    ordered = last_BxNxD.reshape(-1, width)[order]

    def step(state: _Scored) -> _Scored:
        start, chosen_BxCxT, normalizers, best = state
        chunk = jax.lax.dynamic_slice_in_dim(ordered, start, _CHUNK)
        logits = apply_student(config, params, chunk[None], method="logits")[0]
        inside_BxCxT = place_BxCxT - start
        is_inside = (inside_BxCxT >= 0) & (inside_BxCxT < _CHUNK)
        found = logits[jnp.clip(inside_BxCxT, 0, _CHUNK - 1), targets_BxCxT]
        write = jax.lax.dynamic_update_slice_in_dim
        return (
            start + _CHUNK,
            jnp.where(is_inside, found, chosen_BxCxT),
            write(normalizers, jax.nn.logsumexp(logits, axis=-1), start, 0),
            write(best, first_argmax(logits), start, 0),
        )

    count, dtype = jnp.sum(is_real), at_least_float32(config.dtype)
    begin = (
        jnp.int32(0),
        jnp.zeros(path_BxCxT.shape, dtype),
        jnp.zeros(len(order), dtype),
        jnp.zeros(len(order), jnp.int32),
    )
    _, chosen_BxCxT, normalizers, best = jax.lax.while_loop(
        lambda state: state[0] < count, step, begin
    )
    return chosen_BxCxT, normalizers[place_BxN], best[place_BxN]


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
