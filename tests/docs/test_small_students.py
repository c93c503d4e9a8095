"""The tables of docs/paper_sweeps.md are means of the accuracies in docs/figures."""

from __future__ import annotations

import re
import statistics

import pytest
from results_text import DOCS, read_results, read_table

from distill.sweep import file, plan

NAMES = ["esnli_mini", "svamp_mini"]


@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_that_of_the_runs(name):
    found: dict[str, list[tuple[str, float]]] = {}
    for row in read_results(DOCS / "figures" / f"{name}.txt"):
        found.setdefault(row["method"], []).append((row["seed"], float(row["accuracy"])))
    runs = {method: [accuracy for _, accuracy in sorted(pairs)] for method, pairs in found.items()}
    table = {row[0]: row[1:] for row in read_table(DOCS / "paper_sweeps.md", f"`{name}`")}
    assert {*table} == {*runs}
    for method, (cell, *seeds) in table.items():
        assert [float(seed) for seed in seeds] == runs[method], method
        mean, spread = map(float, re.fullmatch(r"(\d\.\d{3}) \+- (\d\.\d{3})", cell).groups())
        assert mean == pytest.approx(statistics.fmean(runs[method]), abs=6e-4), method
        assert spread == pytest.approx(statistics.stdev(runs[method]), abs=6e-4), method


@pytest.mark.parametrize("name", NAMES)
def test_the_file_plans_the_runs_of_the_table(name):
    planned = [
        (str(run.axes["method"]), str(run.seed))
        for run in plan.make_plan(file.read_sweep(f"gin/sweeps/{name}.toml"))
    ]
    found = read_results(DOCS / "figures" / f"{name}.txt")
    assert sorted(planned) == sorted((row["method"], row["seed"]) for row in found)
