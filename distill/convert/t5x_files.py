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
import re
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath
from flax import serialization, traverse_util

from distill.common.atomic import absolute, atomic_directory
from distill.errors import UserError

LAYOUTS = ("zarr", "ocdbt")
PARTS = ("target", "state")
_NAME = re.compile(r"checkpoint_(\d+)")
_INDEX, _STATE = "checkpoint", "state"
_MOST_NUMBERS = 2**32  # of one array; four times the largest of a published T5
_VERSION = 3  # of the msgpack file
_CHUNK_BYTES = 64 * 2**20
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
    path = find_checkpoint(checkpoint)
    with _naming(path):
        tree = _read_ocdbt(path, parts) if (path / _STATE).is_dir() else _read_zarr(path, parts)
    _check_parts(path, tree, parts)
    return tree


def read_shapes(checkpoint: epath.PathLike, parts: Sequence[str] = PARTS) -> dict:
    """The nested dicts of a checkpoint, leaves zeros of its shapes that take no memory.

    Args:
      checkpoint: see `find_checkpoint`.
      parts: as of `read_checkpoint`.

    Raises:
      UserError: see `read_checkpoint`.
    """
    path = find_checkpoint(checkpoint)
    shapes: dict[tuple[str, ...], tuple[int, ...]] = {}
    with _naming(path):
        if (path / _STATE).is_dir():
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
                tree = dict(checkpointer.metadata(path / _STATE).item_metadata.tree)
            _check_parts(path, tree, parts)
            flat = traverse_util.flatten_dict({part: tree[part] for part in parts})
            shapes = {name: tuple(leaf.shape) for name, leaf in flat.items()}
        else:
            for name, leaf in _names(path, parts).items():
                is_array = isinstance(leaf, Mapping)
                if leaf is not None:
                    shapes[name] = _opened(path, name, leaf).shape if is_array else np.shape(leaf)
    return traverse_util.unflatten_dict(
        {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    )


def iter_params(checkpoint: epath.PathLike) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The parameters of a checkpoint one by one, for what never holds them all.

    Args:
      checkpoint: see `find_checkpoint`.

    Yields:
      The path of a parameter in part "target", and its array.

    Raises:
      UserError: see `read_checkpoint`.
    """
    path = find_checkpoint(checkpoint)
    if not (path / _STATE).is_dir():
        with _naming(path):
            names = _names(path, ("target",))
        for name, leaf in names.items():
            with _naming(path):
                is_array = isinstance(leaf, Mapping)
                array = np.asarray(_opened(path, name, leaf).read().result() if is_array else leaf)
            yield name[1:], array
        return
    with _naming(path), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(path / _STATE).item_metadata.tree
        flat = traverse_util.flatten_dict(tree["target"])
    for name, leaf in flat.items():
        with _naming(path):
            part = {"target": traverse_util.unflatten_dict({name: leaf})}
            found = traverse_util.flatten_dict(_restore(path, part)["target"])[name]
        yield name, found


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


def _read_ocdbt(path: epath.Path, parts: Sequence[str]) -> dict:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        tree = checkpointer.metadata(path / _STATE).item_metadata.tree
    return _restore(path, {part: tree[part] for part in parts})


def _restore(path: epath.Path, shapes: dict) -> dict:
    """Part of an Orbax tree, leaves NumPy arrays."""
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    request = ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True)
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.restore(path / _STATE, args=request)


def _read_zarr(path: epath.Path, parts: Sequence[str]) -> dict:
    reads, leaves = {}, {}
    for name, leaf in _names(path, parts).items():
        if isinstance(leaf, Mapping):
            reads[name] = _opened(path, name, leaf).read()
        elif leaf is not None:  # a moment of a parameter that is not trained
            leaves[name] = np.asarray(leaf)
    leaves |= {name: np.asarray(read.result()) for name, read in reads.items()}
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
    spec: dict[str, object] = {"driver": "zarr", "kvstore": _store(path / name)}
    if name.startswith("target."):
        # A missing part would read as zeros. No parameter starts or ends so; moments do, and
        # not every version of TensorStore stored parts that are all zero.
        spec["fill_missing_data_reads"] = False
    return spec


def _store(path: epath.Path) -> dict:
    text = str(path)
    if text.startswith("gs://"):
        bucket, _, inside = text.removeprefix("gs://").partition("/")
        return {"driver": "gcs", "bucket": bucket, "path": f"{inside}/"}
    return {"driver": "file", "path": f"{text}/"}


def write_checkpoint(tree: Mapping, target: epath.Path, layout: str = "zarr") -> None:
    """Writes a checkpoint; the folder has its name when it is complete.

    Args:
      tree: {"target", "state"}, leaves NumPy arrays.
      target: the folder `checkpoint_<step>`, not there yet.
      layout: one of LAYOUTS. T5X restores "zarr" into any run; "ocdbt" without `dataset/`
        only where SaveCheckpointConfig.save_dataset is False.
    """
    with atomic_directory(target, mark=_STATE if layout == "ocdbt" else _INDEX) as scratch:
        if layout == "zarr":
            _write_zarr(tree, scratch)
            return
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=True)) as checkpointer:
            checkpointer.save(scratch / _STATE, args=ocp.args.PyTreeSave(dict(tree)))


def _write_zarr(tree: Mapping, folder: epath.Path) -> None:
    index, writes = {}, []
    for name, leaf in traverse_util.flatten_dict(tree, keep_empty_nodes=True).items():
        index[name] = leaf
        if leaf is traverse_util.empty_node or np.ndim(leaf) == 0:
            continue
        path, array = ".".join(name), np.asarray(leaf)
        metadata = {
            "compressor": _GZIP,
            "shape": list(array.shape),
            "chunks": _chunks(array),
        }
        described = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
        index[name] = {**described, "kvstore": {"driver": "file", "path": path}}
        opened = ts.open({**described, "kvstore": _store(folder / path)}, create=True)
        writes.append(opened.result().write(array))
    for done in writes:
        done.result()
    content = {"version": _VERSION, "optimizer": traverse_util.unflatten_dict(index)}
    (folder / _INDEX).write_bytes(serialization.msgpack_serialize(content))


def _chunks(array: np.ndarray) -> list[int]:
    """Slices along the first axis of at most some megabytes."""
    rows = max(_CHUNK_BYTES * array.shape[0] // max(array.nbytes, 1), 1)
    return [min(rows, array.shape[0]), *array.shape[1:]]
