"""Rows of several rationales: how many each row has, and how much its training rows count.

A row with m rationales becomes m training rows, each of which counts 1/m in every loss, so that the
losses are means over rows (docs/methods.md). A row without a rationale has m = 1.
Shape letters: S rows, N training rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import numpy as np

from distill.data.examples import Example


class Several(TypedDict):
    """What is told of rows of which some have several rationales.

    Attributes:
      rows: rows that are trained on, S.
      several: those of them that have several rationales.
      fewest, most: the smallest and the largest m.
    """

    rows: int
    several: int
    fewest: int
    most: int


def count_rationales(rows: Iterable[Example]) -> np.ndarray:
    """m of each row [S], int32: its number of rationales, and 1 without any."""
    return np.fromiter((1 + len(row.more_rationales) for row in rows), np.int32)


def describe(rationales_N: np.ndarray) -> Several:
    """The counts of rows from m of the row that each training row is of [N]."""
    sizes, counts = np.unique(rationales_N, return_counts=True)
    rows = counts // sizes
    return {
        "rows": int(rows.sum()),
        "several": int(rows[sizes > 1].sum()),
        "fewest": int(sizes[0]),
        "most": int(sizes[-1]),
    }


def differ(several: Several | None) -> bool:
    """Whether rows have different numbers of rationales, so that their training rows need
    weights."""
    return several is not None and several["fewest"] < several["most"]


def row_factors(rationales_N: np.ndarray, is_drawn_N: np.ndarray) -> np.ndarray:
    """The factor of each training row with which a uniform draw of them estimates a mean over rows.

    Args:
      rationales_N: m of the row that each training row is of.
      is_drawn_N: the training rows that are drawn from.

    Returns:
      (drawn training rows / their rows) / m [N], float64: 1 on average over those that are drawn.
    """
    share_N = 1.0 / rationales_N
    return np.asarray(share_N / share_N[is_drawn_N].mean())
