"""T5X's mesh from the macros of gin/meshes, as functions that gin/engines/t5x_shared.gin calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax

from distill.errors import UserError


def row_multiple(microbatches: int, model_parallel: int, submesh: Sequence[int] | None) -> int:
    """What the rows of a batch are a multiple of: data-parallel devices times microbatches.

    Raises:
      UserError: the model's part of the mesh does not divide the number of devices.
    """
    shared = math.prod(submesh) if submesh else model_parallel
    if jax.device_count() % shared:
        macro = "MODEL_PARALLEL_SUBMESH" if submesh else "MODEL_PARALLEL"
        raise UserError(
            f"got {macro} = {submesh or model_parallel}, expected a divisor of the number of "
            f"devices, {jax.device_count()}"
        )
    return jax.device_count() // shared * microbatches


def eval_rows(batch_size: int, multiple: int) -> int:
    """EVAL_BATCH_SIZE, raised to what the data-parallel devices divide."""
    return -(-batch_size // multiple) * multiple


def num_partitions(model_parallel: int, submesh: Sequence[int] | None) -> int | None:
    """T5X takes either a number of partitions or a part of the mesh."""
    return None if submesh else model_parallel


def submesh(model_parallel: int, submesh: Sequence[int] | None) -> tuple[int, ...] | None:
    """T5X's `model_parallel_submesh`, None where it finds one itself.

    On several CPU devices T5X would give the model all of them (partitioning.get_cpu_mesh),
    whatever MODEL_PARALLEL says; there a part of the mesh is hosts x devices. Of TPUs it knows
    v2 to v4 alone (partitioning.default_mesh); here any is divided by `neighbors`.

    Raises:
      UserError: no box of MODEL_PARALLEL neighboring TPUs tiles the slice.
    """
    if submesh:
        return tuple(submesh)
    if jax.default_backend() == "tpu":
        places = [(*device.coords, device.core_on_chip) for device in jax.devices()]
        return neighbors(model_parallel, [1 + max(axis) for axis in zip(*places, strict=True)])
    if jax.default_backend() != "cpu" or jax.local_device_count() == 1:
        return None
    return 1, model_parallel


def neighbors(count: int, bounds: Sequence[int]) -> tuple[int, int, int, int]:
    """A box (x, y, z, cores) of so many devices that tiles a slice.

    The devices of a chip come first. The others are a whole axis of the slice where one has
    that length, as its ends are linked on many slices; otherwise as much of x as divides it,
    then of y, then of z.

    Args:
      count: devices that share one copy of the model.
      bounds: devices of the slice along (x, y, z, cores).

    Raises:
      UserError: there is no such box.
    """
    cores = math.gcd(count, bounds[3])
    rest, sides = count // cores, [1, 1, 1]
    if rest in bounds[:3]:
        sides[list(bounds[:3]).index(rest)] = rest
        return sides[0], sides[1], sides[2], cores
    for axis, bound in enumerate(bounds[:3]):
        sides[axis] = math.gcd(rest, bound)
        rest //= sides[axis]
    if rest > 1:
        raise UserError(
            f"got MODEL_PARALLEL = {count}, but a slice of {'x'.join(map(str, bounds[:3]))} chips "
            f"with {bounds[3]} devices each has no box of that many neighboring devices; set "
            "MODEL_PARALLEL_SUBMESH = (x, y, z, devices of a chip)"
        )
    return sides[0], sides[1], sides[2], cores


def parameter_dims(parameter_sharding: str, dims: int) -> int:
    """T5X's `parameter_partitioning_dims`: 2 splits parameters over the data axis as well."""
    return 2 if parameter_sharding == "zero" else dims
