"""`distill report` on invented runs: order, marks, what is left out, bytes."""

import html
import json
import re
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from invented import data_of, grouped, write

from benchmarks import report_scale
from distill import cli
from distill.errors import UserError
from distill.report import plots
from distill.report.build import build, write_figure
from distill.report.comparisons import compare_all
from distill.results import store

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")


def test_what_failed_and_what_is_missing_comes_first(built):
    _, told, text, twin, _ = built
    assert (told["done"], told["failed"], told["missing"]) == (12, 1, 1)
    for content in (text, twin):
        places = [content.index(word) for word in ("loss is NaN", "absent-seed1", "Results")]
        assert places[:2] == sorted(places[:2])
        assert max(places[:2]) < content.index("Test accuracy: mean over seeds")
    assert "12 runs finished, 1 failed, 1 missing" in text
    missing = text[text.index("without a result") : text.index('id="results"')]
    assert "finetune-250-seed1" not in missing


def test_the_same_records_give_the_same_bytes(built):
    folder, _, text, twin, planned = built
    again = folder / "again.html"
    build(folder, str(again), str(folder / "again.md"), planned)
    assert again.read_text() == text and (folder / "again.md").read_text() == twin


def test_a_page_is_not_written_under_the_name_of_markdown(built, capsys):
    folder, *_ = built
    assert cli.main(["report", str(folder), f"--output={folder}/page.md"]) == 2
    said = capsys.readouterr().err
    assert "page.html; --markdown=" in said and not (folder / "page.md").exists()


def test_the_page_is_complete_and_loads_nothing(built):
    _, _, text, _, _ = built
    assert not re.search(r"""(src|href)=["'](?!#)|@import|url\((?!#)""", text)
    sections = re.findall(r'<section id="(\w+)"', text)
    expected = [
        "missing",
        "results",
        "comparisons",
        "beating",
        "curves",
        "training",
        "cost",
        "calibration",
    ]
    assert sections == [*expected, "confusion", "predictions", "provenance"]
    names = re.findall(r' id="([^"]+)"', text)
    assert len(names) == len({*names})
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
    assert {a or b for a, b in used} <= {*names}
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        root = ET.fromstring(svg)
        assert root.get("role") == "img" and root[0].text and "var(--ink)" in svg
        assert "#0102" not in svg


def test_predictions_are_those_of_the_files(built):
    folder, _, text, _, _ = built
    data = data_of(text)
    assert data["methods"] == ["finetune", "step_by_step"] and len(data["tests"]) == 1
    run = next(r for r in data["runs"] if (r["setting"], r["method"], r["seed"]) == (1, 1, 2))
    path = folder / "runs" / "step_by_step-500-seed2" / "predictions_test.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [data["labels"][place] for place in run["labels"]] == [x["prediction"] for x in lines]
    assert [c == "1" for c in run["correct"]] == [line["correct"] for line in lines]
    assert run["percent"][0] == 50 and data["tests"][0]["input"][5] == lines[5]["input"]


@pytest.mark.parametrize("gain", [0.0, 0.8, -0.8])
def test_marks_stand_only_where_the_corrected_test_says_so(tmp_path, gain):
    found = grouped(write(tmp_path, gain))
    comparisons = compare_all(found)
    assert comparisons.number == 2
    marks = [comparisons.mark(setting, "step_by_step") for setting in found.settings]
    assert marks == [np.sign(gain)] * 2
    winner = {0.8: "step_by_step", -0.8: "finetune"}.get(gain)
    assert comparisons.best == (dict.fromkeys(found.settings, winner) if winner else {})
    build(tmp_path, str(tmp_path / "r.html"))
    table = (tmp_path / "r.html").read_text()
    table = table[table.index('<h2 id="results-heading"') : table.index('id="comparisons"')]
    assert table.count("▲ better") == 2 * (gain > 0)
    assert table.count("▼ worse") == 2 * (gain < 0)
    assert len(re.findall(r"<strong>0", table)) == 2 * (gain != 0)


@pytest.mark.parametrize(("gain", "best"), [(0.9, "b"), (-0.9, "finetune")])
def test_the_best_of_three_beats_each_other_one(tmp_path, gain, best):
    found = grouped(write(tmp_path, gain, ("finetune", "a", "b"), seeds=(1, 2, 3, 4)))
    assert compare_all(found).best == dict.fromkeys(found.settings, best)


