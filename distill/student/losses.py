"""Token and task losses of the student (pure functions, float32 or what is wider).

Normalization is no setting here: every target token carries its weight
(`decoder_loss_weights`) and the divisor is the caller's, so that
`per_sequence`, `per_token` and T5X's normalizers are choices of two arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

_Saved = tuple[jax.Array, jax.Array, jax.Array]  # logits, normalizer, targets


def token_nll(logits_BxTxV: jax.Array, targets_BxT: jax.Array, z_loss: float = 0.0) -> jax.Array:
    """Negative log-likelihood of each target token, in nats, plus z_loss * log(Z)^2.

    Z is the sum of the exponentials of a token's logits; a small z_loss keeps it near 1.
    Equals cross entropy with one-hot targets (t5x/losses.py, label smoothing 0). The only
    array of the logits' size besides the logits is their gradient, which is written in one pass.

    Args:
      logits_BxTxV: any leading shape; computed in float32.
      targets_BxT: int ids, the leading shape of the logits.
      z_loss: weight of the squared log-normalizer; 0 adds nothing to the program.

    Returns:
      float32, the shape of the targets.
    """
    dtype = jnp.promote_types(logits_BxTxV.dtype, jnp.float32)
    nll_BxT: jax.Array = _wide_nll(logits_BxTxV.astype(dtype), targets_BxT, z_loss)
    return nll_BxT


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _wide_nll(logits_BxTxV: jax.Array, targets_BxT: jax.Array, z_loss: float) -> jax.Array:
    return _nll_forward(logits_BxTxV, targets_BxT, z_loss)[0]


def _nll_forward(
    logits_BxTxV: jax.Array, targets_BxT: jax.Array, z_loss: float
) -> tuple[jax.Array, _Saved]:
    normalizer_BxT = jax.nn.logsumexp(logits_BxTxV, axis=-1)
    chosen_BxT = jnp.take_along_axis(logits_BxTxV, targets_BxT[..., None], axis=-1)[..., 0]
    nll_BxT = normalizer_BxT - chosen_BxT
    if z_loss:
        nll_BxT += z_loss * jnp.square(normalizer_BxT)
    return nll_BxT, (logits_BxTxV, normalizer_BxT, targets_BxT)


def _nll_backward(z_loss: float, saved: _Saved, gradient_BxT: jax.Array) -> tuple[jax.Array, None]:
    logits_BxTxV, normalizer_BxT, targets_BxT = saved
    probability_BxTxV = jnp.exp(logits_BxTxV - normalizer_BxT[..., None])
    if z_loss:
        probability_BxTxV *= (1.0 + 2.0 * z_loss * normalizer_BxT)[..., None]
    ids_V = jnp.arange(logits_BxTxV.shape[-1], dtype=targets_BxT.dtype)
    hit_BxTxV = targets_BxT[..., None] == ids_V
    return gradient_BxT[..., None] * (probability_BxTxV - hit_BxTxV), None


_wide_nll.defvjp(_nll_forward, _nll_backward)


def task_losses(
    logits_BxTxV: jax.Array,
    batch: Mapping[str, jax.Array],
    num_tasks: int,
    divisor: float | jax.Array,
    z_loss: float = 0.0,
) -> jax.Array:
    """Loss of each task: L_k = sum over tokens of task k of weight * nll / divisor.

    Args:
      logits_BxTxV: float32 logits of the batch.
      batch: `decoder_target_tokens`, `decoder_loss_weights` (0 on padding) and
        `decoder_task_ids` (0 label, 1 rationale), all [B, T].
      num_tasks: number of tasks (K).
      divisor: what all sums are divided by, e.g. the number of pairs of a batch.
      z_loss: of `token_nll`; the z term has the token's weight, as in T5X.

    Returns:
      float32 [K].
    """
    nll_BxT = token_nll(logits_BxTxV, batch["decoder_target_tokens"], z_loss)
    weighted_BxT = nll_BxT * batch["decoder_loss_weights"]
    is_task_KxBxT = jnp.arange(num_tasks)[:, None, None] == batch["decoder_task_ids"]
    return jnp.sum(jnp.where(is_task_KxBxT, weighted_BxT, 0.0), axis=(1, 2)) / divisor


def combined_loss(losses_K: jax.Array, task_weights_K: jax.Array) -> jax.Array:
    """Scalar: the task losses weighted and added (design: L = w_label L_label + w_rat. L_rat.)."""
    return jnp.dot(jnp.asarray(task_weights_K, losses_K.dtype), losses_K)
