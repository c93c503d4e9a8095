"""A results folder and its report."""

import numpy as np
import pytest
from invented import write

from benchmarks import report_scale
from distill.report.build import build
from distill.report.groups import Planned
from distill.results import store


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """A results folder with failures, and its report."""
    pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")
    folder = write(
        tmp_path_factory.mktemp("results"),
        probabilities=np.linspace(0.5, 1, 200),
        teacher_accuracy=0.8,
        train_flops=1e12,
    )
    failure = {"axes": {"method": "finetune", "labels": 500}, "seed": 9, "attempt": 3}
    store.append(
        folder, report_scale.record("broken", status="failed", error="loss is NaN", **failure)
    )
    planned = [
        Planned("absent-seed1", "invented", {"method": "finetune", "labels": 900}, 1),
        Planned("finetune-250-seed1", "invented", {"method": "finetune", "labels": 250}, 1),
    ]
    told = build(folder, str(folder / "r.html"), str(folder / "r.md"), planned)
    return folder, told, (folder / "r.html").read_text(), (folder / "r.md").read_text(), planned
