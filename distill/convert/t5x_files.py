"""T5X checkpoint folders, read and written without T5X.

A `checkpoint_<step>` has one of two layouts:

  ocdbt  `state/`, an Orbax tree, which T5X's HEAD of 2026 writes; beside it, in `dataset/`, the
         run's place in its data
  zarr   a msgpack file `checkpoint` with the tree of names, and a folder of a gzip-compressed
         zarr array for each parameter, `target.<name>`, and each moment; the layout of the public
         T5 checkpoints (t5x/checkpoints.py, Checkpointer)

Both hold {"target": parameters, "state": {"step", "param_states"}}.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from flax import serialization, traverse_util

from distill.common.atomic import absolute, atomic_directory
from distill.convert import orbax_arrays
from distill.convert.orbax_arrays import OrbaxArrays
from distill.convert.unread import Unread, by_source, in_memory
from distill.errors import UserError

LAYOUTS = ("zarr", "ocdbt")
PARTS = ("target", "state")
_NAME = re.compile(r"checkpoint_(\d+)")
_INDEX, _STATE = "checkpoint", "state"
_MOST_NUMBERS = 2**32  # of one array; four times the largest of a published T5
_VERSION = 3  # of the msgpack file
_CHUNK_BYTES = 64 * 2**20
_AT_ONCE = 8  # arrays that are read at the same time, where all are wanted
_GZIP = {"id": "gzip", "level": 1}  # parameters hardly shrink at higher levels


def find_checkpoint(checkpoint: epath.PathLike) -> epath.Path:
    """The folder of one checkpoint.

    Args:
      checkpoint: `checkpoint_<step>`, or a folder that holds some, of which the newest is taken.

    Raises:
      UserError: there is none.
    """
    path = absolute(checkpoint)
    if is_checkpoint(path):
        return path
    complete = steps(path)
    if not complete:
        raise UserError(
            f"{checkpoint} contains no T5X checkpoint (checkpoint_<step> with a folder `state` or "
            "a file `checkpoint`)"
        )
    return path / f"checkpoint_{complete[-1]}"


def steps(folder: epath.PathLike) -> list[int]:
    """Steps of the complete checkpoints in a folder, in order."""
    path = epath.Path(folder)
    named = ((_NAME.fullmatch(c.name), c) for c in (path.iterdir() if path.is_dir() else ()))
    return sorted(int(name[1]) for name, child in named if name and is_checkpoint(child))


def is_checkpoint(path: epath.Path) -> bool:
    """Whether a folder is one checkpoint, by the names in it."""
    return (path / _STATE).is_dir() or (path / _INDEX).is_file()


def read_checkpoint(checkpoint: epath.PathLike, parts: Sequence[str] = PARTS) -> dict:
    """The nested dicts of a checkpoint, leaves NumPy arrays.

    Args:
      checkpoint: see `find_checkpoint`.
      parts: of the tree, ("target",) for the parameters alone.

    Raises:
      UserError: no such checkpoint; one that does not read.
    """
    flat = traverse_util.flatten_dict(open_checkpoint(checkpoint, parts))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        arrays = threads.map(np.asarray, flat.values())
        return traverse_util.unflatten_dict(dict(zip(flat, arrays, strict=True)))


def read_shapes(checkpoint: epath.PathLike, parts: Sequence[str] = PARTS) -> dict:
    """The nested dicts of a checkpoint, leaves zeros of its shapes that take no memory.

    Args:
      checkpoint: see `find_checkpoint`.
      parts: as of `read_checkpoint`.

    Raises:
      UserError: see `read_checkpoint`.
    """
    tree = open_checkpoint(checkpoint, parts)
    return jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), np.shape(leaf)), tree)


def open_checkpoint(checkpoint: epath.PathLike, parts: Sequence[str] = PARTS) -> dict:
    """The nested dicts of a checkpoint, leaves `Unread` or scalars of NumPy.

    Args:
      checkpoint: see `find_checkpoint`.
      parts: as of `read_checkpoint`.

    Raises:
      UserError: see `read_checkpoint`; so does reading a leaf.
    """
    path = find_checkpoint(checkpoint)
    with _naming(path):
        tree = _open_orbax(path, parts) if (path / _STATE).is_dir() else _open_zarr(path, parts)
    _check_parts(path, tree, parts)
    return tree


@contextlib.contextmanager
def _naming(path: epath.Path) -> Iterator[None]:
    """Names the checkpoint where reading it fails within the block."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(
            f"{path} cannot be read as a T5X checkpoint ({reason}) and may be damaged: copy it "
            "again, or use an earlier checkpoint_<step>"
        ) from error


def _check_parts(path: epath.Path, tree: Mapping, parts: Sequence[str]) -> None:
    for part in parts:
        if not isinstance(tree.get(part), Mapping):
            raise UserError(f"{path} has no {part!r}, expected a checkpoint of T5X's trainer")


def _open_orbax(path: epath.Path, parts: Sequence[str]) -> dict:
    tree = orbax_arrays.tree_of(path / _STATE)
    _check_parts(path, tree, parts)
    arrays = OrbaxArrays(path / _STATE, functools.partial(_naming, path))
    return {part: jax.tree.map(arrays.open, tree[part]) for part in parts}


