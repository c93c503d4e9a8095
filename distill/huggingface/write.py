"""A student's parameters as safetensors of Hugging Face's names, one tensor after the other."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import traverse_util

from distill.common.atomic import atomic_file, write_json
from distill.config.student import T5Config
from distill.errors import unknown
from distill.huggingface.names import EMBEDDING, OUTPUT, Parameter, parameters
from distill.huggingface.safetensors_files import INDEX, PIECE, SINGLE
from distill.student.network import Params

DTYPES = {"float32": "F32", "bfloat16": "BF16"}
SHARD_BYTES = 5 * 10**9
_ALIGNMENT = 8  # of the first tensor's first byte, as the safetensors library writes it
# Gives the array of a parameter whose layers are one by one.
Source = Callable[[Parameter], Any]


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A tensor to write: the parameter that it is, under the name that the file gives it."""

    name: str
    parameter: Parameter
    size: int


def write_params(
    params: Params | Source,
    student: T5Config,
    folder: epath.PathLike,
    dtype: str = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> list[epath.Path]:
    """Writes `model.safetensors`, or shards with an index where it would be too large.

    Besides `params`, no more than one tensor and a piece are in memory.

    Args:
      params: the tree of `init_params`, stacked with SCAN_LAYERS, of NumPy or jax arrays; or a
        function from a parameter to its array.
      student: its configuration.
      folder: where the files go, local or gs://; it must exist.
      dtype: one of DTYPES.
      shard_bytes: largest size of the tensors in a file; a larger tensor has a file of its own.

    Returns:
      The files, the index last.

    Raises:
      UserError: an unknown type.
    """
    if dtype not in DTYPES:
        raise unknown("type", dtype, DTYPES, "dtype")
    source = params if callable(params) else _source(params, student.scan_layers)
    shards = _shards(_entries(student, dtype), shard_bytes)
    folder = epath.Path(folder)
    count = len(shards)
    names = [SINGLE]
    if count > 1:
        names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    for name, shard in zip(names, shards, strict=True):
        with atomic_file(folder / name, "wb") as file:
            _write_shard(file, shard, source, dtype)
    files = [folder / name for name in names]
    if count > 1:
        places = {e.name: name for name, shard in zip(names, shards, strict=True) for e in shard}
        total = sum(entry.size for shard in shards for entry in shard)
        write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
        files.append(folder / INDEX)
    return files


def _source(params: Params, is_stacked: bool) -> Source:
    flat: Mapping[tuple[str, ...], Any] = traverse_util.flatten_dict(params)

    def array(parameter: Parameter) -> Any:
        path, layer = parameter.place(is_stacked)
        return flat[path] if layer is None else flat[path][:, layer]  # LAYERS_AXIS

    return array


def _entries(student: T5Config, dtype: str) -> list[_Entry]:
    width = 4 if dtype == "float32" else 2
    entries = [_Entry(each.tensor, each, each.numbers * width) for each in parameters(student)]
    if student.tie_embeddings and not student.scale_tied_logits:
        # config.json says that nothing is tied, and transformers 4 then reads this name.
        [shared] = [entry for entry in entries if entry.name == EMBEDDING]
        entries.append(dataclasses.replace(shared, name=OUTPUT))
    return sorted(entries, key=lambda entry: entry.name)


def _shards(entries: Sequence[_Entry], shard_bytes: int) -> list[list[_Entry]]:
    """Consecutive entries of at most `shard_bytes` together."""
    shards: list[list[_Entry]] = [[]]
    filled = 0
    for entry in entries:
        if shards[-1] and filled + entry.size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += entry.size
    return shards


def _write_shard(file: IO[bytes], entries: Sequence[_Entry], source: Source, dtype: str) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        begin, end = end, end + entry.size
        shape = list(entry.parameter.tensor_shape)
        header[entry.name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [begin, end]}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % _ALIGNMENT)
    file.write(len(content).to_bytes(8, "little") + content)
    for entry in entries:
        for piece in _pieces(source(entry.parameter), entry.parameter, dtype):
            file.write(piece)


def _pieces(array: Any, parameter: Parameter, dtype: str) -> Iterator[memoryview]:
    """The bytes of a tensor, rows of which are made at a time."""
    array = np.asarray(array)
    if array.shape != parameter.shape:
        raise ValueError(f"{'/'.join(parameter.path)} has shape {array.shape}, not as configured")
    tensor = array.T if parameter.is_transposed else array
    step = max(PIECE // max(tensor[0].size, 1), 1)
    wanted: Any = np.dtype("<f4") if dtype == "float32" else jnp.bfloat16
    for first in range(0, tensor.shape[0], step):
        piece = np.ascontiguousarray(tensor[first : first + step], dtype=wanted)
        yield piece.view(np.uint8).reshape(-1).data
