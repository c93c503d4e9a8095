"""The parameters, or the whole state, that a new run starts from.

Parameters are read and placed one after the other: beside the state on the devices, the host holds
one or two parameters at a time (of all layers, where those are stacked). A run
folder is read straight to the devices. On several hosts each reads the whole checkpoint and keeps
the parts of its own devices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from distill.config.adopted import SIZES
from distill.config.run import RunConfig
from distill.config.student import T5Config
from distill.convert import folders, layers, t5x_files
from distill.convert.huggingface import unread_params as hf_params
from distill.convert.sources import Source
from distill.convert.states import from_t5x, params_from_t5x
from distill.convert.unread import by_source
from distill.errors import UserError
from distill.huggingface import read as hf
from distill.huggingface.config_json import config_of
from distill.huggingface.safetensors_files import TensorFolder
from distill.student.network import Params
from distill.student.params import unstack_layers
from distill.training import run_folder
from distill.training.saved_checkpoints import SavedCheckpoints
from distill.training.step import TrainState

_SAME = tuple(name.lower() for name in SIZES)
ParamPath = tuple[str, ...]


def check_source(source: Source, config: RunConfig) -> None:
    """Compares a checkpoint with a run before the run folder is made; reads no arrays.

    Raises:
      UserError: other sizes; to continue, another optimizer or too late a step.
    """
    student = config.student
    if source.kind == "hf":
        if source.macro == "CONTINUE_FROM":
            raise UserError(
                f"got {source}, which has no optimizer state and no step, expected a T5X "
                "checkpoint or a run folder; to start from its parameters, use INIT_FROM"
            )
        tensors = TensorFolder(source.folder)
        found = config_of(tensors)
        hf.check_student(found, student)
        hf.check_tensors(tensors, found)
    elif source.kind == "run":
        _check_run(source, config)
    else:
        _check_t5x(source, config)
    step = step_of(source) or 0
    if source.macro == "CONTINUE_FROM" and step > config.train.train_steps:
        raise UserError(
            f"got TRAIN_STEPS = {config.train.train_steps}, but {source.folder} is of step {step}: "
            "raise TRAIN_STEPS, or use INIT_FROM, which starts at step 0"
        )


def step_of(source: Source) -> int | None:
    """The step of a checkpoint; None of a Hugging Face folder."""
    digits = source.folder.name.rpartition("_")[2]
    return int(digits) if source.kind != "hf" and digits.isdigit() else None


def _check_t5x(source: Source, config: RunConfig) -> None:
    student = dataclasses.replace(config.student, scan_layers=False)
    if source.macro == "INIT_FROM":
        target = t5x_files.read_shapes(source.folder, ("target",))["target"]
        if not layers.is_stacked(target):  # else the biases of its layers decide
            params_from_t5x(target, student)
        return
    saved = t5x_files.read_shapes(source.folder)
    if layers.is_stacked(saved["target"]):
        raise UserError(
            f"got {source} of the scanned network (scalable_t5), whose optimizer treats the "
            "relative biases of the layers separately; expected one of the unscanned network, or "
            "use INIT_FROM, which takes only the parameters"
        )
    from_t5x(saved, student, config.optimizer)


def _check_run(source: Source, config: RunConfig) -> None:
    theirs = run_folder.read_config(source.run_dir)
    where = f"{source.run_dir}/{run_folder.CONFIG}"
    for field in _SAME:
        before, now = (getattr(each, field) for each in (theirs.student, config.student))
        if before != now:
            raise UserError(
                f"got {field.upper()} = {now!r}, but {where} has {before!r}: the sizes of a run "
                f"with {source.macro} are those of the checkpoint"
            )
    if source.macro == "CONTINUE_FROM" and theirs.optimizer.name != config.optimizer.name:
        raise UserError(
            f"got OPTIMIZER = {config.optimizer.name!r}, but {where} has "
            f"{theirs.optimizer.name!r}, whose state CONTINUE_FROM takes over: set OPTIMIZER to "
            "that, or use INIT_FROM, which starts with a new optimizer"
        )


def start_params(source: Source, student: T5Config, params: Params) -> Params:
    """A checkpoint's parameters in place of initial ones.

    Args:
      source: the checkpoint.
      student: the run's.
      params: the initial ones, on their devices, which are deleted to make room.

    Returns:
      The parameters, where the initial ones were.

    Raises:
      UserError: a checkpoint of another size, or damaged.
    """
    if source.kind == "run" and _is_stacked_like(source, student):
        template = _template(params)
        _delete(params)
        is_best = run_folder.read_config(source.run_dir).train.checkpoint == "best"
        return SavedCheckpoints(source.run_dir).restore_params(template, is_best)
    old = traverse_util.flatten_dict(params)
    new: dict[ParamPath, jax.Array] = {}
    for path, array in iter_host(source, student):
        leaf = old[path]
        _delete(leaf)
        new[path] = _place(array, leaf.sharding, leaf.dtype)
    placed: Params = traverse_util.unflatten_dict(new)
    return placed


def continued_state(source: Source, config: RunConfig, state: TrainState) -> TrainState:
    """A checkpoint's parameters, optimizer state and step in place of the initial ones.

    Args:
      source: of a T5X checkpoint or a run folder.
      config: the run.
      state: the initial one, on its devices; its dropout key stays, which is SEED's.

    Raises:
      UserError: a checkpoint of another size or optimizer, or damaged.
    """
    key = state.dropout_key
    template = _template(state)
    _delete((state.params, state.opt_state))
    if source.kind == "run":
        restored: TrainState = SavedCheckpoints(source.run_dir).restore(template)
        return TrainState(restored.step, restored.params, restored.opt_state, key)
    step, params, opt_state = folders.whole_state(source.folder, config)
    found: Any = (np.int32(step), params, opt_state)
    expected = (template.step, template.params, template.opt_state)
    leaves, tree = jax.tree.flatten(expected)
    pairs = enumerate(zip(jax.tree.leaves(found), leaves, strict=True))
    placed: Any = [None] * len(leaves)
    for index, (array, leaf) in by_source(pairs, lambda pair: pair[1][0]):
        placed[index] = _place(np.asarray(array), leaf.sharding, leaf.dtype)
    new_step, new_params, new_opt_state = jax.tree.unflatten(tree, placed)
    return TrainState(new_step, new_params, new_opt_state, key)


def iter_host(source: Source, student: T5Config) -> Iterator[tuple[ParamPath, np.ndarray]]:
    """The parameters of a checkpoint, one array of the host at a time.

    Args:
      source: of `sources.find_source`.
      student: its configuration; its sizes must be the checkpoint's.

    Yields:
      Path in the student's tree, array.

    Raises:
      UserError: one of another size; one that is damaged.
    """
    params = _unread_params(source, student)
    for path, leaf in by_source(traverse_util.flatten_dict(params).items(), lambda item: item[1]):
        yield path, np.asarray(leaf)


def _unread_params(source: Source, student: T5Config) -> Params:
    """The parameters, their layers as the student has them, each array `Unread`."""
    if source.kind == "hf":
        return hf_params(hf.ParamReader(source.folder, student))
    if source.kind == "t5x":
        return folders.unread_params(source.folder, student)
    theirs = run_folder.read_config(source.run_dir)
    is_best = theirs.train.checkpoint == "best"
    params = folders.open_native(source.run_dir, theirs, is_best).params
    if theirs.student.scan_layers == student.scan_layers:
        return params
    return layers.stack_layers(params) if student.scan_layers else unstack_layers(params)


def _is_stacked_like(source: Source, student: T5Config) -> bool:
    theirs = run_folder.read_config(source.run_dir).student
    return theirs.scan_layers == student.scan_layers


def _template(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree
    )


def _delete(tree: Any) -> None:
    for leaf in jax.tree.leaves(tree):
        leaf.delete()


def _place(array: np.ndarray, sharding: jax.sharding.Sharding, dtype: np.dtype) -> jax.Array:
    """Lays an array of the host out on the devices; none is part of a file mapped into memory."""
    is_own = array.flags.owndata and array.dtype == dtype
    own = array if is_own else np.array(array, dtype)
    return jax.make_array_from_callback(own.shape, sharding, lambda index: own[index])
