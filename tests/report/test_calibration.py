"""Calibration: computed by hand, and of probabilities that are true."""

import math

import numpy as np
import pytest

from distill.report import calibration


def test_bins_are_those_computed_by_hand():
    bins = calibration.reliability_bins(
        np.array([0.5, 0.55, 0.6, 0.95, 1.0]), np.array([0, 1, 1, 1, 0])
    )
    assert [each.count for each in bins] == [0, 0, 0, 0, 1, 2, 0, 0, 0, 2]
    assert bins[5].accuracy == 1 and bins[5].confidence == pytest.approx(0.575)
    expected = (1 * 0.5 + 2 * (1 - 0.575) + 2 * (0.975 - 0.5)) / 5
    assert calibration.expected_calibration_error(bins) == pytest.approx(expected)
    with pytest.raises(ValueError, match="at least one"):
        calibration.expected_calibration_error(bins[:1])


def test_true_probabilities_are_calibrated():
    """Each bin's accuracy is within 4 standard errors of its mean probability."""
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=20_000)
    correct = rng.uniform(size=20_000) < probabilities
    for each in calibration.reliability_bins(probabilities, correct):
        error = math.sqrt(each.confidence * (1 - each.confidence) / each.count)
        assert abs(each.accuracy - each.confidence) < 4 * error
    overconfident = calibration.reliability_bins(np.sqrt(probabilities), correct)
    # E sqrt(u) - E u = 2/3 - 1/2
    assert calibration.expected_calibration_error(overconfident) == pytest.approx(1 / 6, abs=0.02)


def test_risk_rises_with_coverage_and_ties_are_given_together():
    probabilities = np.array([0.9, 0.5, 0.5, 0.8, 0.5])
    correct = np.array([True, False, True, True, True])
    coverage, risk = calibration.risk_coverage(probabilities, correct)
    assert coverage.tolist() == [0.2, 0.4, 1.0] and risk.tolist() == pytest.approx([0, 0, 0.2])
    order = np.random.default_rng(0).permutation(5)
    again = calibration.risk_coverage(probabilities[order], correct[order])
    assert again[1].tolist() == risk.tolist()
    assert calibration.area_under_risk(coverage, risk) == pytest.approx(0.6 * 0.2)


def test_useless_probabilities_have_the_mean_risk():
    correct = np.arange(1000) % 4 > 0
    coverage, risk = calibration.risk_coverage(np.full(1000, 0.3), correct)
    assert calibration.area_under_risk(coverage, risk) == pytest.approx(0.25)
