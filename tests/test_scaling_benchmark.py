"""benchmarks/scaling.py: Young's optimum, and the tables of reports."""

import argparse

import pytest

from benchmarks import scaling

OPTIONS = argparse.Namespace(
    bandwidth=2.0, bucket_bandwidth=8.0, mean_hours=[1.0], restart_minutes=10.0, pairs_per_core=100
)


def report(chips, pairs, seconds):
    return {
        "case": ["xxl", "v5p", "v5p_slice", pairs, 1, None],
        "chips": chips,
        "batch": {"rows": 2 * pairs},
        "peak_bytes_per_chip": 2**31,
        "step_seconds_bound": seconds,
        "estimate": False,
        "bound_by": "compute",
        "bytes_per_chip": {"parameters": 40e9 / chips, "optimizer": 80e9 / chips},
    }


@pytest.mark.parametrize(("save", "mean"), [(8.0, 3600.0), (0.5, 86_400.0)])
def test_no_other_period_loses_less(save, mean):
    best = scaling.optimum(save, mean)
    least = scaling.lost_share(best, save, mean, 60)
    for factor in (0.5, 0.9, 1.1, 2.0):
        assert scaling.lost_share(factor * best, save, mean, 60) > least


def test_hosts_share_the_write_of_a_checkpoint_until_the_bucket_is_the_limit():
    # 120 GB at 2 GB/s a host and 8 GB/s in all
    (two,) = scaling.loss_rows(report(8, 16, 0.5), OPTIONS)
    (four,) = scaling.loss_rows(report(16, 16, 0.5), OPTIONS)
    (many,) = scaling.loss_rows(report(64, 16, 0.5), OPTIONS)
    assert [row[3] for row in (two, four, many)] == ["30.0", "15.0", "15.0"]
    # every host reads 40 GB of parameters
    assert [row[4] for row in (two, four, many)] == ["20", "20", "80"]


def test_hosts_need_all_pairs_of_a_batch():
    row = scaling.step_row(report(64, 128, 0.5), 100)
    assert row[:3] == ["64", "128", "4"] and row[-2:] == ["256", "2.56"]
