"""Latency: one student of each setting is measured once, kept, and shown with its machine."""

import html
import json
import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import grouped, write

from benchmarks import report_scale
from distill import cli
from distill.report import charts, measure
from distill.report.build import build
from distill.results import latency, store

pytest.importorskip("matplotlib", reason="matplotlib (extra report) is not installed")

HINT, CAPTION = "Latency is not measured", "Milliseconds to decode the label of a row"
HOSTILE = "<script>alert(1)</script>&`|"


def _latency(run, median=2.0, **changes):
    fields = {
        "run": run,
        "median_ms": median,
        "p10_ms": median / 2,
        "p90_ms": median * 2,
        "rows": 64,
        "device": "cpu",
        "processor": "Fast & Co",
        "cores": 2,
        "other_cores": 0.0,
        "host": "h",
        "versions": {"jax": "1.2"},
        "measured": "2026-01-01T00:00:00+00:00",
    }
    return latency.Latency(**{**fields, **changes})


def _page(folder, **settings):
    build(folder, str(folder / "r.html"), str(folder / "r.md"), **settings)
    return (folder / "r.html").read_text(), (folder / "r.md").read_text()


def _cells(twin):
    """The rows of the table of latencies, by setting and method."""
    rows = [line.strip("| ").split(" | ") for line in twin.splitlines() if " ms |" in line]
    assert len(rows) == 1  # the header
    table = twin[twin.index("| labels | method | test accuracy | median ms") :].split("\n\n")[0]
    found = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {(row[0], row[1].replace("\\", "")): row[3:] for row in found}


@pytest.fixture
def timed(monkeypatch):
    """What was loaded; students take 1, 2, ... ms a row in the order in which they are timed."""
    loaded = []

    def times(run, rows, description):
        assert len(rows) == 64 and len({row.input for row in rows}) == 64
        assert rows[0].id.endswith("/0") and rows[-1].id.endswith("/199")
        return [float(len(loaded))] * len(rows)

    monkeypatch.setattr("distill.inference.latency.label_times_ms", times)
    monkeypatch.setattr("distill.inference.load.load_run", lambda d: loaded.append(d.name))
    return loaded


