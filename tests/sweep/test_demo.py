"""The demo's table, findings and page, from invented results."""

import html.parser
import pathlib

import pytest

from distill.sweep import demo, report, results


def _result(accuracy, seed, **changes):
    fixed = {
        "policy": "natural", "labels": 500, "steps": 10, "parameters": 7, "method": "finetune",
        "interval": [accuracy - 0.1, accuracy + 0.1], "seconds": 1.0,
    }  # fmt: skip
    return fixed | changes | {"accuracy": accuracy, "seed": seed}


def test_groups_have_mean_and_sample_spread():
    g = results.group("a", [_result(0.5, 1), _result(0.7, 2), _result(0.9, 3)])
    assert g.mean == pytest.approx(0.7) and g.spread == pytest.approx(0.2)
    assert "0.700 +- 0.200" in results.results_table([g])


def test_runs_of_different_settings_are_no_group():
    with pytest.raises(ValueError, match="differ in their seed alone"):
        results.group("a", [_result(0.5, 1), _result(0.5, 2, labels=250)])


def _groups():
    return [
        results.group("finetune", [_result(0.6, 1)]),
        results.group("finetune", [_result(0.5, 1, labels=250)]),
        results.group("step_by_step", [_result(0.7, 1)]),
        results.group("step_by_step, noisy teacher", [_result(0.8, 1, policy="hard")]),
    ]


def test_findings_say_which_way_the_numbers_fall():
    said = demo.findings(_groups(), teacher=0.75, latency_ms=2.0)
    assert "+10.0 points" in said[0]
    assert "0.700: not every seed is above it" in said[1]
    assert "every seed is above it" in demo.findings(_groups(), 0.65, 2.0)[1]


def test_the_page_is_well_formed_and_loads_nothing():
    page = report.page("a < b", _groups(), ["c & d"])
    assert "a &lt; b" in page and "c &amp; d" in page and "http" not in page
    assert "<script" not in page and "0.600" in page and "<polyline" in page
    html.parser.HTMLParser().feed(page)


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


def test_tickets_are_annotated_over_http(tmp_path, capsys):
    overrides = ("NUM_ROWS=40", "NUM_LABELS=40")
    row = demo.Row("noisy", "tickets_noisy_step_by_step", overrides)
    accuracy = demo.annotate_noisy_runs([row], (3, 4), tmp_path)
    assert 0.7 < accuracy < 1
    folder = tmp_path / "annotated"
    annotated = folder / "tickets_noisy_step_by_step-seed3.jsonl"
    assert '"label"' not in annotated.read_text() and annotated.read_text().count("\n") == 40
    assert len(list(folder.glob("*.store"))) == 2
    assert "40 answered" in capsys.readouterr().out
