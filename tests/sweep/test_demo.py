"""The demo's table, findings and page, from invented results."""

import dataclasses
import html.parser
import itertools
import xml.etree.ElementTree

import pytest

from benchmarks import report_scale
from distill.config import resolve
from distill.errors import UserError
from distill.results import store
from distill.sweep import charts, demo, file, plan, report, results
from distill.sweep.findings import findings


def _record(accuracy, seed, **changes):
    fixed = {
        "run": f"r{accuracy}-{seed}",
        "axes": {"method": "finetune"},
        "interval": (max(0.0, accuracy - 0.1), min(1.0, accuracy + 0.1)),
    }
    return report_scale.record(**(fixed | {"accuracy": accuracy, "seed": seed} | changes))


def test_groups_have_mean_and_sample_spread():
    g = results.group("a", "natural", [_record(0.5, 1), _record(0.7, 2), _record(0.9, 3)])
    assert g.mean == pytest.approx(0.7) and g.spread == pytest.approx(0.2)
    assert "0.700 +- 0.200" in results.results_table([g])


def test_runs_of_different_settings_are_no_group():
    with pytest.raises(ValueError, match="differ only in their seed"):
        results.group("a", "natural", [_record(0.5, 1), _record(0.5, 2, labels=250)])


def _groups():
    return [
        results.group("finetune", "natural", [_record(0.6, 1)]),
        results.group("finetune", "natural", [_record(0.5, 1, labels=250)]),
        results.group("step_by_step", "natural", [_record(0.7, 1)]),
        results.group("step_by_step, noisy teacher", "hard", [_record(0.8, 1)]),
    ]


def test_findings_say_which_way_the_numbers_fall():
    said = findings(_groups(), teacher=0.75, latency_ms=2.0)
    assert "+10.0 points" in said[0]
    assert "0.700; not every seed is above the teacher" in said[1]
    assert "every seed is above the teacher" in findings(_groups(), 0.65, 2.0)[1]


def test_the_page_is_well_formed_and_loads_nothing():
    page = report.page("a < b", _groups(), ["c & d"])
    assert "a &lt; b" in page and "c &amp; d" in page and "http" not in page
    assert "<script" not in page and "0.600" in page and "<polyline" in page
    html.parser.HTMLParser().feed(page)


def test_a_page_of_one_budget_has_a_picture_and_a_worked_ticket():
    groups = [
        results.group(n, "natural", [_record(a, 1)]) for n, a in (("finetune", 0.6), ("b", 0.7))
    ]
    worked = report.Worked("my fan < x", "b", "appliance & damage", "repair", "refund")
    page = report.page("smoke", groups, [], worked)
    assert page.count("<svg") == 1 and page.count("<rect") == 2
    for text in (
        "my fan &lt; x",
        "appliance &amp; damage",
        "repair (wrong: the gold label is refund)",
    ):
        assert text in page


def test_the_noisy_teacher_is_a_line_across_its_students():
    (lines, bars) = (
        charts.make_charts(_groups(), 0.75)[:1] + charts.make_charts(_groups(), 0.75)[2:]
    )
    assert "the teacher: 0.750" in bars.body and "dashes" in bars.body
    assert "polyline" in lines.body and "dashes" not in lines.body


def test_the_figure_is_xml_whose_labels_keep_their_colors():
    """Fills are classes alone: a rule for dark pages that colors all text cannot replace them."""
    figure = charts.figure(charts.make_charts(_groups(), 0.75))
    root = xml.etree.ElementTree.fromstring(figure)
    assert not [e for e in root.iter() if "fill" in e.attrib or "stroke" in e.attrib]
    named = [e.get("class") for e in root.iter() if "mark" in (e.get("class") or "")]
    assert {"mark c0", "mark c2"} <= set(named)
    style = root.find("{*}style").text
    light, dark = style.split("@media(prefers-color-scheme:dark)")
    for name in ("c0", "c1", "c2", "c3", "c4"):
        assert f".{name}{{--c:" in light and f".{name}{{--c:" in dark


