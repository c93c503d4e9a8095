"""Digests of texts compared with each other, a part of them at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import numpy as np

_PARTS = 16  # comparing sorts copies: those of one part are in memory at once


def as_numbers(digests: array) -> np.ndarray:
    """64-bit digests [N] as an array of numpy, not copied."""
    return np.frombuffer(digests, np.uint64) if digests else np.zeros(0, np.uint64)


def parts(digests: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of the digests [N] by their last bits: equal ones are in one part."""
    low = np.empty(len(digests), np.uint8)
    np.bitwise_and(digests, np.uint64(_PARTS - 1), out=low, casting="unsafe")
    for part in range(_PARTS):
        yield np.flatnonzero(low == part)


def repeats(digests: np.ndarray) -> tuple[int, int]:
    """How many of the digests [N] occur more than once, and how many different ones there are."""
    repeated = different = 0
    for indices in parts(digests):
        counts = np.unique(digests[indices], return_counts=True)[1]
        repeated += int(counts[counts > 1].sum())
        different += len(counts)
    return repeated, different