def test_of_two_equal_methods_above_the_first_none_is_the_best(tmp_path):
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    for method, gain in (("finetune", 0.0), ("a", 0.9), ("b", 0.92)):
        for seed in (1, 2, 3, 4):
            right = hard + rng.normal(0, 0.5, 200) + gain > 0
            axes = {"method": method}
            report_scale.write_run(tmp_path, f"{method}{seed}", right, axes=axes, seed=seed)
    comparisons = compare_all(grouped(tmp_path))
    assert [comparisons.mark((), method) for method in ("a", "b")] == [1, 1]
    assert comparisons.best == {} and comparisons.number == 3


def test_one_seed_and_other_rows_are_not_tested(tmp_path):
    write(tmp_path, seeds=(1,))
    comparisons = compare_all(grouped(tmp_path))
    assert comparisons.number == 0 and not comparisons.best
    (first, _) = comparisons.against_first.values()
    assert first.test is None and "two students" in first.note and len(first.mcnemar) == 1
    for seed in (1, 2):
        axes = {"method": "other", "labels": 250}
        texts = [f"another text {place}" for place in range(200)]
        right = [True] * 200
        report_scale.write_run(tmp_path, f"o{seed}", right, texts, axes=axes, seed=seed)
    other = compare_all(grouped(tmp_path)).against_first[(250,), "other"]
    assert "the test rows are not the same" in other.note and other.test is None


def test_seeds_with_rows_of_their_own_are_compared_within_seeds(tmp_path):
    rng = np.random.default_rng(0)
    for seed in (1, 2, 3):
        texts = [f"text {place} of seed {seed}" for place in range(100)]
        for method, rate in (("finetune", 0.5), ("step_by_step", 0.9)):
            right, axes = rng.uniform(size=100) < rate, {"method": method}
            report_scale.write_run(tmp_path, f"{method}{seed}", right, texts, axes=axes, seed=seed)
    (found,) = compare_all(grouped(tmp_path)).against_first.values()
    assert not found.shared and found.rows == 300 and found.seeds == (1, 2, 3) and found.mark == 1


def test_fields_that_tell_runs_apart_are_axes(tmp_path):
    for steps in (100, 200):
        fields = {"axes": {"method": "finetune"}, "seed": 1, "steps": steps}
        report_scale.write_run(tmp_path, f"a{steps}", [True, False], **fields)
    report_scale.write_run(tmp_path, "again", [True, False], **fields)
    found = grouped(tmp_path)
    assert found.axes == ("steps",) and found.settings == [(100,), (200,)]
    assert [record.run for record in found.repeated] == ["again"]
    build(tmp_path, str(tmp_path / "r.html"))
    assert "again: another run has the same axes" in (tmp_path / "r.html").read_text()


