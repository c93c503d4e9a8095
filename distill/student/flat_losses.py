"""Output layer and loss of flat target tokens, computed in chunks with their gradient.

Logits are the largest array of a step. Here no more of them is in memory than a chunk's, and its
gradient: as the weight of each token's loss is known beforehand, the products of the backward
pass follow while the chunk is at hand.
Shape letters: M target tokens, C tokens of a chunk, D embed, V vocabulary, K tasks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from distill.config.student import T5Config
from distill.student.attend import at_least_float32
from distill.student.network import Params

CHUNK_NUMBERS = 320 * 2**15  # logits of a chunk at most; measured in benchmarks/speed.py
_ROW_MULTIPLE = 8

_Saved = tuple[jax.Array, jax.Array]  # gradients of states and kernel


def flat_losses(
    config: T5Config,
    params: Params,
    states_MxD: jax.Array,
    batch: Mapping[str, jax.Array],
    task_weights_K: jax.Array,
    divisor: float,
    z_loss: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """The objective and the loss of each task, as `losses.task_losses` has them.

    Args:
      config: the student's.
      params: its parameters.
      states_MxD: of `FlatT5`.
      batch: `decoder_target_tokens`, `decoder_loss_weights` and `decoder_task_ids` [M].
      task_weights_K: label first.
      divisor: what sums over tokens are divided by.
      z_loss: of `losses.token_nll`.

    Returns:
      The weighted sum of the losses, and the losses [K], which have no gradient.
    """
    dtype = at_least_float32(states_MxD.dtype)
    states_MxD = states_MxD.astype(dtype)
    if config.tie_embeddings:
        if config.scale_tied_logits:
            states_MxD = states_MxD / math.sqrt(config.embed_dim)
        kernel = params["token_embedder"]["embedding"].astype(dtype)
    else:
        kernel = params["decoder"]["logits_dense"]["kernel"].astype(dtype)
    weights_M = batch["decoder_loss_weights"].astype(dtype)
    of_task_KxM = jnp.arange(len(task_weights_K))[:, None] == batch["decoder_task_ids"]
    coefficients_M = task_weights_K.astype(dtype)[batch["decoder_task_ids"]] * weights_M / divisor
    loss, nll_M = weighted_nll(
        states_MxD,
        kernel,
        batch["decoder_target_tokens"],
        coefficients_M,
        0 if config.tie_embeddings else 1,
        z_loss,
    )
    nll_M = jax.lax.stop_gradient(nll_M)
    return loss, jnp.sum(jnp.where(of_task_KxM, nll_M * weights_M, 0.0), axis=1) / divisor


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def weighted_nll(
    states_MxD: jax.Array,
    kernel: jax.Array,
    targets_M: jax.Array,
    coefficients_M: jax.Array,
    vocab_axis: int,
    z_loss: float,
) -> tuple[jax.Array, jax.Array]:
    """The weighted sum of the tokens' losses, and each token's loss, for reports.

    Args:
      states_MxD: what the output layer multiplies, in the type to compute in.
      kernel: [V, D] or [D, V].
      targets_M: ids.
      coefficients_M: weight of each token's loss; has no gradient.
      vocab_axis: the axis V of the kernel.
      z_loss: of `losses.token_nll`.

    Returns:
      The sum, whose gradient is that of states and kernel; the losses [M], without one.
    """
    return _forward(states_MxD, kernel, targets_M, coefficients_M, vocab_axis, z_loss)[0]


def _forward(
    states_MxD: jax.Array,
    kernel: jax.Array,
    targets_M: jax.Array,
    coefficients_M: jax.Array,
    vocab_axis: int,
    z_loss: float,
) -> tuple[tuple[jax.Array, jax.Array], _Saved]:
    tokens, vocabulary = len(targets_M), kernel.shape[vocab_axis]
    count = math.ceil(tokens * vocabulary / CHUNK_NUMBERS)
    size = math.ceil(tokens / count / _ROW_MULTIPLE) * _ROW_MULTIPLE

    def chunks(of_tokens: jax.Array) -> jax.Array:
        padding = [(0, count * size - tokens)] + [(0, 0)] * (of_tokens.ndim - 1)
        return jnp.pad(of_tokens, padding).reshape(count, size, *of_tokens.shape[1:])

    def add(
        kernel_gradient: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        states_CxD, targets_C, coefficients_C = chunk
        # contract(a, b, i, j): a product of two matrices over axis i of a and axis j of b.
        logits_CxV = _contract(states_CxD, kernel, 1, 1 - vocab_axis)
        nll_C, gradient_CxV = _nll_and_gradient(logits_CxV, targets_C, coefficients_C, z_loss)
        if vocab_axis == 0:
            kernel_gradient += _contract(gradient_CxV, states_CxD, 0, 0)
        else:
            kernel_gradient += _contract(states_CxD, gradient_CxV, 0, 0)
        return kernel_gradient, (nll_C, _contract(gradient_CxV, kernel, 1, vocab_axis))

    parts = chunks(states_MxD), chunks(targets_M), chunks(coefficients_M)
    kernel_gradient, (nll, states_gradient) = jax.lax.scan(add, jnp.zeros_like(kernel), parts)
    nll_M = nll.reshape(-1)[:tokens]
    gradients = states_gradient.reshape(-1, states_MxD.shape[1])[:tokens], kernel_gradient
    return (jnp.sum(nll_M * coefficients_M), nll_M), gradients


def _nll_and_gradient(
    logits_CxV: jax.Array, targets_C: jax.Array, coefficients_C: jax.Array, z_loss: float
) -> tuple[jax.Array, jax.Array]:
    """Each token's loss [C], and the gradient of their weighted sum to the logits [C, V]."""
    normalizer_C = jax.nn.logsumexp(logits_CxV, axis=-1)
    chosen_C = jnp.take_along_axis(logits_CxV, targets_C[:, None], axis=-1)[:, 0]
    nll_C = normalizer_C - chosen_C
    slope_C = jnp.ones_like(nll_C)
    if z_loss:
        nll_C += z_loss * jnp.square(normalizer_C)
        slope_C += 2.0 * z_loss * normalizer_C
    is_target_CxV = targets_C[:, None] == jnp.arange(logits_CxV.shape[1], dtype=targets_C.dtype)
    softmax_CxV = jnp.exp(logits_CxV - normalizer_C[:, None])
    return nll_C, coefficients_C[:, None] * (slope_C[:, None] * softmax_CxV - is_target_CxV)


def _contract(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    return jax.lax.dot_general(a, b, (((axis_a,), (axis_b,)), ((), ())))


def _backward(
    vocab_axis: int, z_loss: float, saved: _Saved, gradient: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, None, None]:
    states_gradient, kernel_gradient = saved
    return gradient[0] * states_gradient, gradient[0] * kernel_gradient, None, None


weighted_nll.defvjp(_forward, _backward)
