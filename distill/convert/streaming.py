"""Writes the first checkpoint of a run one array at a time, so that it need not fit in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from distill.common.atomic import absolute, is_local
from distill.config.run import RunConfig
from distill.student.network import Params
from distill.training.intact import SealedPath
from distill.training.optimizer import make_optimizer
from distill.training.saved_checkpoints import FOLDER
from distill.training.step import TrainState

_CHUNK_BYTES = 64 * 2**20  # of an array that are compressed at once


@dataclasses.dataclass(frozen=True)
class Unread:
    """An array that is made when it is its turn to be written.

    Attributes:
      shape: its axes.
      dtype: its type.
      read: makes it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.size * self.dtype.itemsize


class _OneByOne(ocp.type_handlers.NumpyHandler):
    """Makes, writes and forgets one array after the other."""

    async def serialize(
        self, values: Sequence[Unread], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> list[Any]:
        settings = ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES)
        for value, info in zip(values, infos, strict=True):
            for written in await super().serialize([value.read()], [info], [settings]):
                await asyncio.to_thread(written.result)
        return []


def save_first(run_dir: epath.Path, config: RunConfig, params: Params) -> None:
    """Writes the checkpoint of step 0 with a new optimizer.

    Args:
      run_dir: the run folder, without checkpoints.
      config: of the run.
      params: the parameters' tree with an `Unread` at each leaf.
    """
    key = jax.random.split(jax.random.key(config.train.seed))[1]  # as in init_state
    key_data = np.asarray(jax.random.key_data(key))
    state = TrainState(
        Unread((), np.dtype(np.int32), lambda: np.zeros((), np.int32)),  # type: ignore[arg-type]
        params,
        _first_moments(config, params),
        Unread(key_data.shape, key_data.dtype, lambda: key_data),  # type: ignore[arg-type]
    )
    handlers = ocp.type_handlers.create_type_handler_registry(
        (Unread, _OneByOne(deepcopy_host_arrays=False)),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # Orbax warns where there is none
    )
    folder = absolute(run_dir) / FOLDER
    options = ocp.CheckpointManagerOptions(
        create=True,
        enable_async_checkpointing=False,
        temporary_path_class=SealedPath if is_local(folder) else None,
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=handlers)
    try:
        with ocp.CheckpointManager(folder, options=options, item_handlers=handler) as manager:
            manager.save(0, args=ocp.args.PyTreeSave(state))
    finally:
        for path in folder.iterdir():
            if ocp.utils.is_tmp_checkpoint(path):  # what a failed or killed conversion leaves
                path.rmtree()


def _first_moments(config: RunConfig, params: Params) -> Any:
    """What the optimizer starts with: zeros, as is checked on a small array."""
    optimizer = make_optimizer(config.optimizer)
    small = optimizer.init({"weight": jnp.ones((2, 2))})
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(small))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    return jax.tree.map(_zeros, jax.eval_shape(optimizer.init, shapes))


def _zeros(leaf: jax.ShapeDtypeStruct) -> Unread:
    return Unread(leaf.shape, np.dtype(leaf.dtype), lambda: np.zeros(leaf.shape, leaf.dtype))
