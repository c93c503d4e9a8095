"""How far the probabilities of a student can be trusted: reliability, and risk against coverage."""

from __future__ import annotations

import dataclasses

import numpy as np

BINS = 10


@dataclasses.dataclass(frozen=True)
class Bin:
    """Answers whose probability is in an interval.

    Attributes:
      low, high: the interval; `high` belongs to it, and 0 to the first one.
      count: number of answers.
      confidence: their mean probability; None without answers.
      accuracy: share of them that is correct; None without answers.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability_bins(
    probabilities_N: np.ndarray, correct_N: np.ndarray, bins: int = BINS
) -> list[Bin]:
    """Accuracy of answers by their probability, in intervals of equal width.

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599.

    Args:
      probabilities_N: of the answers, from 0 to 1.
      correct_N: whether each is correct.
      bins: number of intervals.
    """
    edges = np.linspace(0, 1, bins + 1)
    place_N = np.clip(np.searchsorted(edges, probabilities_N, side="left") - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = place_N == index
        count = int(inside.sum())
        found.append(
            Bin(
                float(edges[index]),
                float(edges[index + 1]),
                count,
                float(probabilities_N[inside].mean()) if count else None,
                float(correct_N[inside].mean()) if count else None,
            )
        )
    return found


def expected_calibration_error(bins: list[Bin]) -> float:
    """Mean distance of probability and accuracy over bins, weighted by their answers (ECE).

    Raises:
      ValueError: no answers.
    """
    total = sum(each.count for each in bins)
    if not total:
        raise ValueError("expected at least one answer")
    gaps = (
        each.count * abs(each.confidence - each.accuracy)
        for each in bins
        if each.confidence is not None and each.accuracy is not None
    )
    return sum(gaps) / total


def risk_coverage(
    probabilities_N: np.ndarray, correct_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The share of wrong answers if only the most probable ones are given.

    Answers of equal probability are given together, so that their order does not matter.

    Source: El-Yaniv and Wiener 2010, "On the foundations of noise-free selective classification",
    Journal of Machine Learning Research 11.

    Args:
      probabilities_N: of N >= 1 answers.
      correct_N: whether each is correct.

    Returns:
      Coverage (share of rows that are answered, rising to 1) and risk (share of these answers that
      is wrong), one of each for every different probability.
    """
    order = np.argsort(-probabilities_N, kind="stable")
    sorted_N = probabilities_N[order]
    wrong_N = np.cumsum(~correct_N[order].astype(bool))
    last = np.append(np.flatnonzero(np.diff(sorted_N)), len(sorted_N) - 1)
    given = last + 1
    return given / len(sorted_N), wrong_N[last] / given


def area_under_risk(coverage: np.ndarray, risk: np.ndarray) -> float:
    """Mean risk over coverages (AURC): lower is better, for equal accuracy too.

    Args:
      coverage, risk: of `risk_coverage`; the risk of a coverage between two is that of the larger.
    """
    return float((np.diff(coverage, prepend=0.0) * risk).sum())