def _open_zarr(path: epath.Path, parts: Sequence[str]) -> dict:
    leaves: dict[tuple[str, ...], Any] = {}

    @functools.lru_cache(maxsize=1)
    def read(name: tuple[str, ...]) -> np.ndarray:
        with _naming(path):
            return np.asarray(opened[name].read().result())

    opened: dict[tuple[str, ...], ts.TensorStore] = {}
    for name, leaf in _names(path, parts).items():
        if isinstance(leaf, Mapping):
            opened[name] = array = _opened(path, name, leaf)
            kind = array.dtype.numpy_dtype
            leaves[name] = Unread(array.shape, kind, functools.partial(read, name), (path, name))
        elif leaf is not None:  # a moment of a parameter that is not trained
            leaves[name] = np.asarray(leaf)
    return traverse_util.unflatten_dict(leaves)


def _names(path: epath.Path, parts: Sequence[str]) -> dict:
    """What the msgpack file has by name: the spec of an array, or a value."""
    index = serialization.msgpack_restore((path / _INDEX).read_bytes())
    index = index.get("optimizer", index)
    names = {part: index[part] for part in parts}
    _check_names(names)
    return traverse_util.flatten_dict(names, is_leaf=_is_spec)


def _opened(path: epath.Path, name: Sequence[str], stored: Mapping) -> ts.TensorStore:
    """An array, of which nothing but its metadata is read yet."""
    array = ts.open(_array_spec(path, stored), open=True).result()
    if array.size > _MOST_NUMBERS:
        raise ValueError(
            f"the array {'.'.join(name)} has {array.size:,} numbers, expected at most "
            f"{_MOST_NUMBERS:,}"
        )
    return array


def _check_names(tree: Mapping) -> None:
    """Raises ValueError where a name is no text, as in a file that T5X did not write."""
    for name, value in tree.items():
        if not isinstance(name, str):
            raise ValueError(f"got {name!r} as a name, expected a string")
        if isinstance(value, Mapping):
            _check_names(value)


def _is_spec(path: tuple, value: object) -> bool:
    del path
    return isinstance(value, Mapping) and {"driver", "kvstore"} <= value.keys()


def _array_spec(path: epath.Path, stored: Mapping) -> dict:
    """TensorStore's spec of an array whose spec in the msgpack file is relative to its folder."""
    name = stored.get("path") or stored["kvstore"]["path"]  # before and since tensorstore 0.1.14
    name = name.strip("/")
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"the array {name!r} is outside the checkpoint's folder")
    spec: dict[str, object] = {"driver": "zarr", "kvstore": orbax_arrays.store(path / name)}
    if name.startswith("target."):
        # A missing part would read as zeros. No parameter starts or ends so; moments do, and
        # not every version of TensorStore stored parts that are all zero.
        spec["fill_missing_data_reads"] = False
    return spec


def write_checkpoint(tree: Mapping, target: epath.Path, layout: str = "zarr") -> None:
    """Writes a checkpoint; the folder has its name when it is complete.

    Args:
      tree: {"target", "state"}, leaves `Unread`, or NumPy arrays. One is in memory at a time.
      target: the folder `checkpoint_<step>`, not there yet.
      layout: one of LAYOUTS. T5X restores "zarr" into any run; "ocdbt" without `dataset/`
        only where SaveCheckpointConfig.save_dataset is False.
    """
    with atomic_directory(target, mark=_STATE if layout == "ocdbt" else _INDEX) as scratch:
        if layout == "zarr":
            _write_zarr(tree, scratch)
            return
        leaves = jax.tree.map(in_memory, dict(tree))
        handler = ocp.PyTreeCheckpointHandler(
            use_ocdbt=True, type_handler_registry=orbax_arrays.unread_handlers()
        )
        with ocp.Checkpointer(handler) as checkpointer:
            checkpointer.save(scratch / _STATE, args=ocp.args.PyTreeSave(leaves))


def _write_zarr(tree: Mapping, folder: epath.Path) -> None:
    flat = traverse_util.flatten_dict(tree, keep_empty_nodes=True)
    index = dict(flat)
    for name, leaf in by_source(flat.items(), lambda item: item[1]):
        if leaf is traverse_util.empty_node:
            continue
        array = np.asarray(leaf)
        if array.ndim == 0:
            index[name] = array
            continue
        path = ".".join(name)
        metadata = {
            "compressor": _GZIP,
            "shape": list(array.shape),
            "chunks": _chunks(array),
        }
        described = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
        index[name] = {**described, "kvstore": {"driver": "file", "path": path}}
        opened = ts.open({**described, "kvstore": orbax_arrays.store(folder / path)}, create=True)
        opened.result().write(array).result()
    content = {"version": _VERSION, "optimizer": traverse_util.unflatten_dict(index)}
    (folder / _INDEX).write_bytes(serialization.msgpack_serialize(content))


def _chunks(array: np.ndarray) -> list[int]:
    """Slices along the first axis of at most some megabytes."""
    rows = max(_CHUNK_BYTES * array.shape[0] // max(array.nbytes, 1), 1)
    return [min(rows, array.shape[0]), *array.shape[1:]]
