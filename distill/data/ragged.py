"""Sequences of different lengths: one array of tokens and the offsets between them."""

from __future__ import annotations

import dataclasses
import functools
from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

FEATURES = ("inputs", "targets")


@dataclasses.dataclass(frozen=True)
class Ragged:
    """N sequences of int32 tokens: `values` end to end, `offsets` [N + 1]."""

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int] | np.ndarray]) -> Ragged:
        """Joins sequences."""
        arrays = [np.asarray(sequence, np.int32) for sequence in sequences]
        offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, np.int32), *arrays]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of each sequence [N]."""
        return np.diff(self.offsets)


class RaggedWriter:
    """Writes sequences into growing files, `<name>` and `<name>.offsets`.

    Use as a context manager; the offsets are written at its end.
    """

    def __init__(self, folder: epath.Path, name: str) -> None:
        """Opens the files for N sequences that come in order."""
        self._path = folder / name
        self.offsets = array("q", [0])

    def __enter__(self) -> RaggedWriter:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        offsets = np.array(self.offsets, "<i8")
        offsets_path(self._path).write_bytes(offsets.tobytes())

    def add(self, tokens: np.ndarray) -> None:
        """The next sequence [T]."""
        self._file.write(np.asarray(tokens, "<i4").tobytes())
        self.offsets.append(self.offsets[-1] + len(tokens))

    def skip_to(self, index: int) -> None:
        """Sequences before the one of this index that are not there are empty.

        Raises:
          ValueError: that one was written already.
        """
        if index < len(self.offsets) - 1:
            raise ValueError(f"sequence {index} comes after {len(self.offsets) - 2}")
        for _ in range(index - len(self.offsets) + 1):
            self.offsets.append(self.offsets[-1])


def offsets_path(path: epath.Path) -> epath.Path:
    """The file of the offsets of `path`."""
    return path.parent / f"{path.name}.offsets"
