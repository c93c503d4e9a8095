"""The student's parameters: initialisation, shapes, logical axes, count."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import linen as nn

from distill.student.config import T5Config
from distill.student.network import T5


def _boxed_params(config: T5Config, rng: jax.Array) -> Mapping:
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    batch = dict.fromkeys(names, jnp.ones((1, 1), jnp.int32))
    return T5(config).init(rng, batch, deterministic=True)["params"]


@functools.partial(jax.jit, static_argnums=0)
def init_params(config: T5Config, rng: jax.Array) -> dict:
    """New float32 parameters: nested dicts of plain arrays, named as in T5X.

    Args:
      config: sizes and settings.
      rng: a jax PRNG key; equal keys give equal parameters.
    """
    return nn.meta.unbox(_boxed_params(config, rng))


def param_shapes(config: T5Config) -> dict:
    """The tree of `init_params` as ShapeDtypeStructs; nothing is computed."""
    return jax.eval_shape(lambda: init_params(config, jax.random.key(0)))


def param_specs(config: T5Config) -> dict:
    """The tree of `init_params` as PartitionSpecs of logical axis names.

    `flax.linen.logical_to_mesh_sharding` turns it into shardings by a mesh's rules.
    """
    return nn.get_partition_spec(jax.eval_shape(lambda: _boxed_params(config, jax.random.key(0))))


def param_count(config: T5Config) -> int:
    """Number of parameters; nothing is allocated."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(param_shapes(config)))
