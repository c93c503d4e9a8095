"""REMAT for T5X's own network, which stores everything for its backward pass. Needs t5x."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
from flax import linen as nn
from t5x.examples.t5 import network

from distill.student.blocks import REMAT_POLICIES

_LAYERS = (network.EncoderLayer, network.DecoderLayer)


def recomputed_layers(remat: str) -> AbstractContextManager[None]:
    """Within it, T5X's layers are recomputed in the backward pass as macro REMAT says.

    Values, gradients, random numbers and the names of parameters stay the same. The network of
    t5x/examples/t5 has no such setting; that of t5x/examples/scalable_t5 has, but is another
    function (a relative bias for each layer instead of one for a stack).

    Args:
      remat: "none", "minimal" or "full", as for the native network.

    Returns:
      A context in which to call the network.
    """
    if remat == "none":
        return contextlib.nullcontext()
    inside = False

    def interceptor(
        call: Callable[..., object],
        args: Sequence,
        kwargs: Mapping,
        context: nn.module.InterceptorContext,
    ) -> object:
        nonlocal inside
        is_layer = context.method_name == "__call__" and isinstance(context.module, _LAYERS)
        if inside or not is_layer:
            return call(*args, **kwargs)
        inside = True
        try:
            return _recomputed(context.module, REMAT_POLICIES[remat], args, kwargs)
        finally:
            inside = False

    return nn.intercept_methods(interceptor)


def _recomputed(
    layer: nn.Module, policy: Callable[..., bool] | None, args: Sequence, kwargs: Mapping
) -> jax.Array:
    """Calls a layer under jax.checkpoint; its settings (booleans, None) stay Python's own."""
    arguments: dict[Any, object] = dict(enumerate(args)) | dict(kwargs)
    arrays = {name: value for name, value in arguments.items() if isinstance(value, jax.Array)}

    def run(module: nn.Module, values: Sequence[jax.Array]) -> jax.Array:
        every = arguments | dict(zip(arrays, values, strict=True))
        in_order = [every.pop(index) for index in range(len(args))]
        return module(*in_order, **every)

    return nn.remat(run, policy=policy)(layer, list(arrays.values()))
