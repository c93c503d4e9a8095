"""Writes a checkpoint one array at a time, so that it need not fit in memory."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from distill.common.atomic import absolute, is_local
from distill.config.run import RunConfig
from distill.convert.orbax_arrays import unread_handlers
from distill.convert.unread import Unread, in_memory
from distill.student.network import Params
from distill.training.intact import SealedPath
from distill.training.optimizer import make_optimizer
from distill.training.saved_checkpoints import FOLDER
from distill.training.step import TrainState


def save_first(run_dir: epath.Path, config: RunConfig, params: Params) -> None:
    """Writes the checkpoint of step 0 with a new optimizer.

    Args:
      run_dir: the run folder, without checkpoints.
      config: of the run.
      params: the parameters' tree with an `Unread` at each leaf.
    """
    save_state(run_dir, config, 0, params, first_moments(config, params))


def save_state(
    run_dir: epath.Path, config: RunConfig, step: int, params: Params, opt_state: Any
) -> None:
    """Writes a checkpoint of a run.

    Args:
      run_dir: the run folder, without checkpoints.
      config: of the run.
      step: of the checkpoint.
      params: the parameters' tree with an `Unread` or an array at each leaf.
      opt_state: optax's state, the same.
    """
    key = jax.random.split(jax.random.key(config.train.seed))[1]  # as in init_state
    state: Any = TrainState(np.int32(step), params, opt_state, jax.random.key_data(key))  # type: ignore[arg-type]
    state = jax.tree.map(in_memory, state)
    folder = absolute(run_dir) / FOLDER
    options = ocp.CheckpointManagerOptions(
        create=True,
        enable_async_checkpointing=False,
        temporary_path_class=SealedPath if is_local(folder) else None,
    )
    handler = ocp.PyTreeCheckpointHandler(type_handler_registry=unread_handlers())
    try:
        with ocp.CheckpointManager(folder, options=options, item_handlers=handler) as manager:
            manager.save(step, args=ocp.args.PyTreeSave(state))
    finally:
        for path in folder.iterdir():
            if ocp.utils.is_tmp_checkpoint(path):  # what a failed or killed conversion leaves
                path.rmtree()


def first_moments(config: RunConfig, params: Params) -> Any:
    """What the optimizer starts with: zeros, as is checked on a small array.

    Args:
      config: of the run.
      params: the parameters' tree with an `Unread` at each leaf.
    """
    optimizer = make_optimizer(config.optimizer)
    small = optimizer.init({"weight": jnp.ones((2, 2))})
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(small))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    return jax.tree.map(_zeros, jax.eval_shape(optimizer.init, shapes))


def _zeros(leaf: jax.ShapeDtypeStruct) -> Unread:
    return Unread(leaf.shape, np.dtype(leaf.dtype), lambda: np.zeros(leaf.shape, leaf.dtype))
