"""The fastest product of two square matrices on this machine's first device."""

from __future__ import annotations

import time

SIZES = {"cpu": 2048}  # by platform
LARGE = 8192  # of any other platform
_PRODUCTS = 4  # that are timed, after one that compiles


def matmul_flops_per_second(size: int, dtype: str) -> float:
    """Operations a second of products of matrices [size, size]: 2 size^3 / the shortest time.

    Args:
      size: of the matrices.
      dtype: of the matrices, "float32" or another one that jax has.
    """
    import jax
    import jax.numpy as jnp

    left, right = (jax.random.normal(jax.random.key(seed), (size, size), dtype) for seed in (0, 1))
    multiply = jax.jit(jnp.matmul)
    jax.block_until_ready(multiply(left, right))
    seconds = []
    for _ in range(_PRODUCTS):
        start = time.perf_counter()
        jax.block_until_ready(multiply(left, right))
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)
