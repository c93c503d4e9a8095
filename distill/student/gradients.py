"""RMS norm and gated activation with gradients of their own, for float32 and float64.

Values and gradients are those of autodiff, to rounding. On CPUs, a pass over an activation costs as
much as the arithmetic on it, and XLA computes parts of autodiff's gradients several times: an
activation once for each array that needs it. In bfloat16, `distill.student.layers` uses autodiff,
whose operations TPU compilers fuse.
Shape letters: D embed; gate, x and gradient have any one shape.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

NORM_EPSILON = 1e-6

_Saved = tuple[jax.Array, ...]


@jax.custom_vjp
def rms_norm(x: jax.Array, scale_D: jax.Array) -> jax.Array:
    """x divided by the root mean square of its last axis, times a scale.

    Args:
      x: [..., D], float32 or float64.
      scale_D: of the same type.
    """
    return _norm_forward(x, scale_D)[0]


def _norm_forward(x: jax.Array, scale_D: jax.Array) -> tuple[jax.Array, _Saved]:
    inverse = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON)
    return x * inverse * scale_D, (x, scale_D, inverse)


def _norm_backward(saved: _Saved, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, scale_D, inverse = saved
    if x.shape[0] == 1 and x.ndim > 2:  # XLA's CPU compiler is ten times as slow with this axis
        to_x, to_scale_D = _norm_backward((x[0], scale_D, inverse[0]), gradient[0])
        return to_x[None], to_scale_D
    normed, scaled = x * inverse, gradient * scale_D
    inner = jnp.mean(scaled * normed, axis=-1, keepdims=True)
    to_scale_D = jnp.sum(gradient * normed, axis=range(x.ndim - 1))
    return (scaled - normed * inner) * inverse, to_scale_D


rms_norm.defvjp(_norm_forward, _norm_backward)


@jax.custom_vjp
def gated_gelu(gate: jax.Array, x: jax.Array) -> jax.Array:
    """gelu(gate) * x, with the tanh form of gelu (T5 v1.1)."""
    return jax.nn.gelu(gate) * x


def _gated_forward(gate: jax.Array, x: jax.Array) -> tuple[jax.Array, _Saved]:
    return gated_gelu(gate, x), (gate, x)


def _gated_backward(saved: _Saved, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    gate, x = saved
    slope, cubic = (2 / jnp.pi) ** 0.5, 0.044715
    # The barrier has tanh computed once, not for each of the results.
    tanh = jax.lax.optimization_barrier(jnp.tanh(slope * (gate + cubic * gate**3)))
    half = 0.5 * (1 + tanh)
    derivative = half + 0.5 * gate * (1 - tanh * tanh) * slope * (1 + 3 * cubic * gate * gate)
    return gradient * x * derivative, gradient * gate * half


gated_gelu.defvjp(_gated_forward, _gated_backward)


def sum_of_rows(numbers: jax.Array) -> jax.Array:
    """The sum over the first axis, as a product: XLA's CPU compiler may take 40 times as long.

    Args:
      numbers: [B, ...], float32 or float64.
    """
    rows, *shape = numbers.shape
    ones_1xB = jnp.ones((1, rows), numbers.dtype)
    flat_BxN = numbers.reshape(rows, -1)
    return jnp.dot(ones_1xB, flat_BxN, precision=jax.lax.Precision.HIGHEST).reshape(shape)
