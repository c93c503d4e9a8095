"""The demo's table, findings and page, from invented results."""

import dataclasses
import html.parser
import itertools
import os
import pathlib
import xml.etree.ElementTree

import pytest

from distill.sweep import charts, demo, report, results
from distill.sweep.findings import findings


def _result(accuracy, seed, **changes):
    fixed = {
        "policy": "natural",
        "labels": 500,
        "steps": 10,
        "parameters": 7,
        "method": "finetune",
        "interval": [accuracy - 0.1, accuracy + 0.1],
        "seconds": 1.0,
    }
    return fixed | changes | {"accuracy": accuracy, "seed": seed}


def test_groups_have_mean_and_sample_spread():
    g = results.group("a", [_result(0.5, 1), _result(0.7, 2), _result(0.9, 3)])
    assert g.mean == pytest.approx(0.7) and g.spread == pytest.approx(0.2)
    assert "0.700 +- 0.200" in results.results_table([g])


def test_runs_of_different_settings_are_no_group():
    with pytest.raises(ValueError, match="differ only in their seed"):
        results.group("a", [_result(0.5, 1), _result(0.5, 2, labels=250)])


def _groups():
    return [
        results.group("finetune", [_result(0.6, 1)]),
        results.group("finetune", [_result(0.5, 1, labels=250)]),
        results.group("step_by_step", [_result(0.7, 1)]),
        results.group("step_by_step, noisy teacher", [_result(0.8, 1, policy="hard")]),
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
    groups = [results.group(n, [_result(a, 1)]) for n, a in (("finetune", 0.6), ("b", 0.7))]
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


@pytest.mark.parametrize(("kind", "runs"), [("smoke", 2), ("demo", 24), ("full", 60)])
def test_every_row_is_an_experiment(kind, runs):
    from distill.config import files, macros

    rows, seeds = demo.rows_of(kind)
    assert len(rows) * len(seeds) == runs
    folders = {row.run_dir(pathlib.Path("out"), seed) for row in rows for seed in seeds}
    assert len(folders) == runs
    for row in rows:
        macros.read_gin(
            [files.resolve_path(f"gin/experiments/{row.experiment}.gin")], row.overrides
        )


def test_the_demo_trains_on_the_file_that_it_annotated(tmp_path, capsys):
    """Rows, their order and the vocabulary are those of the embedded tickets."""
    from distill.config.resolve import resolve
    from distill.data.datasets import load_splits, vocabulary_words

    rows, _ = demo.rows_of("demo")
    noisy = [row for row in rows if row.annotated]
    assert [row.name.partition(",")[0] for row in noisy] == ["distill_labels", "step_by_step"]
    accuracy = demo.annotate_noisy_runs(noisy[0], (11,), tmp_path)
    shown = capsys.readouterr().out
    train, test = demo.annotated_files(tmp_path, 11)
    assert f"2000 rows, teacher correct on {accuracy:.1%}" in shown and 0.84 < accuracy < 0.89
    assert f"--output={train}" in shown
    for row in noisy:
        spec = resolve(*row.configuration(tmp_path, 11)).run.data
        embedded = resolve([f"gin/experiments/{row.experiment}.gin"], ("SEED=11",)).run.data
        assert (spec.dataset, spec.option("train_file")) == ("jsonl", str(train))
        assert spec.option("test_file") == str(test)
        changed = {"dataset": embedded.dataset, "dataset_options": embedded.dataset_options}
        assert dataclasses.replace(spec, **changed) == embedded
        ours, theirs = load_splits(spec), load_splits(embedded)
        for split in ("train", "validation", "test"):
            assert list(ours[split]) == list(theirs[split])
        assert vocabulary_words(spec) == vocabulary_words(embedded)
        assert row.policy == "hard"


def test_the_other_rows_train_on_generated_tickets(tmp_path):
    for row in demo.rows_of("full")[0]:
        gin_files, overrides = row.configuration(tmp_path, 11)
        if not row.annotated:
            assert gin_files == [f"gin/experiments/{row.experiment}.gin"]
            assert overrides == (*row.overrides, "SEED=11")
            assert f"POLICY={row.policy}" in overrides


def test_the_newest_line_of_a_running_log_is_shown(tmp_path):
    (row, _), seeds = demo.rows_of("smoke")
    log = pathlib.Path(f"{row.run_dir(tmp_path, seeds[0])}.log")
    assert demo._newest_line(row, seeds[0], tmp_path, 0) is None
    log.parent.mkdir(parents=True)
    log.write_text("a\ntraining: 3/9 steps\n")
    shown = demo._newest_line(row, seeds[0], tmp_path, 0)
    assert shown == "finetune NUM_LABELS=500 seed 11: training: 3/9 steps"
    os.utime(log, (1000, 1000))  # of a demo that was stopped
    assert demo._newest_line(row, seeds[0], tmp_path, 2000) is None
