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
    """Tokens of a side of a task, EOS included, after truncation: mean, variance, maximum."""

    mean: float
    variance: float
    maximum: int

    @classmethod
    def of(cls, lengths: np.ndarray) -> Lengths:
        """Of N lengths, N > 0."""
        return cls(float(lengths.mean()), float(lengths.var()), int(lengths.max()))


@dataclasses.dataclass(frozen=True)
class TaskStatistics:
    """One task's training rows.

    Attributes:
      rows: rows that have a target for the task.
      share: of all training rows; under 1 where rationales are missing.
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
        by_task[task] = TaskStatistics(
            rows=int(has_target.sum()),
            share=float(has_target.mean()),
            inputs=Lengths.of(lengths["inputs"][has_target]),
            targets=Lengths.of(lengths["targets"][has_target]),
        )
    return by_task
