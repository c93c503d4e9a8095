"""kill -9 in the middle of a job: no row lost, no stored answer asked for again."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "annotate_kill.py"
_SPEC = importlib.util.spec_from_file_location("annotate_kill", _FILE)
annotate_kill = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(annotate_kill)


@pytest.mark.parametrize(
    "kind", ["plain", *(pytest.param(k, marks=pytest.mark.slow) for k in ("stream", "n_refused"))]
)
def test_three_kills_leave_the_undisturbed_set(tmp_path, kind, samples=2):
    """Killed when 20, 90 and 160 answers are stored; the fourth process ends the job."""
    found = annotate_kill.measure(tmp_path, 100, samples, [20, 90, 160], 0.02, kind)
    assert found["kills"] == 3
    assert found["same_set"] and found["answers"] == 100 * samples
    assert found["asked_again_though_stored"] == 0
    assert found["rows_written"] == 100