@pytest.mark.parametrize("wanted", [(50, 50, 50), (0, 2, 300), (298, 299, 300), (10, 200, 205)])
def test_labels_of_lines_do_not_touch(wanted):
    places = charts.spread_labels(dict(zip("abc", wanted, strict=True)), 0, 300)
    heights = sorted(places.values())
    assert all(b - a >= 20 for a, b in itertools.pairwise(heights))
    assert heights[0] >= 0 and heights[-1] <= 300
    assert [places[name] for name in "abc"] == heights


def test_only_the_table_scrolls_sideways():
    page = report.page("a", _groups(), ["b"])
    assert "<div class=scroll><table>" in page and ".scroll { overflow-x: auto; }" in page
    assert ".chart{" in page and "max-width:100%" in page


@pytest.mark.parametrize(("name", "runs"), [("smoke", 2), ("demo", 24), ("demo_full", 60)])
def test_the_runs_of_the_demo_are_experiments(name, runs):
    """Each has the macros of the experiment that README's table names, apart from the budget."""
    planned = plan.make_plan(file.read_sweep(f"gin/sweeps/{name}.toml"))
    assert len(planned) == runs
    experiments = {
        ("finetune", "perfect"): "tickets_finetune",
        ("finetune, stronger", "perfect"): "tickets_finetune_strong",
        ("step_by_step", "perfect"): "tickets_step_by_step",
        ("distill_labels", "noisy"): "tickets_noisy_distill_labels",
        ("step_by_step", "noisy"): "tickets_noisy_step_by_step",
    }
    for run in planned:
        experiment = experiments[run.axes["method"], run.axes.get("teacher", "perfect")]
        overrides = [f"SEED={run.seed}", f"NUM_LABELS={run.axes.get('labels', 500)}"]
        overrides += [f"POLICY={run.axes['policy']}"] if "policy" in run.axes else []
        expected = resolve.resolve([f"gin/experiments/{experiment}.gin"], overrides)
        assert run.digest == plan.config_digest(expected), run.id


def test_the_noisy_teacher_errs_as_often_as_readme_says():
    """Its students train on the tickets' own teacher: what `distill annotate` would write."""
    from distill.data.datasets import load_splits
    from distill.data.examples import teacher_accuracy

    runs = plan.make_plan(file.read_sweep("gin/sweeps/demo.toml"))
    accuracies = []
    for run in runs:
        if run.axes["teacher"] == "noisy" and run.axes["method"] == "step_by_step":
            splits = load_splits(run.resolved.run.data)
            accuracies.append(teacher_accuracy([*splits.train, *splits.validation]))
    assert [round(a, 3) for a in accuracies] == [0.861, 0.870, 0.864]


def test_rows_come_from_records_in_the_order_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "policy_of", lambda record, out: record.axes["policy"])
    axes = [
        ("hard", "noisy", "step_by_step", 2000),
        ("natural", "perfect", "step_by_step", 500),
        ("natural", "perfect", "finetune", 500),
        ("hard", "perfect", "finetune", 500),
        ("hard", "noisy", "distill_labels", 2000),
        ("natural", "perfect", "step_by_step", 250),
    ]
    for number, (policy, teacher, method, labels) in enumerate(axes):
        for seed in (12, 11):
            named = {"policy": policy, "teacher": teacher, "method": method}
            right = {11: 0.8, 12: 0.9}[seed] if teacher == "noisy" else 1.0
            record = _record(
                0.5, seed, run=f"{number}-{seed}", axes=named, labels=labels, teacher_accuracy=right
            )
            store.append(tmp_path, record)
    rows = demo.read_groups(tmp_path)
    assert [(g.name, g.policy, g.labels) for g, _ in rows] == [
        ("step_by_step", "natural", 250),
        ("finetune", "natural", 500),
        ("step_by_step", "natural", 500),
        ("finetune", "hard", 500),
        ("distill_labels, noisy teacher", "hard", 2000),
        ("step_by_step, noisy teacher", "hard", 2000),
    ]
    assert all(g.seeds == (11, 12) for g, _ in rows)
    assert demo.teacher_accuracy(rows) == pytest.approx(0.85)
    failed = dataclasses.replace(
        _record(0.5, 1), run="x", status="failed", accuracy=None, error="no rows"
    )
    store.append(tmp_path, failed)
    with pytest.raises(UserError, match="x failed: no rows"):
        demo.read_groups(tmp_path)
