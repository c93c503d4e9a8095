"""Checkpoints on disk: a T5X folder becomes a native run folder, and back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from distill.common.atomic import absolute
from distill.common.disk import disk_errors
from distill.config.resolve import Resolved
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.convert import layers, orbax_arrays, t5x_files
from distill.convert.orbax_arrays import OrbaxArrays
from distill.convert.states import from_t5x, params_from_t5x, to_t5x
from distill.convert.streaming import first_moments, save_state
from distill.convert.unread import Unread
from distill.errors import UserError, unknown
from distill.student.network import Params
from distill.training import assets as run_assets
from distill.training import run_folder
from distill.training.optimizer import make_optimizer
from distill.training.run_lock import RunLock
from distill.training.saved_checkpoints import FOLDER, SavedCheckpoints
from distill.training.step import TrainState, init_state


def t5x_to_native(
    checkpoint: epath.PathLike,
    resolved: Resolved,
    run_dir: epath.PathLike,
    parameters_only: bool = False,
) -> int:
    """Writes a native run folder whose newest checkpoint is T5X's.

    `distill evaluate` scores it, `distill train` with the same gin files resumes from it.

    Args:
      checkpoint: T5X's `checkpoint_<step>` in either layout, scanned or not, or the folder that
        holds some (the newest counts).
      resolved: the native configuration of the run.
      run_dir: the folder to write; one of another configuration or with checkpoints is refused.
      parameters_only: begins at step 0 with a new optimizer, as to fine-tune a published
        checkpoint; otherwise step and optimizer go over too.

    Returns:
      The step.

    Raises:
      UserError: no such checkpoint; another size or optimizer; a run folder in use.
    """
    folder = epath.Path(run_dir)
    run_folder.check_run(folder, resolved.text)
    with (
        RunLock(folder) as lock,
        disk_errors(folder, "free some space or choose another folder, then convert again"),
    ):
        return _write_native(checkpoint, resolved, folder, parameters_only, lock)


def _write_native(
    checkpoint: epath.PathLike,
    resolved: Resolved,
    folder: epath.Path,
    parameters_only: bool,
    lock: RunLock,
) -> int:
    config = resolved.run
    assets = run_assets.of_data(config.data)
    run_assets.check_same_assets(folder, assets)
    if parameters_only:
        step, params = 0, unread_params(checkpoint, config.student)
        opt_state = first_moments(config, params)
    else:
        step, params, opt_state = whole_state(checkpoint, config)
    if step > config.train.train_steps:
        raise UserError(
            f"got TRAIN_STEPS = {config.train.train_steps}, but the checkpoint is at step {step}: "
            "raise TRAIN_STEPS, or use --parameters_only to start at step 0"
        )
    latest = SavedCheckpoints(folder).latest_step
    if latest is not None:
        raise UserError(
            f"{folder / FOLDER} already has a checkpoint of step {latest}: choose another --run_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock.take()
    save_state(folder, config, step, params, opt_state)
    run_folder.open_run(folder, resolved.text)
    run_assets.write(folder, assets)
    return step


def whole_state(checkpoint: epath.PathLike, config: RunConfig) -> tuple[int, Params, Any]:
    """Step, parameters and optax state of a T5X checkpoint, each array `Unread`.

    Raises:
      UserError: no such checkpoint; another size or optimizer; T5X's scanned network.
    """
    saved = t5x_files.open_checkpoint(checkpoint)
    if layers.is_stacked(saved["target"]):
        raise UserError(
            f"{checkpoint} is a checkpoint of T5X's scanned network (scalable_t5), whose optimizer "
            "treats the relative biases of the layers separately: use --parameters_only to convert "
            "only the parameters"
        )
    try:
        return from_t5x(saved, config.student, config.optimizer)
    except UserError as error:
        if "param_states" not in str(error):
            raise
        raise UserError(
            f"{error}; or use --parameters_only to convert only the parameters"
        ) from None


def t5x_params(checkpoint: epath.PathLike, student: T5Config) -> Params:
    """A student's parameters from a checkpoint of T5X's; its optimizer is not read.

    Raises:
      UserError: no such checkpoint; one of another size.
    """
    return params_from_t5x(t5x_files.read_checkpoint(checkpoint, ("target",))["target"], student)


def unread_params(checkpoint: epath.PathLike, student: T5Config) -> Params:
    """As `t5x_params`, each array `Unread`."""
    return params_from_t5x(t5x_files.open_checkpoint(checkpoint, ("target",))["target"], student)


def native_to_t5x(
    run_dir: epath.PathLike,
    output: epath.PathLike,
    layout: str = "zarr",
    scanned: bool = False,
    best: bool = False,
) -> epath.Path:
    """Writes a checkpoint of a native run as `<output>/checkpoint_<step>`.

    Args:
      run_dir: the native run folder.
      output: where the checkpoint goes.
      layout: one of `t5x_files.LAYOUTS`.
      scanned: writes the parameters alone as scalable_t5 has them, to evaluate and infer.
      best: takes the checkpoint that CHECKPOINT = 'best' kept, not the newest.

    Returns:
      The folder written.

    Raises:
      UserError: no run folder or checkpoint; the target is there already.
    """
    if layout not in t5x_files.LAYOUTS:
        raise unknown("layout", layout, t5x_files.LAYOUTS, "--layout")
    config = run_folder.read_config(run_dir)
    if best:
        run_folder.check_kept_best(run_dir, config, "convert")
    state = open_native(run_dir, config, best)
    step = int(np.asarray(state.step))
    target = absolute(output) / f"checkpoint_{step}"
    if target.exists():
        raise UserError(f"{target} already exists: choose another --output")
    tree = to_t5x(step, state.params, state.opt_state, config.optimizer)
    if scanned:
        scalable = layers.to_scalable(tree["target"])
        tree = {"target": scalable, "state": {"step": tree["state"]["step"]}}
    with disk_errors(target, "free some space or choose another folder, then convert again"):
        t5x_files.write_checkpoint(tree, target, layout)
    return target


def open_native(run_dir: epath.PathLike, config: RunConfig, best: bool = False) -> TrainState:
    """The newest or the best state of a native run, each array `Unread`.

    Args:
      run_dir: the run folder.
      config: its configuration.
      best: takes the checkpoint of the highest accuracy.

    Raises:
      UserError: no checkpoint, or none that is intact.
    """
    optimizer = make_optimizer(config.optimizer)
    shapes = jax.eval_shape(lambda: init_state(config.student, optimizer, config.train.seed))

    def read(path: epath.Path) -> TrainState:
        arrays = OrbaxArrays(path, functools.partial(_naming, path))
        found = {leaf.name: leaf for leaf in jax.tree.leaves(orbax_arrays.tree_of(path))}

        def opened(names: tuple, expected: jax.ShapeDtypeStruct) -> Unread:
            leaf = found[jax.tree_util.keystr(names, simple=True, separator=".")]
            if tuple(leaf.shape) != expected.shape:
                raise ValueError(f"{leaf.name} has shape {leaf.shape}, expected {expected.shape}")
            return arrays.open(leaf)

        state: TrainState = jax.tree_util.tree_map_with_path(opened, shapes)
        return state

    return SavedCheckpoints(run_dir).first_intact(shapes.params, read, best)


@contextlib.contextmanager
def _naming(path: epath.Path) -> Iterator[None]:
    """Names the checkpoint where reading it fails within the block."""
    try:
        yield
    except (ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"{path} cannot be read ({reason}) and may be damaged: copy the run folder again"
        ) from error
