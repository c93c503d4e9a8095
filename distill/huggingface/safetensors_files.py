"""Files of tensors in the safetensors format, read piece by piece: no tensor is held twice.

A file is the length of a header (8 bytes, little-endian), the header as JSON (of each tensor its
type, its shape, and where its bytes begin and end after the header), and those bytes. A folder has
one `model.safetensors`, or shards and `model.safetensors.index.json`, which names the shard of
each tensor. The format is read here, not by its library, for three reasons: that maps whole files
into memory, cannot read from a bucket, and does not say which tensor of which file is damaged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np
from etils import epath

from distill.common.text_files import check_file, parse_json, reading
from distill.errors import UserError, hint

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PIECE = 16 * 2**20  # numbers of a tensor that are read at once
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors library
_AGAIN = "download or copy it again"
# Bytes of a number of the types that a float32 parameter can be read from.
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Where a tensor is.

    Attributes:
      name: its name.
      file: the file that has it.
      dtype: the type's name in the format, such as "BF16".
      shape: its axes.
      start: the place in the file of its first byte.
      end: the place after its last byte.
    """

    name: str
    file: epath.Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class TensorFolder:
    """The tensors of a folder, by name; nothing but headers is read until rows are asked for.

    Attributes:
      path: the folder.
      tensors: all tensors.
      files: the files that hold them, in order.
      aliases: names in the index that the shard which it names does not hold.
    """

    def __init__(self, folder: epath.PathLike) -> None:
        """Reads the headers.

        Args:
          folder: local or gs://.

        Raises:
          UserError: no such folder, no safetensors in it, a file that is missing, truncated or of
            another format.
        """
        self.path = epath.Path(folder)
        self.aliases: dict[str, epath.Path] = {}
        self.tensors: dict[str, Tensor] = {}
        _check_folder(self.path)
        if (self.path / SINGLE).exists():
            self.files = [self.path / SINGLE]
            self.tensors = read_header(self.files[0])
            return
        places = _read_index(self.path / INDEX)
        self.files = [self.path / name for name in sorted({*places.values()})]
        for file in self.files:
            self._add(read_header(file))
        self.aliases = {
            name: self.path / file for name, file in places.items() if name not in self.tensors
        }

    def _add(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if name in self.tensors:
                raise UserError(
                    f"{tensor.file} and {self.tensors[name].file} both contain the tensor {name}, "
                    f"expected each tensor once: {_AGAIN}"
                )
            self.tensors[name] = tensor

    def rows(self, name: str) -> Iterator[tuple[int, np.ndarray]]:
        """The tensor's rows as float32, some at a time: the index of the first, and the array.

        Args:
          name: of a tensor.

        Raises:
          UserError: a type that is not a floating-point one of 16 or 32 bits; the file cannot be
            read, or ends too early.
        """
        tensor = self.tensors[name]
        if tensor.dtype not in _ITEM_BYTES:
            raise UserError(
                f"{tensor.file}: the tensor {name} has the type {tensor.dtype}, expected one of "
                f"{', '.join(_ITEM_BYTES)}: quantized and integer checkpoints cannot be trained"
            )
        row_shape = tensor.shape[1:]
        row_bytes = math.prod(row_shape) * _ITEM_BYTES[tensor.dtype]
        count = tensor.shape[0] if tensor.shape else 1
        step = max(PIECE // max(math.prod(row_shape), 1), 1)  # alike for all tensors of a shape
        with reading(tensor.file), tensor.file.open("rb") as file:
            file.seek(tensor.start)
            for first in range(0, count, step):
                rows = min(step, count - first)
                content = _read(file, rows * row_bytes, tensor)
                yield first, as_float32(content, tensor.dtype).reshape(rows, *row_shape)


def as_float32(content: bytes | np.ndarray, dtype: str) -> np.ndarray:
    """Numbers of a type of the format, flat."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(content, "<f4" if dtype == "F32" else "<f2").astype(np.float32, copy=False)


def _read(file: IO[bytes], size: int, tensor: Tensor) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise UserError(f"{tensor.file} ends within the tensor {tensor.name}: {_AGAIN}")
    return content


def _check_folder(folder: epath.Path) -> None:
    """Raises an error where there are no safetensors."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{folder} {what}, expected a folder of Hugging Face's with config.json and {SINGLE}"
        )
    if (folder / SINGLE).exists() or (folder / INDEX).exists():
        return
    for name in (PICKLE, PICKLE_INDEX):
        if (folder / name).exists():
            raise UserError(
                f"{folder} has its parameters in {name} alone, a pickle, which can run code when "
                f"it is read; expected {SINGLE}. To convert it, where you trust it: python -c "
                '"from transformers import AutoModelForSeq2SeqLM as A; '
                f"A.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\""
            )
    names = sorted(each.name for each in folder.iterdir())[:5]
    found = f"it contains {', '.join(names)}" if names else "it is empty"
    raise UserError(f"{folder} has no {SINGLE} and no {INDEX}: {found}")


def _read_index(path: epath.Path) -> dict[str, str]:
    """The shard of each tensor."""
    check_file(path)
    with reading(path):
        content = path.read_bytes()
    try:
        index = parse_json(content)
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}): {_AGAIN}") from None
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise UserError(f"{path} has no 'weight_map' with tensors and their files: {_AGAIN}")
    for name, file in places.items():
        if not isinstance(file, str) or not file or "/" in file or "\\" in file or file == "..":
            raise UserError(f"{path}: got {file!r} as the file of {name}, expected a file name")
        if not (path.parent / file).exists():
            raise UserError(
                f"{path} says that {name} is in {file}, which does not exist: download or copy "
                f"the shard"
            )
    return places


def read_header(path: epath.Path) -> dict[str, Tensor]:
    """The tensors of one file.

    Raises:
      UserError: the file is truncated, or not in the format.
    """
    check_file(path)
    size = path.stat().length
    with reading(path), path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or not 2 <= length <= _LONGEST_HEADER:
            raise _damaged(path, "its first 8 bytes are not the length of a header")
        if _LENGTH_BYTES + length > size:
            raise _damaged(path, "it ends within its header")
        content = file.read(length)
    try:
        header = parse_json(content)
    except ValueError as error:
        raise _damaged(path, f"its header is not JSON, {error}") from None
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    start = _LENGTH_BYTES + length
    tensors = {name: _tensor(path, name, entry, start) for name, entry in header.items()}
    for tensor in tensors.values():
        if tensor.end > size:
            raise UserError(
                f"{path} is truncated: it has {size:,} bytes, and the tensor {tensor.name} ends at "
                f"byte {tensor.end:,}: {_AGAIN}"
            )
    return tensors


def _tensor(path: epath.Path, name: str, entry: Any, start: int) -> Tensor:
    """One entry of a header, checked."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        is_whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
        if isinstance(dtype, str) and is_whole and begin <= end:
            width = _ITEM_BYTES.get(dtype)
            if width is None or math.prod(shape) * width == end - begin:
                return Tensor(name, path, dtype, tuple(shape), start + begin, start + end)
            raise _damaged(path, f"the tensor {name} of shape {shape} has {end - begin:,} bytes")
    raise _damaged(path, f"the header's entry of {name[:100]} is {str(entry)[:100]}")


def _damaged(path: epath.Path, reason: str) -> UserError:
    return UserError(f"{path} cannot be read as safetensors ({reason}): {_AGAIN}")


def nearest(name: str, names: Mapping[str, object]) -> str:
    """What an error says of the names that a folder has instead of one."""
    return hint(name, names, "no tensor has a similar name")
