"""The state in a run folder, read by Orbax and not by the converter."""

from __future__ import annotations

import jax

from distill.training import run_folder
from distill.training.optimizer import make_optimizer
from distill.training.saved_checkpoints import SavedCheckpoints
from distill.training.step import init_state


def state_of(run_dir):
    config = run_folder.read_config(run_dir)
    optimizer = make_optimizer(config.optimizer)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    template = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
        jax.eval_shape(lambda: init_state(config.student, optimizer, config.train.seed)),
    )
    return config, SavedCheckpoints(run_dir).restore(template)
