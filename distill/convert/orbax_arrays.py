"""The arrays of an Orbax checkpoint, read and written one at a time.

Orbax's own `restore` of a single array reads the metadata of all of them again.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore as ts
from etils import epath

from distill.convert.unread import Unread, by_source

_CHUNK_BYTES = 64 * 2**20  # of an array that are compressed at once
_METADATA, _MANIFEST = "_METADATA", "manifest.ocdbt"
Naming = Callable[[], Any]  # makes a context manager


def tree_of(folder: epath.Path) -> Any:
    """Names, shapes and types of the arrays, as Orbax has them.

    Args:
      folder: of the tree, with the file _METADATA.

    Returns:
      Nested dicts and lists with Orbax's metadata as leaves.
    """
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        return checkpointer.metadata(folder).item_metadata.tree


class OrbaxArrays:
    """Opens the arrays of one tree; the one that was read last stays in memory."""

    def __init__(self, folder: epath.Path, naming: Naming) -> None:
        """Names the folder.

        Args:
          folder: of the tree.
          naming: makes a context manager that names the checkpoint where reading it fails.
        """
        self._store = store(folder)
        self._is_ocdbt = (folder / _MANIFEST).exists()
        is_zarr3 = json.loads((folder / _METADATA).read_bytes()).get("use_zarr3")
        self._driver = "zarr3" if is_zarr3 else "zarr"
        self._context = ts.Context()
        self._naming = naming
        self._read = functools.lru_cache(maxsize=1)(self._read_now)

    def open(self, leaf: Any) -> Unread:
        """An array by its metadata in the tree."""
        dtype = np.dtype(leaf.dtype)
        return Unread(
            tuple(leaf.shape),
            dtype,
            functools.partial(self._read, leaf.name),
            (id(self), leaf.name),
        )

    def _read_now(self, name: str) -> np.ndarray:
        kvstore: dict[str, Any] = {**self._store, "path": f"{self._store['path']}{name}/"}
        if self._is_ocdbt:
            kvstore = {"driver": "ocdbt", "base": self._store, "path": f"{name}/"}
        spec = {"driver": self._driver, "kvstore": kvstore, "fill_missing_data_reads": False}
        with self._naming():
            array = ts.open(spec, open=True, context=self._context).result()
            return np.asarray(array.read().result())


class _OneByOne(ocp.type_handlers.NumpyHandler):
    """Makes, writes and forgets one array after the other."""

    async def serialize(
        self, values: Sequence[Unread], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> list[Any]:
        settings = ocp.SaveArgs(chunk_byte_size=_CHUNK_BYTES)
        pairs = zip(values, infos, strict=True)
        for value, info in by_source(pairs, lambda pair: pair[0]):
            for written in await super().serialize([value.read()], [info], [settings]):
                await asyncio.to_thread(written.result)
        return []


def unread_handlers() -> Any:
    """Orbax's registry of how arrays are written, for trees with an `Unread` at each leaf."""
    return ocp.type_handlers.create_type_handler_registry(
        (Unread, _OneByOne(deepcopy_host_arrays=False)),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # Orbax warns where there is none
    )


def store(path: epath.Path) -> dict[str, str]:
    """TensorStore's spec of a folder, local or gs://."""
    text = str(path)
    if text.startswith("gs://"):
        bucket, _, inside = text.removeprefix("gs://").partition("/")
        return {"driver": "gcs", "bucket": bucket, "path": f"{inside}/"}
    return {"driver": "file", "path": f"{text}/"}
