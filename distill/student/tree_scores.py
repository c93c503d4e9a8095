"""Exact scores of the labels of a closed set, in one pass of the decoder."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from distill.config.student import T5Config
from distill.student.attend import at_least_float32
from distill.student.attended import real_tokens
from distill.student.decoding import Encoded, encode, first_argmax
from distill.student.label_tree import PAD_ID, TreeArrays
from distill.student.network import Params, apply_student

# Nodes whose logits are computed at once, without padding; chunks of them have a multiple of 8.
_CHUNK, _CHUNK_MULTIPLE = 192, 8
# Nodes that are done, logits of labels' tokens, normalizers and best tokens so far.
_Scored = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.jit, static_argnames=("config", "at_most"))
def score_tree(
    params: Params,
    config: T5Config,
    encoder_input_tokens_BxI: jax.Array,
    tree: TreeArrays,
    at_most: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """Log-probability of every candidate label, and the best token after each of their prefixes.

    Inputs are encoded once, and so is each prefix that labels share.

    Args:
      params: parameters of the student, plain arrays.
      config: its sizes (static).
      encoder_input_tokens_BxI: int inputs, one sequence a row, padded with 0.
      tree: the labels of each row, or of 1 row if all rows share them.
      at_most: for one CPU: nodes of all rows at most, without padding. Then nothing is computed
        for padding, and the logits of a few nodes at a time. 0 computes all nodes at once (static).

    Returns:
      float32 [B, C], the sum over the label's tokens (EOS included) of their log-probability in
      nats; -inf for a label of padding alone, which stands for no label (so that rows may have
      different numbers of labels). int32 [B, N], the most probable token after each node, the
      first of equal ones, as `greedy` would choose it; of padding, any token.
    """
    encoded = encode(params, config, encoder_input_tokens_BxI)
    found: tuple[jax.Array, jax.Array] = score_tree_of_encoded(
        params, config, encoded, tree, at_most
    )
    return found


@functools.partial(jax.jit, static_argnames=("config", "at_most"))
def score_tree_of_encoded(
    params: Params, config: T5Config, encoded: Encoded, tree: TreeArrays, at_most: int = 0
) -> tuple[jax.Array, jax.Array]:
    """`score_tree` after `encode`."""
    rows, nodes = len(encoded.cross_mask), tree.tokens_BxN.shape[1]
    shape = (rows, *tree.targets_BxCxT.shape[1:])
    path_BxCxT = jnp.broadcast_to(jnp.asarray(tree.path_BxCxT), shape)
    targets_BxCxT = jnp.broadcast_to(jnp.asarray(tree.targets_BxCxT), shape)
    if at_most:
        is_real_BxN = (jnp.asarray(tree.depths_BxN) > 0) | (jnp.arange(nodes) == 0)
        is_real_BxN = jnp.broadcast_to(is_real_BxN, (rows, nodes))
        real = real_tokens(is_real_BxN, at_most)
        last_1xMxD = apply_student(config, params, tree, *encoded, real, method="decode_tree")
        chosen_BxCxT, normalizer_BxN, best_BxN = _in_chunks(
            params,
            config,
            last_1xMxD[0],
            jnp.sum(is_real_BxN),
            real.tokens_BxN,
            path_BxCxT,
            targets_BxCxT,
        )
    else:
        last_BxNxD = apply_student(config, params, tree, *encoded, method="decode_tree")
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
    last_MxD: jax.Array,
    count: jax.Array,
    place_BxN: jax.Array,
    path_BxCxT: jax.Array,
    targets_BxCxT: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of labels' tokens [B, C, T], and each node's logsumexp and first argmax [B, N].

    The logits of a chunk of nodes are computed, read and forgotten; those of padding, which comes
    after the first `count` nodes, are left out.
    """
    size = min(_CHUNK, -(-len(last_MxD) // _CHUNK_MULTIPLE) * _CHUNK_MULTIPLE)
    place_BxCxT = jnp.take_along_axis(place_BxN[:, None], path_BxCxT, axis=2)
    ordered = jnp.pad(last_MxD, ((0, -len(last_MxD) % size), (0, 0)))

    def step(state: _Scored) -> _Scored:
        start, chosen_BxCxT, normalizers, best = state
        chunk = jax.lax.dynamic_slice_in_dim(ordered, start, size)
        logits = apply_student(config, params, chunk[None], method="logits")[0]
        inside_BxCxT = place_BxCxT - start
        is_inside = (inside_BxCxT >= 0) & (inside_BxCxT < size)
        found = logits[jnp.clip(inside_BxCxT, 0, size - 1), targets_BxCxT]
        write = jax.lax.dynamic_update_slice_in_dim
        return (
            start + size,
            jnp.where(is_inside, found, chosen_BxCxT),
            write(normalizers, jax.nn.logsumexp(logits, axis=-1), start, 0),
            write(best, first_argmax(logits), start, 0),
        )

    dtype = at_least_float32(config.dtype)
    begin = (
        jnp.int32(0),
        jnp.zeros(path_BxCxT.shape, dtype),
        jnp.zeros(len(ordered), dtype),
        jnp.zeros(len(ordered), jnp.int32),
    )
    _, chosen_BxCxT, normalizers, best = jax.lax.while_loop(
        lambda state: state[0] < count, step, begin
    )
    place_BxN = jnp.minimum(place_BxN, len(ordered) - 1)  # that of padding is not read
    return chosen_BxCxT, normalizers[place_BxN], best[place_BxN]
