"""Sweep files: each mistake has a message that names file, table and key."""

from __future__ import annotations

import re

import pytest

from distill import cli
from distill.errors import UserError
from distill.sweep import file, plan

BASE = 'gin_files = ["tickets_finetune"]\n'
LABELS = '[axes.labels]\nmacro = "NUM_LABELS"\nvalues = [40, 60]\n'


def test_a_file_is_read_in_its_order(write_sweep):
    path = write_sweep(
        'title = "T"\nseeds = [3, 1]\nzip = [["labels", "b"]]\n'
        + BASE
        + '[macros]\nNUM_TEST = 24\nLABELS = ["x"]\n'
        + LABELS
        + '[axes.b.settings]\n"x, y" = {}\nz = { gin_files = ["a"], macros = { SEEDY = true } }\n'
        + "[[exclude]]\nlabels = 40\nseed = [1]\n"
    )
    sweep = file.read_sweep(path)
    assert (sweep.name, sweep.title, sweep.seeds) == ("s", "T", (3, 1))
    assert sweep.macros == {"NUM_TEST": 24, "LABELS": ["x"]}
    assert [axis.name for axis in sweep.axes] == ["labels", "b"]
    assert [c.value for c in sweep.axis("b").choices] == ["x, y", "z"]
    assert sweep.axis("b").choices[1].macros == {"SEEDY": True}
    assert sweep.zips == (("labels", "b"),)
    assert sweep.exclude == ({"labels": (40,), "seed": (1,)},)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = \n", "s.toml:1: not TOML (Invalid value, column 8)"),
        ('name = "a', "s.toml: not TOML (Unterminated string at the end of the file)"),
        ("seed = [1]\n" + BASE, "s.toml: unknown key 'seed'; closest: seeds"),
        ('name = "a/b"\n' + BASE, "name: got 'a/b', expected at most 60 letters"),
        ('title = ""\n' + BASE, "title: got '', expected a line of text"),
        ("seeds = 3\n" + BASE, "seeds: got 3, expected a list of different integers >= 0"),
        ("seeds = []\n" + BASE, "seeds: got [], expected a list"),
        ("seeds = [1, 1]\n" + BASE, "seeds: got [1, 1], expected a list of different"),
        ("seeds = [true]\n" + BASE, "seeds: got [True], expected"),
        ('gin_files = "a"\n', "gin_files: got 'a', expected a list of gin files"),
        (LABELS, "s.toml: gin_files is missing: expected at least one gin file"),
        (BASE + "macros = 1\n", "[macros]: got 1, expected a table of macros"),
        (BASE + "[macros]\nseeds = [1]\n", "expected a macro in capitals, e.g. NUM_LABELS; if it"),
        (BASE + "[macros]\nSEED = 1\n", "[macros] sets SEED, expected the key `seeds`"),
        (BASE + "[macros]\nA = 2020-01-01\n", "[macros] A: got 2020-01-01, expected a string"),
        (BASE + "[macros]\nA = inf\n", "[macros] A: got inf, expected a finite number"),
        (BASE + "axes = []\n", "[axes]: got [], expected a table of axes"),
        (BASE + "[axes]\nlabels = [1]\n", "[axes.labels]: got [1], expected a table with macro"),
        (BASE + "[axes.seed]\n", "[axes.seed]: the name 'seed' is that of a field"),
        (BASE + "[axes.a]\nmacro = 'NUM_LABELS'\n", "[axes.a]: values is missing"),
        (BASE + "[axes.a]\nvalues = [1]\n", "[axes.a]: macro is missing"),
        (BASE + "[axes.a]\nmacros = 1\n", "[axes.a]: unknown key 'macros'; closest: macro"),
        (BASE + LABELS + "seeds = [1]\n", "'seeds'; if it is meant for the whole file, put seeds"),
        (BASE + "[axes.a]\nmacro = 'labels'\nvalues = [1]\n", "got 'labels', expected the name of"),
        (BASE + "[axes.a]\nmacro = 'SEED'\nvalues = [1]\n", "[axes.a] sets SEED"),
        (BASE + "[axes.a]\nmacro = 'X'\nvalues = []\n", "[axes.a] values: got [], expected a list"),
        (BASE + "[axes.a]\nmacro = 'X'\nvalues = [1, 1.0]\n", "got 1.0 twice, expected different"),
        (BASE + "[axes.a.settings]\n", "[axes.a.settings]: got {}, expected a table of named"),
        (BASE + "[axes.a]\nmacro = 'X'\nsettings = { x = {} }\n", "settings together with macro"),
        (BASE + "[axes.a.settings]\nx = 1\n", "[axes.a.settings] x: got 1, expected a table"),
        (
            BASE + "[axes.a.settings]\nx = { gin = [] }\n",
            "x: unknown key 'gin'; expected one of gin_files, macros",
        ),
        (BASE + LABELS + "[axes.b]\nmacro='NUM_LABELS'\nvalues=[1]\n", "and so does [axes.labels]"),
        ('zip = ["labels"]\n' + BASE + LABELS, "zip: got ['labels'], expected a list of lists"),
        ('zip = [["labels", "lables"]]\n' + BASE + LABELS, "unknown axis 'lables'; closest: label"),
        ('zip = [["labels", "labels"]]\n' + BASE + LABELS, "axis 'labels' occurs twice"),
        (
            'zip = [["labels", "b"]]\n' + BASE + LABELS + "[axes.b.settings]\nx = {}\n",
            "zip: labels has 2, b has 1 values, expected equal numbers",
        ),
        (BASE + LABELS + "[exclude]\nlabels = 40\n", "[[exclude]]: got {'labels': 40}, expected"),
        (BASE + LABELS + "[[exclude]]\nlabel = 40\n", "number 1: unknown axis 'label'; closest:"),
        (BASE + LABELS + "[[exclude]]\nlabels = 41\n", "labels: got 41, which is no value of the"),
        (BASE + LABELS + '[[exclude]]\nlabels = "40"\n', "labels: got '40', which is no value"),
        (BASE + LABELS + "[[exclude]]\nlabels = []\n", "labels: got [], expected a value"),
        (BASE + LABELS + "[[exclude]]\nseed = 5\n", "seed: got 5, which is no value of the axis"),
    ],
)
def test_a_mistake_has_a_message(text, message, write_sweep):
    path = write_sweep(text)
    with pytest.raises(UserError, match=re.escape(message)) as error:
        file.read_sweep(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('gin_files = ["tickets_finetun"]', r"gin_files\); closest: gin/experiments/tickets_finet"),
        (
            BASE + '[axes.m.settings]\nx = { gin_files = ["nowhere"] }',
            r"'nowhere' not found \(from .*s.toml: \[axes.m.settings\] x\)",
        ),
        (BASE + "[macros]\nTRAIN_STEP = 1", r"\[macros\] sets TRAIN_STEP, .*closest: TRAIN_STEPS"),
        (
            BASE + "[axes.a]\nmacro='NUM_LABEL'\nvalues=[1]",
            r"\[axes.a\] sets NUM_LABEL, which no gin file declares; closest: NUM_LABELS",
        ),
        (BASE + "[macros]\nTRAIN_STEPS = 'x'", "every run: .*TRAIN_STEPS.*expected an integer"),
        (
            "seeds=[1,2]\n" + BASE + "[axes.p]\nmacro='POLICY'\nvalues=['natural','hrd']",
            "the run hrd, seed 1 and 1 other run: .*hard",
        ),
        (BASE + LABELS + "[[exclude]]\nlabels=[40,60]", "excludes every combination"),
        (
            BASE + LABELS + "[[exclude]]\nlabels=40\n[[exclude]]\nlabels=40\nseed=0\n"
            "[[exclude]]\nlabels=60\nseed=0\n[axes.b.settings]\nx={}",
            "excludes every combination",
        ),
        (
            BASE + "[axes.b.settings]\n'x y' = {}\n'x-y' = {}\n",
            "have one configuration and one id",
        ),
        (
            'gin_files=["jsonl_step_by_step"]\n[macros]\nTRAIN_FILE="no.jsonl"\n'
            'TEST_FILE="t.jsonl"\nLABELS=["a","b"]',
            r"s.toml: .*no.jsonl does not exist.*also: .*t.jsonl does not exist",
        ),
        (
            BASE + LABELS + "[macros]\nNUM_ROWS = 59",
            "s.toml: got NUM_LABELS = 60, but dataset 'tickets' has at most 59 training rows; set ",
        ),
    ],
)
def test_a_mistake_in_the_runs_is_told_before_the_first_starts(
    text, message, write_sweep, tmp_path, capsys
):
    path = write_sweep(text)
    assert cli.main(["sweep", str(path), f"--out={tmp_path / 'out'}"]) == 2
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert not list(tmp_path.glob("out/runs/*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--out=gs://b/c"], "got --out=gs://b/c, expected a local folder"),
        (["--out=OTHER"], "is not empty (it contains a.txt) and has no results"),
        (["--out=FILE"], "which is a file; expected a folder"),
        (["--out=FILE", "--dry_run"], "which is a file; expected a folder"),
        (["--out=out", "--workers=0"], "got --workers=0, expected 1 or more"),
        (["--out=out", "--retries=-1"], "got --retries=-1, expected 0 or more"),
        (["--out=out", "--shard=1/0"], "got --shard='1/0', expected I/N, e.g. --shard=1/4"),
        (["--out=out", "--shard=0/2"], "got --shard='0/2', expected a number from 1 to 2"),
        (["--out=out", "--shard=2"], "got --shard='2', expected I/N"),
        (["--out=out", "--shard=9/9"], "got --shard=9/9, which has no run: "),
        (["--out=out", "--list", "--dry_run"], "got both --list and --dry_run"),
        (["--out="], "got --out='', expected the path of a folder"),
    ],
)
def test_bad_flags_have_messages(flags, message, write_sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "OTHER").mkdir()
    (tmp_path / "OTHER" / "a.txt").touch()
    (tmp_path / "FILE").touch()
    path = write_sweep(BASE + LABELS)
    assert cli.main(["sweep", str(path), *flags]) == 2
    assert message in capsys.readouterr().err
    assert cli.main(["sweep", str(tmp_path / "t.toml"), "--out=out"]) == 2
    told = capsys.readouterr().err
    assert "t.toml does not exist; closest in its folder: s.toml" in told
    assert "Sweeps of the project: demo, demo_full" in told


def test_a_malformed_shard_is_refused_before_the_runs_are_planned(write_sweep, monkeypatch, capsys):
    monkeypatch.setattr(plan, "make_plan", lambda sweep: pytest.fail("planned"))
    assert cli.main(["sweep", str(write_sweep(BASE + LABELS)), "--out=out", "--shard=x/2"]) == 2
    assert "got --shard='x/2', expected I/N" in capsys.readouterr().err


def test_sweeps_of_the_project_are_found_from_everywhere(tmp_path, monkeypatch):
    here = file.read_sweep("gin/sweeps/demo.toml")
    monkeypatch.chdir(tmp_path)
    for name in ("gin/sweeps/demo.toml", "demo"):
        found = file.read_sweep(name)
        assert (found.name, found.axes) == (here.name, here.axes)
