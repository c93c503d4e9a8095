"""Token statistics of each task's training rows, read off the lengths in the tokenized cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from distill.config.data import DataSpec
from distill.data.cache import TokenCache
from distill.data.ragged import FEATURES


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Tokens of a side of a task, EOS included, after truncation: mean, variance, maximum.

    The training rows of a row with several rationales count as much as one row.
    """

    mean: float
    variance: float
    maximum: int

    @classmethod
    def of(cls, lengths: np.ndarray, factors: np.ndarray | None = None) -> Lengths:
        """Of N lengths, N > 0, and how much each counts; None: the same."""
        mean = float(np.average(lengths, weights=factors))
        variance = float(np.average(np.square(lengths - mean), weights=factors))
        return cls(mean, variance, int(lengths.max()))


@dataclasses.dataclass(frozen=True)
class TaskStatistics:
    """One task's training rows.

    Attributes:
      rows: training rows that have a target for the task.
      share: of all rows; under 1 where rationales are missing.
      inputs, targets: lengths over those rows.
    """

    rows: int
    share: float
    inputs: Lengths
    targets: Lengths


def task_statistics(cache: TokenCache, spec: DataSpec) -> Mapping[str, TaskStatistics]:
    """Statistics of each task of `spec`, label first.

    The cache is keyed by a digest of data, vocabulary, lengths and prefixes, so these
    numbers are never those of other settings.
    """
    by_task = {}
    for task in spec.tasks:
        lengths = {
            feature: np.asarray(cache.tokens["train", task, feature].lengths)
            for feature in FEATURES
        }
        has_target = lengths["targets"] > 0
        factors_N = cache.row_factors(np.ones(len(has_target), bool))
        of_task = None if factors_N is None else factors_N[has_target]
        by_task[task] = TaskStatistics(
            rows=int(has_target.sum()),
            share=float(np.average(has_target, weights=factors_N)),
            inputs=Lengths.of(lengths["inputs"][has_target], of_task),
            targets=Lengths.of(lengths["targets"][has_target], of_task),
        )
    return by_task