def test_files_that_do_not_fit_their_records_are_named(tmp_path):
    write(tmp_path)
    run = tmp_path / "runs" / "finetune-250-seed1"
    lines = (run / "predictions_test.jsonl").read_text().splitlines()
    (run / "predictions_test.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    (tmp_path / "runs" / "finetune-250-seed2" / "predictions_test.jsonl").unlink()
    (tmp_path / "runs" / "finetune-250-seed3" / "metrics.jsonl").write_text("{\n")
    outside = {"axes": {"method": "x", "labels": 250}, "folder": "../elsewhere"}
    done = {"accuracy": 0.5, "n_test": 2, "interval": (0.1, 0.9)}
    store.append(tmp_path, report_scale.record("outside", **outside, **done))
    build(tmp_path, str(tmp_path / "r.html"))
    text = html.unescape((tmp_path / "r.html").read_text())
    text = text[: text.index('<section id="results"')]
    assert "finetune-250-seed1: no comparison of its rows" in text and "has 199 rows" in text
    assert "finetune-250-seed2: no comparison" in text and "does not exist" in text
    assert "finetune-250-seed3: no training curve" in text
    assert "outside: its folder '../elsewhere' is outside of the results folder" in text


def test_printed_numbers_stand_beside_ours_and_are_marked(tmp_path):
    axes = {"method": "step_by_step"}
    more = {"axes": axes, "method": "step_by_step", "dataset": "svamp"}
    report_scale.write_run(tmp_path, "a", [True, False], **more)
    neox = {**more, "axes": {**axes, "teacher": "gpt-neox"}, "seed": 2}
    report_scale.write_run(tmp_path, "b", [True, True, True, False], **neox)
    # No row of the paper has the rationales of both teachers.
    for name, both in (
        ("c", {"overrides": ("RAW_TEACHER=['palm', 'gpt-neox']",)}),
        ("d", {"gin_files": ("svamp_mini_step_by_step", "gin/data/two_teachers.gin")}),
    ):
        axes = {"method": "step_by_step", "teacher": name}
        report_scale.write_run(tmp_path, name, [False], **{**more, "axes": axes, **both})
    build(tmp_path, str(tmp_path / "r.html"), str(tmp_path / "r.md"))
    twin = (tmp_path / "r.md").read_text()
    rows = [line for line in twin.splitlines() if line.startswith("| SVAMP")]
    assert "arXiv 2305.02301" in twin and "theirs, printed" in twin
    assert "65.50 | 50.00" in rows[3] and "63.00 | 75.00" in rows[2]
    assert not any("<br>" in row for row in rows)  # of further runs
    assert "62.63 | not run" in rows[0] and "e-SNLI" not in twin.replace("Hsieh", "")


def test_the_command_says_what_it_wrote(built, tmp_path, capsys):
    folder = built[0]
    output = tmp_path / "r.html"
    command = ["report", str(folder), f"--output={output}"]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "12 runs finished, 1 failed" in said.out and "r.html: 0." in said.out
    assert cli.main([*command, "--compare=labels", "--baseline=500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["failed"] == 1
    for flags, message in (
        (["--compare=label"], "--compare=label, expected an axis of the runs; closest: labels"),
        (["--baseline=step"], "--baseline=step, which is no value of the axis"),
    ):
        assert cli.main([*command, *flags]) == 2
        assert message in capsys.readouterr().err
    output.write_text("mine")
    assert cli.main(command) == 2
    assert "`distill report` did not write it" in capsys.readouterr().err
    assert output.read_text() == "mine"


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install .distill-step-by-step\[report\]"):
        plots.check_installed()


def test_a_figure_is_a_file_of_its_own(built, tmp_path):
    write_figure(built[0], tmp_path / "f.svg")
    root = ET.parse(tmp_path / "f.svg").getroot()
    assert root[0].tag.endswith("style") and "prefers-color-scheme" in root[0].text
    words = " ".join(root.itertext())
    assert "Accuracy by labels" in words and "step_by_step" in words and "teacher 0.800" in words


def test_the_command_knows_the_runs_of_the_sweep_files(tmp_path, capsys):
    write(tmp_path)
    (tmp_path / "sweep.toml").write_text(
        'name = "s"\ngin_files = ["gin/experiments/tickets_finetune.gin"]\nseeds = [1, 2]\n'
        '[macros]\nTRAIN_STEPS = 200\n[axes.labels]\nmacro = "NUM_LABELS"\nvalues = [250, 500]\n'
    )
    command = ["report", str(tmp_path), f"--output={tmp_path / 'r.html'}"]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert "12 runs finished, 0 failed, 4 missing" in said and "cannot be used" not in said
    page = tmp_path / "r.html"
    assert "<title>Results of " in page.read_text()
    with (tmp_path / "sweep.toml").open("r+") as file:
        file.write('title = "Few & many"\n' + (tmp_path / "sweep.toml").read_text())
    assert cli.main(command) == 0
    assert "<title>Few &amp; many</title>" in page.read_text() and capsys.readouterr()
    next(tmp_path.glob("runs/*/predictions_test.jsonl")).write_text("[1]")
    assert cli.main(command) == 0
    assert "\nfiles of 1 run cannot be used: see the start of the page\n" in capsys.readouterr().out
    (tmp_path / "sweep.toml").write_text("name = ")
    assert cli.main(command) == 0
    assert "0 failed\n" in capsys.readouterr().out
    text = html.unescape((tmp_path / "r.html").read_text())
    assert "Runs that have not ended are not known: " in text and "sweep.toml" in text
