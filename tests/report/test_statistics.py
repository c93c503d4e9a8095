"""Intervals and tests against scipy and statsmodels, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from distill.report import statistics as ours

TRIALS = 2000


def within(rate, expected, trials=TRIALS):
    """Whether a simulated rate is what chance allows: 4 standard errors, so 1 test in 16,000."""
    return abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / trials)


def correct(rng, seeds, rows, *, of_seed, of_row, noise, gain=0.0):
    """Differences [seeds, rows] of two methods whose answers share rows and differ in seeds."""
    common_R = rng.normal(0, 1, rows)
    answers = []
    for shift in (0.0, gain):
        scores_SxR = common_R + rng.normal(0, of_row, rows) + rng.normal(0, of_seed, (seeds, 1))
        answers.append(scores_SxR + rng.normal(0, noise, (seeds, rows)) + shift > 0)
    return answers[1].astype(np.int8) - answers[0].astype(np.int8)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_a_mean_has_scipys_t_interval(n):
    values = np.random.default_rng(n).normal(0.7, 0.1, n)
    found = ours.mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(values.mean()) and found.n == n


def test_one_value_has_no_interval():
    assert ours.mean_interval([0.5]) == ours.Mean(0.5, None, None, 1)
    with pytest.raises(ValueError, match="at least one"):
        ours.mean_interval([])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_of_a_mean_covers_95_percent(n):
    """Accuracies of seeds: a rate of the seed's own, and 1,000 test rows."""
    rng = np.random.default_rng(0)
    rates = rng.normal(0.7, 0.03, (TRIALS, n))
    means = [ours.mean_interval(values) for values in rng.binomial(1000, rates) / 1000]
    assert within(np.mean([m.low <= 0.7 <= m.high for m in means]), 0.95)


@pytest.mark.parametrize("pair", [(0, 0), (0, 5), (3, 3), (4, 11), (25, 9), (0, 1), (300, 250)])
def test_mcnemar_is_scipys_and_statsmodels(pair):
    p = ours.mcnemar_exact(*pair)
    expected = min(1.0, 2 * stats.binom.cdf(min(pair), sum(pair), 0.5))
    assert p == pytest.approx(expected) == pytest.approx(ours.mcnemar_exact(*pair[::-1]))
    tables = pytest.importorskip(
        "statsmodels.stats.contingency_tables", reason="statsmodels is not installed"
    )
    if sum(pair):
        table = [[7, pair[0]], [pair[1], 9]]
        assert p == pytest.approx(tables.mcnemar(table, exact=True).pvalue)


def test_holm_is_statsmodels():
    multitest = pytest.importorskip(
        "statsmodels.stats.multitest", reason="statsmodels is not installed"
    )
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 30):
        p_values = rng.beta(0.3, 3, size)
        p_values[size // 2 :: 3] = p_values[0]  # ties
        expected = multitest.multipletests(p_values, method="holm")[1]
        assert ours.holm(p_values.tolist()) == pytest.approx(expected)
    assert ours.holm([]) == []


def test_seeds_that_make_all_the_variance_give_the_paired_t_test():
    """All rows of a seed are alike, so that the seeds' means are all that varies."""
    by_seed = np.array([1, 1, 0, 1, 0, -1])
    found = ours.crossed_test(np.repeat(by_seed[:, None], 50, axis=1))
    expected = stats.ttest_1samp(by_seed, 0)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue) and found.df == pytest.approx(5)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_rows_that_make_all_the_variance_give_the_t_test_of_rows():
    """The seeds answer alike, so that more of them tell nothing more."""
    row = np.random.default_rng(0).integers(-1, 2, 400)
    found = ours.crossed_test(np.tile(row, (3, 1)))
    assert found.error == pytest.approx(stats.sem(row))
    assert found.p == pytest.approx(stats.ttest_1samp(row, 0).pvalue, abs=1e-3)


def test_rows_of_their_own_give_the_paired_t_test_of_the_seeds():
    rng = np.random.default_rng(0)
    rows = [rng.choice([-1, 0, 1], 500, p=[0.1, 0.9 - gain, gain]) for gain in (0.1, 0.3, 0.6)]
    found = ours.nested_test(rows)
    expected = stats.ttest_1samp([each.mean() for each in rows], 0)
    assert found.p == pytest.approx(expected.pvalue) and found.df == 2


def test_seeds_that_agree_by_chance_are_not_certain():
    """Two seeds with the same difference: Student's test alone would say p = 0."""
    rows = [np.array([1] * 6 + [-1] * 4 + [0] * 30), np.array([-1] * 4 + [1] * 6 + [0] * 30)]
    assert ours.nested_test(rows).p > 0.2
    assert ours.crossed_test(np.stack(rows)).p > 0.2


def test_differences_without_variance():
    same = ours.crossed_test(np.zeros((3, 20), np.int8))
    assert (same.mean, same.p, same.low, same.high) == (0, 1, 0, 0)
    all_better = ours.crossed_test(np.ones((3, 20), np.int8))
    assert all_better.mean == 1 and all_better.p == pytest.approx(2 * 0.5**20)


