"""Adafactor as T5X trains T5 with it: an optax transformation (Shazeer & Stern 2018).

For a gradient G, a parameter P and the step t = 1, 2, ... (arXiv 1804.04235, algorithms 4 to 6,
without momentum; numbers and order of operations as in t5x/adafactor.py):

  V      = b V + (1 - b) (G^2 + 1e-30)          b = 1 - t^-0.8
  U      = G / sqrt(V)
  U      = U / max(1, rms(U) / clipping_threshold)
  P      = (1 - decay) P - rate max(rms(P), 1e-3) U

A matrix whose two sides are at least `min_dim_size_to_factor` keeps V's row and column means
alone, and R C / mean(R) stands for V.

T5X lets a model state by axis name what is a row and what a column. It follows these rules for
parameters of rank 3 and more only; the student's parameters are matrices and vectors, so that
they have no part here. On such parameters `optax.adafactor` (0.2.8) gives the same numbers. What
it lacks is a decay as T5X's, by a power of the rate, and the refusal of rank 3, which it factors
in its own way; its moments have the parameters' type, these are float32.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from distill.errors import UserError

_SQUARE_FLOOR = 1e-30  # added to squared gradients
_SCALE_FLOOR = 1e-3  # least scale of a parameter, so that one that starts at 0 can leave it


class AdafactorState(NamedTuple):
    """Moments as trees of the parameters' structure; what a leaf does not use is one 0.

    Attributes:
      count: int32 scalar, updates done.
      v_row: [R] of a factored matrix, its shorter side (of equals, the first).
      v_col: [C] of a factored matrix, its other side.
      v: the parameter's shape, where it is not factored.
    """

    count: jax.Array
    v_row: optax.Params
    v_col: optax.Params
    v: optax.Params


def factored_axes(shape: tuple[int, ...], min_dim_size_to_factor: int) -> tuple[int, int] | None:
    """Axes (row, column) of a parameter whose second moment is factored, None for others.

    Raises:
      UserError: rank 3 or more, for which T5X wants a rule for each axis.
    """
    if len(shape) > 2:
        raise UserError(
            f"got a parameter of shape {shape}, expected vectors and matrices with OPTIMIZER = "
            "'adafactor'; set OPTIMIZER = 'adamw'"
        )
    if len(shape) < 2 or min(shape) < min_dim_size_to_factor:
        return None
    return (1, 0) if shape[0] > shape[1] else (0, 1)


def adafactor(
    learning_rate: optax.ScalarOrSchedule,
    *,
    decay_rate: float = 0.8,
    step_offset: int = 0,
    clipping_threshold: float | None = 1.0,
    multiply_by_parameter_scale: bool = True,
    min_dim_size_to_factor: int = 128,
    weight_decay: float = 0.0,
    weight_decay_lr_exponent: float = 0.0,
) -> optax.GradientTransformation:
    """Adafactor with T5X's rules; `update` needs the parameters and is a pure function.

    Args:
      learning_rate: a number, or a function of the update's index (from 0).
      decay_rate: exponent of the second moment's decay, 1 - t^-decay_rate.
      step_offset: update index at which t is 1; nothing is remembered before it.
      clipping_threshold: largest root mean square of a leaf's update, None for any.
      multiply_by_parameter_scale: rates are relative to the parameter's root mean square.
      min_dim_size_to_factor: least side of a factored matrix.
      weight_decay: what an update takes off every parameter, as a share of it.
      weight_decay_lr_exponent: the share is weight_decay * rate ** this; 0 leaves the rate
        out. T5X's `weight_decay_rate_lr_exponent` (there 0.0 and None also leave it out).

    Raises:
      UserError: from `init`, a parameter of rank 3 or more.
    """

    def init(params: optax.Params) -> AdafactorState:
        def zeros(leaf: jax.Array, kind: str) -> jax.Array:
            axes = factored_axes(leaf.shape, min_dim_size_to_factor)
            if axes is None:
                return jnp.zeros(leaf.shape if kind == "full" else (1,), jnp.float32)
            sides = {"row": (leaf.shape[axes[0]],), "col": (leaf.shape[axes[1]],), "full": (1,)}
            return jnp.zeros(sides[kind], jnp.float32)

        moments = (
            jax.tree.map(lambda leaf, kind=kind: zeros(leaf, kind), params)
            for kind in ("row", "col", "full")
        )
        return AdafactorState(jnp.zeros((), jnp.int32), *moments)

    def update(
        grads: optax.Updates, state: AdafactorState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, AdafactorState]:
        if params is None:
            raise ValueError("got no parameters, expected them as the third argument of update")
        rate = learning_rate(state.count) if callable(learning_rate) else learning_rate
        t = jnp.maximum(state.count - step_offset, 0).astype(jnp.float32) + 1.0
        decay = 1.0 - t ** (-decay_rate)
        shrink = weight_decay * rate**weight_decay_lr_exponent if weight_decay else 0.0

        def leaf_update(
            grad: jax.Array, param: jax.Array, *moments: jax.Array
        ) -> tuple[jax.Array, ...]:
            axes = factored_axes(param.shape, min_dim_size_to_factor)
            scaled, moments = _by_second_moment(grad.astype(jnp.float32), moments, decay, axes)
            if clipping_threshold is not None:
                scaled /= jnp.maximum(1.0, _rms(scaled) / clipping_threshold)
            scale = jnp.maximum(_rms(param), _SCALE_FLOOR) if multiply_by_parameter_scale else 1.0
            step = -(rate * scale) * scaled - (shrink * param if weight_decay else 0.0)
            return step.astype(param.dtype), *moments

        trees = (grads, params, state.v_row, state.v_col, state.v)
        leaves = jax.tree.map(leaf_update, *trees)
        updates, v_row, v_col, v = jax.tree.transpose(
            jax.tree.structure(params), jax.tree.structure((0, 0, 0, 0)), leaves
        )
        return updates, AdafactorState(state.count + 1, v_row, v_col, v)

    return optax.GradientTransformation(init, update)


def _rms(values: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(values)))


def _by_second_moment(
    grad: jax.Array,
    moments: tuple[jax.Array, ...],
    decay: jax.Array,
    axes: tuple[int, int] | None,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The gradient over the root of its second moment, and the moments (v_row, v_col, v)."""
    v_row, v_col, v = moments
    square = jnp.square(grad) + _SQUARE_FLOOR
    if axes is None:
        v = decay * v + (1.0 - decay) * square
        return grad * v**-0.5, (v_row, v_col, v)
    row, col = axes
    v_row = decay * v_row + (1.0 - decay) * jnp.mean(square, axis=col)
    v_col = decay * v_col + (1.0 - decay) * jnp.mean(square, axis=row)
    by_row = jnp.expand_dims((v_row / jnp.mean(v_row)) ** -0.5, col)
    by_col = jnp.expand_dims(v_col**-0.5, row)
    return grad * by_row * by_col, (v_row, v_col, v)
