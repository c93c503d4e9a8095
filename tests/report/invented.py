"""Invented results folders for the tests of reports."""

import json
import re

import numpy as np

from benchmarks import report_scale
from distill.report.groups import make_groups
from distill.report.runs import read_runs
from distill.results import store


def write(
    folder, gain=0.8, methods=("finetune", "step_by_step"), seeds=(1, 2, 3), rows=200, **more
):
    """Runs of methods, each better than the one before by `gain` (of a standard deviation)."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=rows)
    for labels in (250, 500):
        for place, method in enumerate(methods):
            for seed in seeds:
                scores = hard + rng.normal(0, 0.5, rows) + rng.normal(0, 0.03) + place * gain
                fields = {"axes": {"method": method, "labels": labels}, "method": method}
                report_scale.write_run(
                    folder,
                    f"{method}-{labels}-seed{seed}",
                    scores > 0,
                    **fields,
                    seed=seed,
                    labels=labels,
                    **more,
                )
    return folder


def grouped(folder, **settings):
    return make_groups(read_runs(folder, store.read(folder)), **settings)


def data_of(text):
    """The JSON of a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
