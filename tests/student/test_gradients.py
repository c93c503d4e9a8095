"""The norm and the gated activation have the values and gradients of autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from distill.student.gradients import NORM_EPSILON, gated_gelu, rms_norm, sum_of_rows


def plain_norm(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON) * scale


def plain_gated(gate, x):
    return nn.gelu(gate) * x


def drawn(dtype, *shapes):
    generator = np.random.default_rng(0)
    return [jnp.asarray(3 * generator.normal(size=shape), dtype) for shape in shapes]


CASES = {
    "norm": (rms_norm, plain_norm, (5, 8, 24), (24,)),
    "norm of one row": (rms_norm, plain_norm, (1, 40, 24), (24,)),
    "gated": (gated_gelu, plain_gated, (40, 24), (40, 24)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 2e-6)])
def test_values_and_gradients_are_those_of_autodiff_in_float64(case, dtype, tolerance):
    own, plain, *shapes = CASES[case]
    with jax.enable_x64(True):
        *arguments, cotangent = drawn(dtype, *shapes, shapes[0])
        value, pull = jax.vjp(own, *arguments)
        exact = [one.astype("float64") for one in arguments]
        expected, pull_expected = jax.vjp(plain, *exact)
        found = [value, *pull(cotangent)]
        wanted = [expected, *pull_expected(cotangent.astype("float64"))]
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == dtype
            np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * jnp.abs(other).max())


def test_rows_of_zeros_have_finite_gradients():
    gradients = jax.grad(lambda x, scale: rms_norm(x, scale).sum(), (0, 1))(
        jnp.zeros((2, 4)), jnp.ones(4)
    )
    assert all(jnp.isfinite(one).all() for one in gradients)


@pytest.mark.parametrize("rows", [1, 7])
def test_sum_of_rows_is_the_sum_over_the_first_axis(rows):
    with jax.enable_x64(True):
        (numbers,) = drawn("float64", (rows, 3, 4, 5))
        np.testing.assert_allclose(sum_of_rows(numbers), numbers.sum(axis=0), rtol=0, atol=1e-13)