def test_too_few_seeds_are_refused():
    with pytest.raises(ValueError, match="1 seeds"):
        ours.crossed_test(np.zeros((1, 20)))
    with pytest.raises(ValueError, match="expected at least 2"):
        ours.nested_test([np.zeros(20)])
    with pytest.raises(ValueError, match="other method"):
        ours.best_of_all([])


@pytest.mark.parametrize(
    "spread",
    [
        {"of_seed": 0.2, "of_row": 0.3, "noise": 0.5},  # seeds make most of the variance
        {"of_seed": 0.05, "of_row": 0.3, "noise": 0.5},
        {"of_seed": 0.0, "of_row": 1.0, "noise": 0.1},  # rows do
    ],
)
def test_equal_methods_are_rarely_called_different(spread):
    """False positives of the test are 5% at most, up to 2% more with few seeds."""
    rng = np.random.default_rng(0)
    trials = TRIALS // 2
    p = [ours.crossed_test(correct(rng, 3, 300, **spread)).p for _ in range(trials)]
    limit = 0.07
    assert np.mean(np.array(p) < 0.05) < limit + 3 * math.sqrt(limit * (1 - limit) / trials)


def test_the_bootstrap_alone_calls_equal_methods_different_too_often():
    """With three seeds its interval is about their range, so that the test decides instead."""
    rng = np.random.default_rng(0)
    spread, trials, limit = {"of_seed": 0.2, "of_row": 0.3, "noise": 0.5}, 200, 0.07
    outside = 0
    for _ in range(trials):
        low, high = ours.crossed_bootstrap(correct(rng, 3, 1000, **spread), draws=300)
        outside += low > 0 or high < 0
    assert outside / trials > limit + 3 * math.sqrt(limit * (1 - limit) / trials)


def test_a_corrected_family_is_wrong_in_5_percent():
    """Six comparisons of equal methods: any is called significant in 5% of families."""
    rng = np.random.default_rng(0)
    families, spread = 150, {"of_seed": 0.1, "of_row": 0.3, "noise": 0.5}
    plain = wrong = 0
    for _ in range(families):
        p = [ours.crossed_test(correct(rng, 4, 200, **spread)).p for _ in range(6)]
        plain += min(p) < 0.05
        wrong += min(ours.holm(p)) < 0.05
    assert wrong / families < 0.05 + 3 * math.sqrt(0.05 * 0.95 / families)
    assert plain / families > 0.1  # what is corrected


def test_a_real_gain_is_found():
    rng = np.random.default_rng(0)
    spread = {"of_seed": 0.05, "of_row": 0.3, "noise": 0.5, "gain": 0.4}
    found = [ours.crossed_test(correct(rng, 4, 500, **spread)) for _ in range(100)]
    assert np.mean([each.p < 0.05 and each.mean > 0 for each in found]) > 0.95


@pytest.mark.parametrize("methods", [2, 3, 5])
def test_the_best_of_equal_methods_is_rarely_called_best(methods):
    """p-values of all pairs, from one score a method: a z test whose level is exact."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(TRIALS, methods))
    wrong = 0
    for each in scores:
        others = np.delete(each, each.argmax())
        p_values = 2 * stats.norm.sf((each.max() - others) / math.sqrt(2))
        wrong += ours.best_of_all(p_values.tolist()) < 0.05
    assert wrong / TRIALS < 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_the_bootstrap_is_scipys_where_rows_alone_vary():
    row = np.random.default_rng(1).integers(-1, 2, 300)
    expected = stats.bootstrap(
        (row,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    error = stats.sem(row)
    for low, high in (
        ours.crossed_bootstrap(np.tile(row, (3, 1)), draws=4000),
        ours.nested_bootstrap([row], draws=4000),
    ):
        assert low == pytest.approx(expected.low, abs=0.15 * error)
        assert high == pytest.approx(expected.high, abs=0.15 * error)


def test_the_bootstrap_has_the_standard_error_of_the_test():
    """2 * 1.96 standard errors are between its ends, if seeds and rows alone vary.

    Where each seed has rows of its own, the variance of these rows is within that of the seeds and
    is drawn once more: the interval is wider.
    """
    rng = np.random.default_rng(3)
    d_SxR = rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 1, (1, 200))
    test = ours.crossed_test(d_SxR)
    low, high = ours.crossed_bootstrap(d_SxR, draws=3000)
    assert (high - low) / (2 * 1.96) == pytest.approx(test.error, rel=0.05)
    own = [rng.normal(0.3 * rng.normal(), 1, 100) for _ in range(60)]
    low, high = ours.nested_bootstrap(own, draws=3000)
    assert (high - low) / (2 * 1.96) > ours.nested_test(own).error * 0.95


def test_the_same_seed_draws_the_same():
    d_SxR = correct(np.random.default_rng(0), 3, 50, of_seed=0.1, of_row=0.3, noise=0.5)
    first = ours.crossed_bootstrap(d_SxR, seed=1)
    assert first == ours.crossed_bootstrap(d_SxR, seed=1)
    assert ours.crossed_bootstrap(d_SxR, seed=2) != first
