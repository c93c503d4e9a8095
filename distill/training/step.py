"""The training step: a pure function of (state, batch), shared by all who need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from distill.config.student import T5Config
from distill.student.flat_losses import flat_losses
from distill.student.flat_network import FlatT5
from distill.student.losses import combined_loss, task_losses
from distill.student.network import Params, apply_student
from distill.student.params import init_params

# (params, batch, dropout key, *settings of the loss) -> ((loss, losses_K), gradients)
Gradient = Callable[..., Any]


@flax.struct.dataclass
class TrainState:
    """All that a run carries from step to step.

    Attributes:
      step: int32 scalar, steps done.
      params: the student's parameters, float32.
      opt_state: optax's state.
      dropout_key: uint32 data of the key that dropout's masks are drawn from.
    """

    step: jax.Array
    params: Params
    opt_state: optax.OptState
    dropout_key: jax.Array


TrainStep = Callable[[TrainState, Mapping[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


def init_state(
    config: T5Config, optimizer: optax.GradientTransformation, seed: int | jax.Array
) -> TrainState:
    """The state before the first step; equal seeds give equal states."""
    params_key, dropout_key = jax.random.split(jax.random.key(seed))
    params = init_params(config, params_key)
    return TrainState(
        jnp.zeros((), jnp.int32),
        params,
        optimizer.init(params),
        jax.random.key_data(dropout_key),
    )


def loss_fn(
    params: Params,
    batch: Mapping[str, jax.Array],
    dropout_key: jax.Array,
    config: T5Config,
    task_weights: Sequence[float],
    divisor: float,
    z_loss: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """The objective on one batch, and the loss of each task [K].

    Args:
      params: the student's parameters.
      batch: a packed batch (`distill.data.batching.packing.pack`) or a flat one
        (`distill.data.batching.flat.lay_out`).
      dropout_key: a jax PRNG key.
      config: the student's.
      task_weights: K weights, label first.
      divisor: constant that sums over tokens are divided by (rows of a batch).
      z_loss: weight of log(Z)^2 of each target token (`distill.student.losses`).
    """
    settings: Any = {
        "deterministic": config.dropout_rate == 0,
        "rngs": {"dropout": dropout_key},
    }
    task_weights_K = jnp.asarray(task_weights)
    if "encoder_places" in batch:
        states_MxD: Any = FlatT5(config).apply({"params": params}, batch, **settings)
        return flat_losses(config, params, states_MxD, batch, task_weights_K, divisor, z_loss)
    logits_BxTxV = apply_student(config, params, batch, **settings)
    losses_K = task_losses(logits_BxTxV, batch, len(task_weights), divisor, z_loss)
    return combined_loss(losses_K, task_weights_K), losses_K


def _parts(batch: Mapping[str, jax.Array], microbatches: int) -> Mapping[str, jax.Array] | None:
    """The parts of a batch, stacked along a new first axis; None if it is computed as a whole.

    Flat batches of several parts are stacked already.
    """
    if "encoder_places" in batch:
        return batch if batch["encoder_places"].ndim == 2 else None
    if microbatches == 1:
        return None
    # Every M-th row: a part then has rows of every device that holds the batch.
    return {k: v.reshape(-1, microbatches, *v.shape[1:]).swapaxes(0, 1) for k, v in batch.items()}


def accumulated(gradient: Gradient, microbatches: int) -> Gradient:
    """The same value and gradient, computed in parts, one after the other.

    The divisor of the loss is constant, so the sum over the parts is the whole: with
    dropout 0 nothing changes but the memory. With dropout each part draws its own masks.

    Args:
      gradient: (params, batch, dropout_key, ...) -> ((loss, losses_K), grads).
      microbatches: number of parts M of a packed batch; divides its rows.

    Returns:
      A function like `gradient`.
    """

    def summed(
        params: Params, batch: Mapping[str, jax.Array], key: jax.Array, *settings: object
    ) -> Any:
        parts = _parts(batch, microbatches)
        if parts is None:
            return gradient(params, batch, key, *settings)

        def add(total: Any, part: tuple[jax.Array, Mapping[str, jax.Array]]) -> tuple[Any, None]:
            index, rows = part
            part_result = gradient(params, rows, jax.random.fold_in(key, index), *settings)
            return jax.tree.map(jnp.add, total, part_result), None

        rows = {k: v[0] for k, v in parts.items()}
        shapes = jax.eval_shape(lambda: gradient(params, rows, key, *settings))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        numbers = jnp.arange(len(next(iter(parts.values()))))
        result, _ = jax.lax.scan(add, zeros, (numbers, parts))
        return result

    return summed


def make_train_step(
    config: T5Config,
    optimizer: optax.GradientTransformation,
    task_weights: Sequence[float],
    divisor: float,
    z_loss: float = 0.0,
    microbatches: int = 1,
) -> TrainStep:
    """A pure `train_step(state, batch) -> (state, metrics)`, ready for jax.jit.

    Dropout's masks are a function of (seed, step), so a resumed run draws the same ones.
    Nothing depends on the seed but the state: runs of all seeds share one compilation.
    Metrics are scalars but for `losses` [K]: the loss of each task before weighting, with
    its z term.
    """

    gradient = accumulated(jax.value_and_grad(loss_fn, has_aux=True), microbatches)

    def train_step(
        state: TrainState, batch: Mapping[str, jax.Array]
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.dropout_key), state.step)
        (loss, losses_K), grads = gradient(
            state.params, batch, key, config, task_weights, divisor, z_loss
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "losses": losses_K, "grad_norm": optax.global_norm(grads)}
        return TrainState(state.step + 1, params, opt_state, state.dropout_key), metrics

    return train_step
