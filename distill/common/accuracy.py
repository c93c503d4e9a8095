"""Accuracy, by exact match unless told otherwise, and how far a measured one can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from distill.errors import UserError

_Z95 = 1.96  # normal quantile of a 95% interval


def exact_match(predictions: Sequence[str], golds: Sequence[str]) -> np.ndarray:
    """Which predictions equal their gold label, blanks at both ends aside.

    Args:
      predictions: N texts.
      golds: N texts.

    Returns:
      Booleans [N].

    Raises:
      ValueError: the two differ in length.
    """
    pairs = zip(predictions, golds, strict=True)
    return np.array([matches_exactly(p, g) for p, g in pairs], dtype=bool)


def matches_exactly(prediction: str, gold: str) -> bool:
    """Whether one prediction equals its gold label, blanks at both ends aside."""
    return prediction.strip() == gold.strip()


def wilson_interval(correct: int, n: int) -> tuple[float, float]:
    """The 95% interval of true accuracies under which `correct` of `n` is no surprise.

    It solves |p - correct/n| = 1.96 * sqrt(p (1 - p) / n) for p, so that it stays within
    [0, 1] and does not shrink to a point at 0 or n hits. It speaks of the draw of the
    test rows only, not of training seeds.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association 22.

    Args:
      correct: hits, from 0 to n.
      n: test rows.

    Returns:
      (low, high), 0 <= low <= correct/n <= high <= 1.

    Raises:
      UserError: n is 0, or correct is not within 0 to n.
    """
    if n < 1:
        raise UserError(f"got {n} test rows, expected at least 1 for an interval")
    if not 0 <= correct <= n:
        raise UserError(f"got {correct} hits of {n} test rows, expected 0 to {n}")
    p, z = correct / n, _Z95
    shrink = 1 / (1 + z * z / n)
    center = (p + z * z / (2 * n)) * shrink
    half = z * shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding may push a bound past p or past 0 and 1 by an ulp.
    return max(0.0, min(p, center - half)), min(1.0, max(p, center + half))
