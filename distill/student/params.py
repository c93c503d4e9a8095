"""The student's parameters: initialization, shapes, logical axes, count, stacked layers."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from distill.config.student import T5Config
from distill.errors import UserError
from distill.student.blocks import LAYERS_AXIS
from distill.student.network import T5, Params


def _boxed_params(config: T5Config, rng: jax.Array) -> Any:
    """Parameters in boxes, which have the names of their axes."""
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    batch = dict.fromkeys(names, jnp.ones((1, 1), jnp.int32))
    return T5(config).init(rng, batch, deterministic=True)["params"]


@functools.partial(jax.jit, static_argnums=0)
def init_params(config: T5Config, rng: jax.Array) -> Params:
    """New float32 parameters: nested dicts of plain arrays, named as in T5X.

    Args:
      config: sizes and settings.
      rng: a jax PRNG key; equal keys give equal parameters.
    """
    params: Params = nn.meta.unbox(_boxed_params(config, rng))
    return params


def param_shapes(config: T5Config) -> Params:
    """The tree of `init_params` as ShapeDtypeStructs; nothing is computed."""
    shapes: Params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    return shapes


def param_specs(config: T5Config) -> Params:
    """The tree of `init_params` as PartitionSpecs of logical axis names.

    `flax.linen.logical_to_mesh_sharding` turns it into shardings by a mesh's rules.
    """
    boxed = jax.eval_shape(lambda: _boxed_params(config, jax.random.key(0)))
    specs: Params = nn.get_partition_spec(boxed)
    return specs


def param_count(config: T5Config) -> int:
    """Number of parameters; nothing is allocated."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(param_shapes(config)))


# Names of the stacked trees within their stacks, as in t5x/examples/scalable_t5/network.py.
STACKS = {"encoder": "encoder", "decoder": "decoder"}
_LAYER = "layers_"


def stack_layers(
    params: Mapping[str, Any], join: Callable[[Sequence[Any]], Any] | None = None
) -> Params:
    """The tree of a scanned student from that of an unscanned one.

    `encoder/layers_<i>/...` become `encoder/encoder/...`, `decoder/layers_<i>/...` become
    `decoder/decoder/...`, arrays stacked along axis LAYERS_AXIS; others stay. That is the tree
    of t5x/examples/scalable_t5 but for its `relpos_bias`: a table for each layer there, one
    for the stack here.

    Args:
      params: parameters or anything of their tree (gradients, updates), numpy's or jax's.
      join: makes one leaf of those of all layers, if they are no arrays.

    Raises:
      UserError: a stack without layers of its own, as when it is stacked already.
    """
    stacked = dict(params)
    for stack, name in STACKS.items():
        layers = {k: v for k, v in params[stack].items() if k.startswith(_LAYER)}
        if not layers:
            raise UserError(
                f"got a parameter tree with {stack}/{{{', '.join(params[stack])}}}, expected "
                f"{stack}/{_LAYER}0 and so on: it is already stacked, or not a student's"
            )
        others = {k: v for k, v in params[stack].items() if k not in layers}
        one_by_one = (layers[f"{_LAYER}{i}"] for i in range(len(layers)))
        joined = jax.tree.map(lambda *leaves: (join or _stack)(leaves), *one_by_one)
        stacked[stack] = others | {name: joined}
    return stacked


def unstack_layers(params: Mapping[str, Any]) -> Params:
    """The tree of an unscanned student from that of a scanned one: `stack_layers` undone.

    Raises:
      UserError: a stack that is not stacked.
    """
    unstacked = dict(params)
    for stack, name in STACKS.items():
        others = dict(params[stack])
        if name not in others:
            raise UserError(
                f"got a parameter tree with {stack}/{{{', '.join(others)}}}, expected "
                f"{stack}/{name}: it is not stacked"
            )
        joined = others.pop(name)
        count = jax.tree.leaves(joined)[0].shape[LAYERS_AXIS]
        layers = {
            f"{_LAYER}{i}": jax.tree.map(lambda leaf, i=i: leaf[:, i], joined)  # LAYERS_AXIS
            for i in range(count)
        }
        unstacked[stack] = others | layers
    return unstacked


def _stack(leaves: Sequence[np.ndarray | jax.Array]) -> np.ndarray | jax.Array:
    module = np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp
    stacked: np.ndarray | jax.Array = module.stack(leaves, axis=LAYERS_AXIS)
    return stacked


def stack_of(path: tuple[object, ...]) -> str | None:
    """The stack ("encoder" or "decoder") whose stacked layers a leaf is of, or None.

    Args:
      path: of the leaf, as jax.tree_util gives it.
    """
    names = [getattr(key, "key", None) for key in path[:2]]
    return next((stack for stack, name in STACKS.items() if names == [stack, name]), None)
