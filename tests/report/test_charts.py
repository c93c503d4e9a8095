"""Which plots a report has, and what it says of those that it leaves out."""

import pytest

from benchmarks import report_scale
from distill.report import charts, markdown, page, plots
from distill.report.blocks import Section
from distill.report.comparisons import compare_all
from distill.report.cost import Latencies
from distill.report.groups import make_groups
from distill.report.runs import Run
from distill.report.sections import Content, make_sections

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")

SIZES = {"220M": 247_577_856, "770M": 783_150_080}
METRICS = tuple({"step": step, "loss": 1.0} for step in (1, 2))


def _figure_8(datasets=("esnli", "anli1", "cqa", "svamp"), shares=(0.125, 0.25, 0.5, 0.8, 1.0)):
    """The runs of gin/sweeps/paper_figure_8.toml, with the axes in its order."""
    records = [
        report_scale.record(
            f"{dataset}-{size}-{share}",
            axes={"dataset": dataset, "size": size, "fraction": share, "method": "finetune"},
            dataset=dataset,
            parameters=SIZES[size],
            accuracy=0.5,
            interval=(0.4, 0.6),
            n_test=10,
        )
        for dataset in datasets
        for size in SIZES
        for share in shares
    ]
    return make_groups([Run(record, None, METRICS, ()) for record in records])


@pytest.mark.parametrize("datasets", [("esnli", "anli1", "cqa", "svamp"), ("esnli", "anli1")])
def test_every_axis_is_drawn(datasets):
    found = charts.accuracy(_figure_8(datasets))
    labels = [plot.x_label for plot in found.plots]
    sizes, shares = labels.count("parameters (size)"), labels.count("fraction")
    number = len(datasets)
    assert sizes + shares == len(labels) == charts.MOST
    assert shares == min(6, 2 * number) and labels == sorted(labels, reverse=True)
    assert found.omitted == 5 * number + 2 * number - charts.MOST
    for label in ("fraction", "parameters (size)"):
        titles = " ".join(plot.title for plot in found.plots if plot.x_label == label)
        assert all(f"dataset {name}" in titles for name in datasets)
    assert len({plot.title for plot in found.plots}) == len(labels)
    assert [*found.plots[0].names] == ["247.6M", "783.2M"]


def test_settings_side_by_side_are_not_left_out_either():
    runs = [run for cell in _figure_8().cells for run in cell.runs]
    alone = report_scale.record(
        "alone",
        axes={"dataset": "other", "size": "3B", "fraction": 0.3, "method": "finetune"},
        parameters=3,
        accuracy=0.5,
        interval=(0.4, 0.6),
    )
    found = charts.accuracy(make_groups([*runs, Run(alone, None, (), ())]))
    labels = [plot.x_label for plot in found.plots]
    assert len(labels) == charts.MOST and len({*labels}) == 3


def test_plots_that_are_left_out_say_where_their_numbers_are(monkeypatch):
    monkeypatch.setattr(plots, "draw", lambda *_: "<svg></svg>")  # which takes a while
    groups = _figure_8()
    runs = [run for cell in groups.cells for run in cell.runs]
    records = [run.record for run in runs]
    content = Content("t", records, runs, None, "", groups, compare_all(groups), Latencies({}))
    sections = {section.name: section for section in make_sections(content)}
    chosen = [Section(name, name, sections[name].blocks[1:]) for name in ("curves", "training")]
    text, _ = page.render("t", chosen, lambda room: None)
    assert "16 more plots left out: the table of results has their numbers" in text
    told = "no table has their numbers, which are in metrics.jsonl of each run"
    assert f"28 more plots left out: {told}" in text
    twin = markdown.render("t", chosen)
    assert "has 12 plots here and leaves out 16 more: the table of results" in twin
    assert f"has 12 plots here and leaves out 28 more: {told}" in twin
