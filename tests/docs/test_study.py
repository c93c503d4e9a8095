"""The tables of docs/study.md are means of the accuracies in docs/figures/study.txt."""

from __future__ import annotations

import collections
import re
import statistics

import pytest
from results_text import DOCS, read_results, read_table

from distill.report.statistics import mean_interval
from distill.sweep import file, plan

CELL = r"(\d\.\d{3}) \+- (\d\.\d{3})"


def accuracies() -> dict[tuple[str, ...], list[float]]:
    """Those of the five seeds by labels, method, size and accuracy of the teacher."""
    found = collections.defaultdict(list)
    for row in read_results(DOCS / "figures" / "study.txt"):
        key = row["labels"], row["method"], row["size"], row["accuracy of the teacher"]
        found[key].append(float(row["accuracy"]))
    return found


def by_labels(*methods: str):
    return lambda name: [(name, method, "", "") for method in methods]


SIZES = {"38,560": "half the width", "132,160": "", "485,248": "twice the width"}
SECTIONS = {
    "Labels": by_labels("finetune", "finetune, longer", "finetune, stronger", "step_by_step"),
    "Rationales": by_labels(
        "step_by_step", "shuffled rationales", "random rationales", "inputs as rationales"
    ),
    "Label weight": by_labels(
        "label weight 0.1", "step_by_step", "label weight 0.5", "label weight 0.8"
    ),
    "Noise of the teacher": lambda name: [
        ("1,000", method, "", name) for method in ("distill_labels", "step_by_step")
    ],
    "Size of the student": lambda name: [
        ("500", method, SIZES[name], "") for method in ("finetune", "step_by_step")
    ],
}


@pytest.mark.parametrize("section", SECTIONS)
def test_tables_are_those_of_the_runs(section):
    runs = accuracies()
    rows = read_table(DOCS / "study.md", section)
    assert len(rows) >= 2
    for name, *cells in rows:
        for key, cell in zip(SECTIONS[section](name), cells, strict=True):
            mean, spread = map(float, re.fullmatch(CELL, cell).groups())
            assert len(runs[key]) == 5, key
            assert mean == pytest.approx(statistics.fmean(runs[key]), abs=6e-4), key
            assert spread == pytest.approx(statistics.stdev(runs[key]), abs=6e-4), key


def test_the_table_of_two_teachers_is_that_of_the_runs():
    runs = collections.defaultdict(list)
    for row in read_results(DOCS / "figures" / "study_teachers.txt"):
        runs[row["accuracy of the teacher"]].append(float(row["accuracy"]))
    rows = read_table(DOCS / "study.md", "Two teachers")
    assert {key for row in rows for key in (row[0], f"[{row[0]}, {row[0]}]")} == {*runs}
    for name, *cells in rows:
        for key, cell in zip((name, f"[{name}, {name}]"), cells, strict=True):
            mean, spread = map(float, re.fullmatch(CELL, cell).groups())
            assert len(runs[key]) == 5, key
            assert mean == pytest.approx(statistics.fmean(runs[key]), abs=6e-4), key
            assert spread == pytest.approx(statistics.stdev(runs[key]), abs=6e-4), key


def test_the_table_of_esnli_is_that_of_the_runs():
    runs = collections.defaultdict(list)
    for row in read_results(DOCS / "figures" / "study_esnli.txt"):
        runs[row["weight"], row["rationales"]].append(float(row["accuracy"]))
    rows = read_table(DOCS / "study.md", "e-SNLI")
    assert {(row[0], kind) for row in rows for kind in ("PaLM's", "shuffled")} == {*runs}
    for weight, *cells in rows:
        for kind, cell in zip(("PaLM's", "shuffled"), cells, strict=True):
            mean, spread = map(float, re.fullmatch(CELL, cell).groups())
            found = runs[weight, kind]
            assert len(found) == 3, (weight, kind)
            assert mean == pytest.approx(statistics.fmean(found), abs=6e-4)
            assert spread == pytest.approx(statistics.stdev(found), abs=6e-4)


def test_the_intervals_of_esnli_follow_from_the_runs():
    runs = {
        (row["rationales"], row["weight"], row["seed"]): float(row["accuracy"])
        for row in read_results(DOCS / "figures" / "study_esnli.txt")
    }
    page = (DOCS / "study.md").read_text().partition("## e-SNLI\n")[2]
    for one, other in (
        (("PaLM's", "0.5"), ("shuffled", "0.5")),
        (("PaLM's", "0.3"), ("shuffled", "0.3")),
        (("PaLM's", "0.3"), ("PaLM's", "0.5")),
    ):
        found = mean_interval([runs[*one, seed] - runs[*other, seed] for seed in "123"])
        printed = re.findall(r"([+-]0\.\d{3})\s+\[(-?0\.\d{3}), (-?0\.\d{3})\]", page)
        expected = found.mean, found.low, found.high
        # the accuracies of the file are rounded to 0.001
        assert any(
            all(abs(float(a) - b) < 3e-3 for a, b in zip(cells, expected, strict=True))
            for cells in printed
        ), expected


def test_every_run_is_in_a_table_once():
    assert sum(map(len, accuracies().values())) == 185


def test_the_files_plan_the_runs_of_the_tables():
    planned = collections.Counter()
    for name in ("labels", "rationales", "weights", "noise", "size"):
        for run in plan.make_plan(file.read_sweep(f"gin/sweeps/study_{name}.toml")):
            axes = {key: str(value) for key, value in run.axes.items()}
            key = axes["method"], axes.get("size", ""), axes.get("accuracy of the teacher", "")
            planned[(f"{int(axes['labels']):,}", *key)] += 1
    assert planned == {key: len(seeds) for key, seeds in accuracies().items()}
