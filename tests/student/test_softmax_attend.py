"""Attention over float32 scores has the values and gradients of its definition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distill.student.attend import MASKED
from distill.student.softmax_attend import softmax_attend

S, H, T, I, K = 3, 4, 6, 7, 5
LENGTHS = np.array([7, 4, 1])  # keys of a sequence that are tokens


def arrays(dtype: str) -> dict:
    rng = np.random.default_rng(0)
    return {
        "queries": rng.normal(0, 1.5, (S, H, T, K)).astype(dtype),
        "keys": rng.normal(0, 1, (S, H, I, K)).astype(dtype),
        "values": rng.normal(0, 1, (S, H, I, K)).astype(dtype),
        "bias": rng.normal(0, 1, (1, H, T, I)).astype(dtype),
        "mask": (np.arange(I) < LENGTHS[:, None])[:, None, None],
        "factors": ((rng.random((S, H, 1, I)) < 0.8) / 0.8).astype(dtype),
        "direction": rng.normal(0, 1, (S, H, T, K)).astype(dtype),
    }


def plain(queries, keys, values, mask, bias, factors):
    scores = jnp.einsum("shtk,shik->shti", queries, keys) + (0 if bias is None else bias)
    weights = jax.nn.softmax(jnp.where(mask, scores, MASKED))
    weights = weights if factors is None else weights * factors
    return jnp.einsum("shti,shik->shtk", weights, values)


def results(core, given: dict, has_bias: bool, has_factors: bool) -> list[jax.Array]:
    """The result and the gradients to queries, keys, values and, if there is one, the bias."""
    names = ["queries", "keys", "values"] + ["bias"] * has_bias
    factors = given["factors"] if has_factors else None

    def weighted(differentiated):
        bias = differentiated.get("bias")
        three = (differentiated[name] for name in names[:3])
        mixed = core(*three, given["mask"], bias, factors)
        return jnp.sum(mixed * given["direction"]), mixed

    differentiated = {name: jnp.asarray(given[name]) for name in names}
    grads, mixed = jax.jit(jax.grad(weighted, has_aux=True))(differentiated)
    return [mixed, *(grads[name] for name in names)]


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("has_factors", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_results_and_gradients_are_those_of_the_definition(has_bias, has_factors, dtype, tolerance):
    with jax.enable_x64(True):
        given = arrays("float64")
        want = results(plain, given, has_bias, has_factors)
        got = results(softmax_attend, arrays(dtype), has_bias, has_factors)
    for one, other in zip(map(np.asarray, got), map(np.asarray, want), strict=True):
        assert one.dtype == dtype
        assert np.linalg.norm(one - other) < tolerance * np.linalg.norm(other)


def test_keys_that_no_query_sees_have_no_gradient():
    given = arrays("float32")
    _, _, to_keys, to_values, _ = results(softmax_attend, given, True, True)
    for sequence, length in enumerate(LENGTHS):
        assert not np.any(to_keys[sequence, :, length:])
        assert not np.any(to_values[sequence, :, length:])
        assert np.any(to_values[sequence, :, :length])
