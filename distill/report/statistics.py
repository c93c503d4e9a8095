"""Intervals and tests for the accuracies of methods, from few seeds and many test rows.

All functions are pure. `differences` are those of two methods row by row: 1 where only the second
one is correct, -1 where only the first one is, 0 where they agree in being right or wrong.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
DRAWS = 2000  # of the bootstrap


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over seeds.

    Attributes:
      mean: of the values.
      low, high: its t interval; None for a single value, which has no spread.
      n: number of values.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Mean:
    """The mean of independent values and its t interval.

    The interval holds exactly for normal values. Source: Student 1908, "The probable error of a
    mean", Biometrika 6.

    Args:
      values: one a seed, at least one.
      confidence: of the interval.

    Raises:
      ValueError: no values.
    """
    n = len(values)
    if not n:
        raise ValueError("expected at least one value")
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(mean, None, None, n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * stats.sem(values)
    return Mean(mean, float(mean - half), float(mean + half), n)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value of McNemar's test.

    If two students are equally accurate, each row on which exactly one of them is correct is as
    likely to favor the one as the other. It speaks of these two students, not of other seeds.

    Source: Q. McNemar 1947, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12.

    Args:
      only_first: rows that only the first student answers correctly.
      only_second: rows that only the second one does.
    """
    rows = only_first + only_second
    return float(stats.binomtest(only_first, rows).pvalue) if rows else 1.0


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much more accurate the second of two methods is.

    Attributes:
      mean: over rows and seeds.
      low, high: 95% interval.
      p: two-sided p-value of no difference.
      df: degrees of freedom of the t distribution.
      error: standard error of `mean`.
    """

    mean: float
    low: float
    high: float
    p: float
    df: float
    error: float


def crossed_test(differences_SxR: np.ndarray) -> Difference:
    """A t test of methods whose seeds answer the same test rows; seeds and rows are both random.

    The variance of the mean is that of an analysis of variance with two crossed random effects,
    (MS_rows + max(MS_seeds - MS_rest, 0)) / (S R), never less than MS_seeds / (S R). Its degrees of
    freedom are those of Hillis, which are S - 1 where seeds make all the variance. They are taken
    with MS_seeds of at least MS_rest, which is what it is where seeds make no difference: two or
    three seeds that agree by chance must not give certainty.

    Source: S. L. Hillis 2007, "A comparison of denominator degrees of freedom methods for multiple
    observer ROC analysis", Statistics in Medicine 26 (seeds are its readers, rows its cases).

    Args:
      differences_SxR: for S >= 2 seeds and R >= 2 rows.

    Raises:
      ValueError: fewer seeds or rows.
    """
    S, R = differences_SxR.shape
    if S < 2 or R < 2:
        raise ValueError(f"got {S} seeds and {R} rows, expected at least 2 of each")
    d_SxR = differences_SxR.astype(np.float64)
    mean, by_seed_S, by_row_R = d_SxR.mean(), d_SxR.mean(axis=1), d_SxR.mean(axis=0)
    ms_seeds = R * by_seed_S.var(ddof=1)
    ms_rows = S * by_row_R.var(ddof=1)
    rest_SxR = d_SxR - by_seed_S[:, None] - by_row_R[None, :] + mean
    ms_rest = (rest_SxR**2).sum() / ((S - 1) * (R - 1))
    total = max(ms_rows + max(ms_seeds - ms_rest, 0.0), ms_seeds)
    seeds = max(ms_seeds, ms_rest)
    df = (S - 1) * (total / seeds) ** 2 if seeds > 0 else float(R - 1)
    return _t_test(float(mean), total / (S * R), min(df, float(R - 1) * S), R)


def nested_test(differences: Sequence[np.ndarray]) -> Difference:
    """A t test of methods whose seeds have test rows of their own, which both methods answer.

    It is Student's paired test of the seeds' accuracies. The variance is at least that of the
    rows, so that seeds that agree by chance do not give certainty.

    Args:
      differences: of S >= 2 seeds, each [rows of the seed].

    Raises:
      ValueError: fewer seeds, or a seed without rows.
    """
    S = len(differences)
    if S < 2 or not all(len(each) for each in differences):
        raise ValueError(f"got {S} seeds, expected at least 2, each with rows")
    by_seed_S = np.array([each.mean() for each in differences])
    of_rows = sum(each.var() / len(each) for each in differences) / S**2
    variance = max(by_seed_S.var(ddof=1) / S, of_rows)
    rows = sum(map(len, differences))
    return _t_test(float(by_seed_S.mean()), float(variance), S - 1, rows)


def _t_test(mean: float, variance: float, df: float, rows: int) -> Difference:
    """The test of a mean with an estimated variance.

    Without any variance, all rows have the same difference; the p-value is then that of the sign
    of `rows` rows.
    """
    if variance <= 0:
        p = mcnemar_exact(0, rows) if mean else 1.0
        return Difference(mean, mean, mean, p, df, 0.0)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, df))
    return Difference(mean, mean - half, mean + half, p, df, error)


def crossed_bootstrap(
    differences_SxR: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The 95% percentile interval of the mean difference, over draws of seeds and of rows.

    A draw takes S - 1 seeds, so that the variance over seeds is unbiased (Rao and Wu 1988,
    "Resampling inference with complex survey data", JASA 83), and R rows, both with replacement
    (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1). With few seeds its
    ends are close to the extreme seeds and cover less than 95%; `crossed_test` decides.

    Args:
      differences_SxR: for S seeds and R rows.
      draws: their number.
      seed: of the random numbers.
    """
    S, R = differences_SxR.shape
    rng = np.random.default_rng(seed)
    # Rows with the same differences are exchangeable: the draws of each pattern are multinomial.
    patterns_PxS, counts_P = np.unique(differences_SxR.T, axis=0, return_counts=True)
    rows_DxP = rng.multinomial(R, counts_P / R, size=draws)
    taken = max(S - 1, 1)
    seeds_DxS = rng.multinomial(taken, np.full(S, 1 / S), size=draws)
    sums_DxS = rows_DxP @ patterns_PxS.astype(np.float64)
    return _percentiles((sums_DxS * seeds_DxS).sum(axis=1) / (taken * R))


