"""A student's parameters from a folder of Hugging Face's, one tensor after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from etils import epath
from flax import traverse_util

from distill.config.student import T5Config
from distill.errors import UserError
from distill.huggingface.config_json import FolderConfig, config_of
from distill.huggingface.names import (
    EMBEDDING,
    EMBEDDING_ALIASES,
    OUTPUT,
    UNUSED,
    Parameter,
    parameters,
)
from distill.huggingface.safetensors_files import INDEX, TensorFolder, nearest
from distill.student.network import Params
from distill.student.params import param_shapes


class ParamReader:
    """Reads the parameters of a folder one by one; all names and shapes are checked before.

    Attributes:
      student: its configuration.
      tensors: the folder's.
      config: what the folder says about its model.
    """

    def __init__(self, folder: epath.PathLike, student: T5Config) -> None:
        """Opens the folder.

        Args:
          folder: local or gs://, with config.json and safetensors.
          student: its sizes and the form of the network must be the folder's.

        Raises:
          UserError: a folder that cannot be read, of another student, or with a tensor that is
            missing, not known, or of another shape.
        """
        self.student = student
        self.tensors = TensorFolder(folder)
        self.config = config_of(self.tensors)
        check_student(self.config, student)
        self._sources = check_tensors(self.tensors, self.config)
        shapes = traverse_util.flatten_dict(param_shapes(student))
        self.shapes: dict[tuple[str, ...], tuple[int, ...]] = {
            path: leaf.shape for path, leaf in shapes.items()
        }
        self._places: dict[tuple[str, ...], list[tuple[Parameter, int | None]]] = {}
        for parameter in parameters(student):
            path, layer = parameter.place(student.scan_layers)
            self._places.setdefault(path, []).append((parameter, layer))

    def read(self, path: tuple[str, ...]) -> np.ndarray:
        """One parameter as a new float32 array; of all layers if they are stacked.

        Args:
          path: its names in the student's tree.

        Raises:
          UserError: numbers that are not finite; a file that cannot be read.
        """
        array = np.empty(self.shapes[path], np.float32)
        for parameter, layer in self._places[path]:
            part = array if layer is None else array[:, layer]  # LAYERS_AXIS
            _fill(part, parameter, self.tensors, self._sources[parameter.tensor])
        return array


def read_params(folder: epath.PathLike, student: T5Config) -> Params:
    """The parameters of a folder as float32 arrays of NumPy.

    Besides the parameters, no more than a piece of a tensor is in memory.

    Args:
      folder: as of `ParamReader`.
      student: as of `ParamReader`.

    Returns:
      The tree of `distill.student.params.init_params`, stacked with SCAN_LAYERS.

    Raises:
      UserError: see `ParamReader`.
    """
    reader = ParamReader(folder, student)
    params: Any = traverse_util.unflatten_dict({path: reader.read(path) for path in reader.shapes})
    return params


def _fill(array: np.ndarray, parameter: Parameter, tensors: TensorFolder, source: str) -> None:
    """Reads one tensor into its place."""
    for first, rows in tensors.rows(source):
        if not np.isfinite(rows).all():
            what = "NaN" if np.isnan(rows).any() else "infinite numbers"
            raise UserError(
                f"{tensors.tensors[source].file}: the tensor {source} contains {what}: use another "
                "copy or an earlier checkpoint"
            )
        last = first + len(rows)
        if parameter.is_transposed:
            array[:, first:last] = rows.T
        else:
            array[first:last] = rows


def check_student(config: FolderConfig, student: T5Config) -> None:
    """Compares a configured student with the folder's.

    Raises:
      UserError: names every macro that differs, with both values.
    """
    ours = dataclasses.asdict(student)
    differing = [
        f"{name} = {ours[name.lower()]!r}, expected {value!r}"
        for name, value in config.macros.items()
        if ours[name.lower()] != value
    ]
    if not student.tie_embeddings:
        differing = [each for each in differing if not each.startswith("SCALE_TIED_LOGITS")]
    if differing:
        raise UserError(f"{config.folder} has another model: got {'; '.join(differing)}")


def check_tensors(tensors: TensorFolder, config: FolderConfig) -> dict[str, str]:
    """Looks at the names and shapes of all tensors.

    Returns:
      The tensor to read for the name of each parameter's.

    Raises:
      UserError: one that is missing, not known, or of another shape.
    """
    expected = {each.tensor: each for each in parameters(config.student)}
    sources = {name: name for name in expected} | {EMBEDDING: config.embedding}
    for name, source in sources.items():
        if source not in tensors.tensors:
            raise _missing(tensors, name)
        tensor, shape = tensors.tensors[source], expected[name].tensor_shape
        if tensor.shape != shape:
            raise UserError(
                f"{tensor.file}: the tensor {source} has shape {list(tensor.shape)}, expected "
                f"{list(shape)} by config.json"
            )
    known = {*expected, EMBEDDING, *EMBEDDING_ALIASES, OUTPUT, *UNUSED}
    for name in sorted(tensors.tensors.keys() - known):
        raise UserError(
            f"{tensors.tensors[name].file}: the tensor {name} is not one of a T5 of the sizes in "
            f"config.json; {nearest(name, expected)}"
        )
    return sources


def _missing(tensors: TensorFolder, name: str) -> UserError:
    if name in tensors.aliases:
        return UserError(
            f"{tensors.path / INDEX} says that the tensor {name} is in "
            f"{tensors.aliases[name].name}, which does not contain it: download or copy the folder "
            "again"
        )
    return UserError(
        f"{tensors.path} has no tensor {name}, which a T5 of the sizes in config.json has; "
        f"{nearest(name, tensors.tensors)}"
    )
