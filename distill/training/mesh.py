"""The device mesh (data, model) and where parameters and batches lie on it.

Three ways to lay parameters and optimizer state out, the last of which goes with either other:

  PARAMETER_SHARDING = 'replicated'  every data-parallel device has them all
  PARAMETER_SHARDING = 'zero'        each holds a part along the embedding axis; a layer's part is
                                     gathered when the layer runs, and gradients are scattered
                                     (Rajbhandari et al. 2020, stage 3, arXiv:1910.02054; T5X's
                                     PARAMETER_PARTITIONING_DIMS = 2)
  MODEL_PARALLEL = N                 N devices split heads, feed-forward and vocabulary (Shoeybi
                                     et al. 2019, arXiv:1909.08053)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from distill.config.student import T5Config
from distill.errors import UserError
from distill.student.network import Params
from distill.student.params import param_specs

AXES = ("data", "model")
# Logical axis -> mesh axis. Names as in t5x/partitioning.py's standard rules.
RULES = (
    ("batch", "data"),
    ("vocab", "model"),
    ("heads", "model"),
    ("joined_kv", "model"),
    ("mlp", "model"),
    ("embed", None),
    ("length", None),
    ("kv", None),
    ("relpos_buckets", None),
    ("layers", None),
)


_specs = functools.lru_cache(maxsize=4)(param_specs)


def axis_rules(parameter_sharding: str) -> tuple[tuple[str, str | None], ...]:
    """The rules of a PARAMETER_SHARDING, for `flax.linen.logical_axis_rules`.

    An activation has a batch axis, which takes the mesh's data axis before "embed" can: with
    'zero' too, activations are split by rows alone.
    """
    if parameter_sharding == "replicated":
        return RULES
    return tuple((name, "data" if name == "embed" else axis) for name, axis in RULES)


def make_mesh(model_parallel: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices, all unless some are given, as (data, model).

    Raises:
      UserError: a number of model-parallel devices that does not divide all devices.
    """
    grid = np.asarray(devices or jax.devices())
    if grid.size % model_parallel:
        raise UserError(
            f"got MODEL_PARALLEL = {model_parallel}, expected a divisor of the {grid.size} devices"
        )
    return Mesh(grid.reshape(-1, model_parallel), AXES)


def param_shardings(
    config: T5Config, mesh: Mesh | AbstractMesh, parameter_sharding: str = "replicated"
) -> Params:
    """A NamedSharding for each parameter of the student.

    Raises:
      UserError: an axis of the parameters that the devices which share it do not divide.
    """
    sizes = {
        "NUM_HEADS": (config.num_heads, "MODEL_PARALLEL", "model"),
        "MLP_DIM": (config.mlp_dim, "MODEL_PARALLEL", "model"),
        "VOCAB_SIZE": (config.vocab_size, "MODEL_PARALLEL", "model"),
    }
    if parameter_sharding == "zero":
        setting = "PARAMETER_SHARDING = 'zero' on data-parallel devices"
        sizes["EMBED_DIM"] = (config.embed_dim, setting, "data")
    for macro, (size, setting, axis) in sizes.items():
        if size % mesh.shape[axis]:
            raise UserError(
                f"got {setting} = {mesh.shape[axis]}, expected a divisor of {macro} = {size}"
            )
    specs = _specs(dataclasses.replace(config, remat="none"))
    any_mesh: Any = mesh  # flax declares that it takes none that is abstract
    shardings: Params = nn.logical_to_mesh_sharding(specs, any_mesh, axis_rules(parameter_sharding))
    return shardings


def replicated(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The same value on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over the data axis."""
    return NamedSharding(mesh, PartitionSpec("data"))


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Lays the rows of a host batch [B, ...] out over the data axis.

    Every process holds the whole batch and gives its own devices their part of it.
    """
    return {name: _put(array, batch_sharding(mesh)) for name, array in batch.items()}


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def rows_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """Where decoding has its rows: over the data axis if that divides them, else everywhere."""
    return batch_sharding(mesh) if rows % mesh.shape["data"] == 0 else replicated(mesh)


def data_parallel(params: Params) -> int:
    """The number of devices, or groups of MODEL_PARALLEL devices, that decode different rows."""
    mesh = _mesh_of(params)
    return 1 if mesh is None else int(mesh.shape["data"])


def shard_like_params(params: Params, rows: np.ndarray) -> np.ndarray | jax.Array:
    """Rows [B, ...] on the devices of the parameters that they are decoded with.

    Of parameters on one device, or that are no arrays of a mesh, the rows themselves.
    """
    mesh = _mesh_of(params)
    if mesh is None or mesh.size == 1:
        return rows
    return _put(rows, rows_sharding(mesh, len(rows)))


def _mesh_of(params: Params) -> Mesh | None:
    leaf = next(iter(jax.tree.leaves(params)), None)
    return getattr(getattr(leaf, "sharding", None), "mesh", None)


def to_host(array: jax.Array | np.ndarray) -> np.ndarray:
    """All of an array, of which other processes may have parts."""
    if getattr(array, "is_fully_addressable", True):
        return np.asarray(array)
    from jax.experimental.multihost_utils import process_allgather

    whole: np.ndarray = process_allgather(array, tiled=True)
    return whole
