"""A Hugging Face folder becomes a native run folder, or a list of what its tensors are read as."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from distill.common.disk import disk_errors
from distill.common.progress import Say, to_stderr
from distill.config.resolve import Resolved, resolve
from distill.convert.sizes import adopt_sizes
from distill.convert.streaming import save_first
from distill.convert.unread import Unread
from distill.errors import UserError
from distill.huggingface import tokenizer
from distill.huggingface.config_json import config_of
from distill.huggingface.names import parameters
from distill.huggingface.read import ParamReader, check_tensors
from distill.huggingface.safetensors_files import TensorFolder
from distill.student.network import Params
from distill.training import assets as run_assets
from distill.training import run_folder
from distill.training.run_lock import RunLock
from distill.training.saved_checkpoints import FOLDER, SavedCheckpoints

# What a run folder needs beside the checkpoint, where no gin file says it.
EXPERIMENT = "jsonl_pretrained"


def resolve_folder(
    checkpoint: epath.PathLike, gin_files: Sequence[str], overrides: Sequence[str]
) -> Resolved:
    """The configuration of a run that starts from a folder, which sets sizes and vocabulary.

    Args:
      checkpoint: the folder.
      gin_files: of the run; none for EXPERIMENT.
      overrides: `NAME=value` texts.

    Raises:
      UserError: what is wrong with any of them; sizes that are not the folder's.
    """
    config_of(TensorFolder(checkpoint))  # a bad folder is named before the configuration is
    settings = (*overrides, f"INIT_FROM={str(checkpoint)!r}")
    try:
        return resolve(gin_files or (EXPERIMENT,), settings, "native", adopt_sizes)
    except UserError as error:  # the user gave a flag, not the macro
        given = str(error).replace(f"INIT_FROM = {str(checkpoint)!r}", f"--checkpoint={checkpoint}")
        raise UserError(given) from error


def hf_to_native(
    checkpoint: epath.PathLike, resolved: Resolved, run_dir: epath.PathLike, say: Say = to_stderr
) -> int:
    """Writes a native run folder at step 0 from the parameters of a Hugging Face folder.

    One parameter is in memory at a time. `distill predict` answers with the run folder, and
    `distill train --init_from` starts from it.

    Args:
      checkpoint: the folder, local or gs://.
      resolved: of `resolve_folder`.
      run_dir: the folder to write; one of another configuration or with checkpoints is refused.
      say: takes a line where the vocabulary could not be compared.

    Returns:
      The step, 0.

    Raises:
      UserError: a folder that cannot be read, or another vocabulary; a run folder in use.
    """
    folder, config = epath.Path(run_dir), resolved.run
    run_folder.check_run(folder, resolved.text)
    with (
        RunLock(folder) as lock,
        disk_errors(folder, "free some space or choose another folder, then convert again"),
    ):
        assets = run_assets.of_data(config.data)
        run_assets.check_same_assets(folder, assets)
        given = config.data.vocabulary_path
        line = tokenizer.check_vocabulary(checkpoint, assets.kind, assets.vocabulary(), given)
        if line:
            say(line)
        params = unread_params(ParamReader(checkpoint, config.student))
        latest = SavedCheckpoints(folder).latest_step
        if latest is not None:
            raise UserError(
                f"{folder / FOLDER} already has a checkpoint of step {latest}: choose another "
                "--run_dir"
            )
        folder.mkdir(parents=True, exist_ok=True)
        lock.take()
        save_first(folder, config, params)
        run_folder.open_run(folder, resolved.text)
        run_assets.write(folder, assets)
    return 0


def unread_params(reader: ParamReader) -> Params:
    """The parameters of a folder, each read when it is asked for.

    Args:
      reader: of the folder.
    """
    leaves = {
        path: Unread(shape, np.dtype(np.float32), functools.partial(reader.read, path))
        for path, shape in reader.shapes.items()
    }
    params: Params = traverse_util.unflatten_dict(leaves)
    return params


def describe_folder(checkpoint: epath.PathLike) -> dict[str, Any]:
    """What a folder's tensors are read as; nothing but headers and the embedding is read.

    Args:
      checkpoint: the folder.

    Returns:
      The family, the macros, the number of parameters, the mapping (a dict per parameter, with
      its path, shape, tensor, the tensor's type and file), and the tensors that are not read.

    Raises:
      UserError: a folder that cannot be read.
    """
    tensors = TensorFolder(checkpoint)
    config = config_of(tensors)
    sources = check_tensors(tensors, config)
    mapping = []
    for parameter in parameters(config.student):
        tensor = tensors.tensors[sources[parameter.tensor]]
        mapping.append(
            {
                "parameter": "/".join(parameter.path),
                "shape": list(parameter.shape),
                "tensor": tensor.name,
                "transposed": parameter.is_transposed,
                "dtype": tensor.dtype,
                "file": tensor.file.name,
            }
        )
    return {
        "checkpoint": str(tensors.path),
        "family": config.family,
        "macros": dict(config.macros),
        "parameters": sum(math.prod(each["shape"]) for each in mapping),
        "mapping": mapping,
        "not_read": sorted(tensors.tensors.keys() - {*sources.values()}),
    }