def nested_bootstrap(
    differences: Sequence[np.ndarray], draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """As `crossed_bootstrap`, where each seed has test rows of its own, drawn within the seed.

    Args:
      differences: of S seeds, each [rows of the seed].
      draws: their number.
      seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    S = len(differences)
    taken = max(S - 1, 1)
    seeds_DxS = rng.multinomial(taken, np.full(S, 1 / S), size=draws)
    totals_D = np.zeros(draws)
    for index, each in enumerate(differences):
        values_P, counts_P = np.unique(each, return_counts=True)
        # One draw of rows for each time that the seed is taken, summed.
        rows_DxP = rng.multinomial(seeds_DxS[:, index] * len(each), counts_P / len(each))
        totals_D += rows_DxP @ values_P.astype(np.float64) / len(each)
    return _percentiles(totals_D / taken)


def _percentiles(means_D: np.ndarray) -> tuple[float, float]:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means_D, [outside, 1 - outside])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values that are corrected for their number, in the same order.

    Calling those below 0.05 significant is wrong about any of them with probability 0.05 at most.

    Source: S. Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6.

    Args:
      p_values: of all comparisons made.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def best_of_all(p_values: Sequence[float]) -> float:
    """The p-value of "the method with the highest mean is better than every other one".

    The claim holds if every one of its comparisons does, so the largest p-value counts. Each of m
    methods may be the highest by chance: if another is truly the best, at most m - 1 wrong ones can
    be above it, each with half of the two-sided p-value.

    Args:
      p_values: two-sided, of the highest method against each of the m - 1 others.

    Raises:
      ValueError: no other method.
    """
    if not p_values:
        raise ValueError("expected at least one other method")
    return min(1.0, max(p_values) * max(1.0, len(p_values) / 2))