def test_one_seed_of_each_setting_is_measured_and_a_killed_measurement_goes_on(
    tmp_path, timed, monkeypatch
):
    write(tmp_path)
    groups, append = grouped(tmp_path), latency.append

    def killed(folder, found):
        if len(timed) == 3:
            raise KeyboardInterrupt
        append(folder, found)

    monkeypatch.setattr(latency, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        measure.measure(tmp_path, groups)
    first = timed[:2]
    assert [each.run for each in latency.read(tmp_path)[0]] == first
    monkeypatch.setattr(latency, "append", append)
    said = []
    measure.measure(tmp_path, groups, said.append)
    wanted = {f"{m}-{n}-seed1" for m in ("finetune", "step_by_step") for n in (250, 500)}
    assert len(timed) == 5 and {*timed} == wanted and not {*first} & {*timed[3:]}
    assert "2 students on " in said[0] and said[0].endswith("2 measured before")
    measure.measure(tmp_path, groups)
    assert len(timed) == 5
    found, problems = latency.read(tmp_path)
    assert len(found) == 4 and not problems and found[0].machine == found[3].machine
    assert (found[0].median_ms, found[0].rows) == (1.0, 64)


def test_a_run_that_cannot_be_loaded_is_named_and_another_seed_is_measured(
    tmp_path, capsys, monkeypatch
):
    """No folder has a checkpoint here; those of seed 2 are made up."""
    monkeypatch.setattr("distill.inference.latency.label_times_ms", lambda run, rows, _: [2.0])
    from distill.inference import load

    real = load.load_run
    monkeypatch.setattr(load, "load_run", lambda d: None if d.name.endswith("2") else real(d))
    write(tmp_path, methods=("a", "b"), seeds=(1, 2))
    for run in tmp_path.glob("runs/b-*-seed2"):
        run.rename(run.with_name(f"{run.name}-moved"))
    command = [
        "report",
        str(tmp_path),
        f"--output={tmp_path}/r.html",
        f"--markdown={tmp_path}/r.md",
    ]
    assert cli.main([*command, "--measure_latency"]) == 0
    said = capsys.readouterr().err
    assert "a-250-seed1: its latency is not measured: " in said
    assert "b-250-seed2: its latency is not measured: its test rows cannot be read" in said
    cells = _cells((tmp_path / "r.md").read_text())
    assert cells["250", "a"][4] == "a-250-seed2" and cells["250", "a"][0] == "2"
    assert cells["250", "b"][0] == "not measured"


def test_the_page_shows_times_machine_and_warnings(tmp_path):
    write(tmp_path, train_flops=1e12)
    text, twin = _page(tmp_path)
    assert HINT in text and HINT in twin and "--measure\\_latency" in twin
    for method, median in (("finetune", 3.5), ("step_by_step", 1234.0)):
        latency.append(tmp_path, _latency(f"{method}-250-seed2", median))
    latency.append(tmp_path, _latency("finetune-250-seed2", 4.25))  # replaces the first
    text, twin = _page(tmp_path)
    assert HINT not in text and "Accuracy by latency" in text and "may be too long" not in text
    assert f"<caption>{CAPTION}, on Fast &amp; Co, 2 cores, jax 1.2</caption>" in text
    cells = _cells(twin)
    assert cells["250", "finetune"] == ["4.25", "2.12", "8.5", "64", "finetune-250-seed2"]
    assert cells["250", "step_by_step"][:3] == ["1,234", "617", "2,468"]
    assert cells["500", "finetune"][0] == "not measured"
    assert _page(tmp_path)[0] == text
    busy = {"processor": HOSTILE, "other_cores": 1.25, "device": "GPU"}
    latency.append(tmp_path, _latency("finetune-500-seed1", **busy))
    latency.append(tmp_path, _latency("finetune-500-seed2", **busy | {"other_cores": None}))
    text, _ = _page(tmp_path)
    assert text.count("Accuracy by latency: ") >= 2
    assert text.count(f"<caption>{CAPTION}") == 2
    assert text.count("<script") == 2 and f"GPU, {html.escape(HOSTILE, quote=False)}" in text
    assert "other processes used up to 1.2 cores while 1 student of 2 were measured" in text
    assert "it is not known whether other processes were running" in text


def test_single_task_says_why_it_is_slower(tmp_path):
    report_scale.write_run(tmp_path, "s", [True, False], axes={"method": "s"}, method="single_task")
    assert "decode the rationale before" not in _page(tmp_path)[0]
    latency.append(tmp_path, _latency("s"))
    assert "decode the rationale before the label" in _page(tmp_path)[0]


def test_lines_that_cannot_be_used_are_named_and_the_others_are_shown(tmp_path, capsys):
    write(tmp_path)
    good = json.dumps(_latency("finetune-250-seed1").to_json())
    lines = ["{]", good.replace("2.0", '"2"', 1), good, json.dumps(_latency("x<y").to_json())]
    latency.latency_path(tmp_path).write_text("\n".join([*lines, good[:30]]))
    command = [
        "report",
        str(tmp_path),
        f"--output={tmp_path}/r.html",
        f"--markdown={tmp_path}/r.md",
    ]
    assert cli.main(command) == 0
    said = capsys.readouterr()
    assert "latency.jsonl:5: cut off" in said.err
    problems = re.findall(r"^left out: .*$", said.out, re.MULTILINE)
    assert "latency.jsonl:1: not JSON" in problems[0]
    assert "latency.jsonl:2: got '2' for the field 'median_ms', expected a number" in problems[1]
    assert len(problems) == 3 and "the run 'x<y' has no record" in problems[2]
    text = (tmp_path / "r.html").read_text()
    assert "latency.jsonl:2: got" in text and "x&lt;y" in text
    assert _cells((tmp_path / "r.md").read_text())["250", "finetune"][0] == "2"
    latency.append(tmp_path, _latency("finetune-250-seed2"), lambda line: None)
    assert [each.run[-1] for each in latency.read(tmp_path)[0]] == ["1", "y", "2"]


@pytest.mark.parametrize(
    "changes",
    [{"p10_ms": 9.0}, {"median_ms": 0.0}, {"p90_ms": 1.0}, {"format": 2}, {"speed": 1}],
)
def test_a_bad_measurement_is_a_problem(changes, tmp_path):
    content = _latency("a").to_json() | changes
    latency.latency_path(tmp_path).write_text(json.dumps(content) + "\n")
    found, (problem,) = latency.read(tmp_path / store.RECORDS)
    assert not found and "latency.jsonl:1: " in problem


@given(st.lists(st.floats(1e-9, 1e24), min_size=1, max_size=5))
def test_ticks_of_costs_reach_around_all_points(values):
    ticks = charts._log_ticks(values)
    assert ticks[0] <= min(values) and ticks[-1] >= max(values) and ticks == sorted({*ticks})
    assert max(values) == min(values) or len(ticks) >= 2


def test_other_work_counts_from_a_quarter_of_a_core():
    for cores, busy in ((None, False), (0.24, False), (0.25, True)):
        assert measure.is_busy(SimpleNamespace(other_cores=cores)) == busy
