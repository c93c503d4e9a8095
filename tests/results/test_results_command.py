"""`distill results`: what it lists, in which order, and what it refuses."""

from __future__ import annotations

import json
import re

import pytest

from distill import cli
from distill.errors import UserError
from distill.results import query, store


@pytest.fixture
def folder(tmp_path, make_record, make_failure):
    for record in (
        make_record(run="a", axes={"method": "finetune", "share": 0.5}, accuracy=0.25),
        make_failure(run="b", axes={"method": "step_by_step", "share": 1}),
        make_record(run="b", axes={"method": "step_by_step", "share": 1}, attempt=2, accuracy=1.0),
        make_failure(run="c", axes={"method": "finetune", "share": 1}, sweep="t", error="no\nrows"),
    ):
        store.append(tmp_path, record)
    return tmp_path


def _runs(capsys, folder, *flags):
    assert cli.main(["results", str(folder), "--json", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    return [record["run"] for record in found["records"]]


@pytest.mark.parametrize(
    ("flags", "runs"),
    [
        ([], "abc"),
        (["--all"], "abbc"),
        (["--where=method=finetune"], "ac"),
        (["--where=method!=finetune"], "b"),
        (["--where=share>=1"], "bc"),
        (["--where=share = 0.5"], "a"),
        (["--where=accuracy>0"], "ab"),
        (["--where=accuracy=none"], "c"),
        (["--where=accuracy<1", "--where=status=done"], "a"),
        (["--where=steps=1"], ""),
        (["--where=sweep=t"], "c"),
        (["--where=method>finetune"], "b"),
        (["--sort=-accuracy"], "bac"),
        (["--sort=accuracy"], "abc"),
        (["--sort=method", "--sort=-run"], "cab"),
    ],
)
def test_records_are_chosen_and_sorted(flags, runs, folder, capsys):
    assert _runs(capsys, folder, *flags) == list(runs)


def test_the_table_shows_axes_results_and_failures(folder, capsys):
    assert cli.main(["results", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["sweep", "method", "share", "seed", "status", "accuracy"]
    assert lines[2].split()[:6] == ["invented", "finetune", "0.5", "1", "done", "0.250"]
    assert "[0.400, 0.600]" in lines[2]
    assert lines[5] == "c failed (attempt 1): no rows"
    assert lines[-1] == "3 runs: 2 done, 1 failed"
    assert cli.main(["results", str(folder), "--columns=run,folder", "--where=run=a"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split() == ["a", "runs/a"]
    assert cli.main(["results", str(folder), "--where=run=z"]) == 0
    assert capsys.readouterr().out == "no run fulfills all conditions\n"
    assert cli.main(["results", str(folder), "--where=method=finetun"]) == 0
    assert capsys.readouterr().err == "no run has method = 'finetun'; closest: finetune\n"
    assert cli.main(["results", str(folder), "--where=method=finetune", "--where=seed=2"]) == 0
    assert capsys.readouterr().err == "no run has seed = '2'; expected one of 1\n"


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--where=acuracy=1", "unknown name 'acuracy', .*closest: .*accuracy"),
        ("--where=methd=1", "unknown name 'methd', .*closest: method"),
        ("--where=method", "expected NAME=VALUE"),
        ("--where=accuracy>=high", "got --where=accuracy>=high, expected a number, e.g. 0.25"),
        ("--sort=-acuracy", "got --sort with the unknown name"),
        ("--sort=axes", "got --sort=axes, which has no order"),
        ("--columns=run,sed", "got --columns with the unknown name 'sed'.*closest: seed"),
        ("--columns=,", "got --columns=',', expected names"),
    ],
)
def test_bad_flags_have_messages(flag, message, folder, capsys):
    assert cli.main(["results", str(folder), flag]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_axis_hides_the_field_of_its_name(make_record):
    record = make_record(axes={"method": "stronger"}, method="finetune")
    assert query.value_of(record, "method") == "stronger"
    assert query.names_of([record]).count("method") == 1
    with pytest.raises(UserError, match="unknown"):
        query.check_name("x", query.names_of([record]), "--where")


def _run_folder(folder):
    folder.mkdir(parents=True)
    (folder / "config.gin").write_text("")
    return folder


@pytest.mark.parametrize("command", [["results"], ["report", "--output=x.html"]])
def test_another_folder_is_told_what_to_give_instead(
    command, folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    wrote = "expected the folder that `distill sweep --out` wrote"
    alone, run = _run_folder(tmp_path / "p" / "x" / "y" / "z"), _run_folder(tmp_path / "out/runs/a")
    (alone / "results.json").write_text("{}")
    (folder / store.RECORDS).rename(tmp_path / "out" / store.RECORDS)
    for given, told in (
        (alone, f"z is the folder of one run, {wrote}; the result of this run is in {alone}/resul"),
        (run, f"{run} is the folder of one run, {wrote}: {tmp_path / 'out'}\n"),
        ("out/runs", f"out/runs has the folders of 1 run and no records.jsonl, {wrote}: out\n"),
        (".", f"{store.RECORDS}; folders in it that have one: out\n"),
    ):
        assert cli.main([*command, str(given)]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
