"""Devices, microbatches and packing change neither the pairs of a step nor its gradient."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from distill.config import resolve
from distill.errors import UserError
from distill.training.trainer import make_trainer

SCRIPT = pathlib.Path(__file__).with_name("invariance_matrix.py")
TOLERANCES = {"float32": 1e-6, "float64": 1e-12}


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.slow)])
def report(request, micro) -> dict:
    """One process for all cases; 64 pairs, so that most devices have sequences of their own."""
    overrides = (*micro, "BATCH_SIZE=64", "DROPOUT_RATE=0.0", "WEIGHTING='paired_batches'")
    flags = ["--all"] if request.param == "all" else []
    command = [sys.executable, str(SCRIPT), *flags, *overrides]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) | {"count": 3 * (4 + 3) + 1 if flags else 6}


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_gradient_is_that_of_one_device_and_a_sequence_a_row(report, dtype):
    """Largest error of a leaf, by norms; the reference is unpacked, so packing is tested too."""
    assert report[dtype]["kinds"] == [dtype]
    wrong = {
        str(case["case"]): case["error"]
        for case in report[dtype]["cases"]
        if not case["error"] <= TOLERANCES[dtype]
    }
    assert not wrong


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_same_pairs_are_consumed(report, dtype):
    found = report[dtype]
    assert {case["sequences"] for case in found["cases"]} == {found["alone"]}


def test_the_cases_differ_in_layout(report):
    cases = report["float64"]["cases"]
    assert len(cases) == report["count"]
    for case in cases:
        devices, model, parts, _ = case["case"]
        assert case["pieces"] == [model, devices // model]
        assert case["rows"] % (parts * devices // model) == 0


def test_float64_needs_jax_in_64_bits(micro):
    run = resolve.resolve(["tickets_step_by_step"], (*micro, "DTYPE='float64'")).run
    with pytest.raises(UserError, match=r"got DTYPE = 'float64'.*JAX_ENABLE_X64=1"):
        make_trainer(run, cache=None)
