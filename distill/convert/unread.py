"""Arrays that are read when they are used, so that few need be in memory at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from distill.student.blocks import LAYERS_AXIS

Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True)
class Unread:
    """An array that is made each time it is asked for; `np.asarray` makes it.

    Attributes:
      shape: its axes.
      dtype: its type.
      read: makes it.
      source: what it is read from; arrays of one source are best made one after the other.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    source: Hashable = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return self.size * self.dtype.itemsize

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The array."""
        return np.array(self.read(), dtype) if copy else np.asarray(self.read(), dtype)

    def __getitem__(self, index: tuple[slice, int]) -> Unread:
        """`[:, i]`, one layer of a stacked array."""
        shape = (*self.shape[:LAYERS_AXIS], *self.shape[LAYERS_AXIS + 1 :])
        return dataclasses.replace(self, shape=shape, read=lambda: self.read()[index])

    def reshape(self, shape: tuple[int, ...]) -> Unread:
        """The same numbers on other axes, one of which may be -1."""
        rest = self.size // -math.prod(shape) if -1 in shape else 0
        whole = tuple(rest if axis == -1 else axis for axis in shape)
        return dataclasses.replace(self, shape=whole, read=lambda: self.read().reshape(whole))

    def astype(self, dtype: np.dtype) -> Unread:
        """The same numbers in another type."""
        if dtype == self.dtype:
            return self
        return dataclasses.replace(
            self, dtype=np.dtype(dtype), read=lambda: self.read().astype(dtype)
        )


def in_memory(array: Any) -> Unread:
    """An array that is in memory, as one to write; one that is unread stays so."""
    if isinstance(array, Unread):
        return array
    whole = np.asarray(array)
    return Unread(whole.shape, whole.dtype, lambda: whole)


def stack(leaves: Sequence[Any]) -> Unread:
    """The layers of a stack as one array.

    Args:
      leaves: the same parameter of each layer, `Unread` or arrays.
    """
    first = leaves[0]
    shape = (*first.shape[:LAYERS_AXIS], len(leaves), *first.shape[LAYERS_AXIS:])

    def read() -> np.ndarray:
        stacked = np.empty(shape, first.dtype)
        for layer, leaf in enumerate(leaves):
            stacked[:, layer] = np.asarray(leaf)  # LAYERS_AXIS
        return stacked

    return Unread(shape, np.dtype(first.dtype), read, getattr(first, "source", None))


def by_source(values: Iterable[Value], leaf_of: Callable[[Value], Any]) -> list[Value]:
    """Values whose arrays have the same source one after the other, else in their order.

    Args:
      values: anything with an array.
      leaf_of: gives its array, `Unread` or not.
    """
    groups: dict[Hashable, list[Value]] = {}
    for value in values:
        groups.setdefault(getattr(leaf_of(value), "source", None), []).append(value)
    return [value for group in groups.values() for value in group]
