"""Lists of `--work_list`: what is refused, and the plan of a launch for each run."""

from __future__ import annotations

import json

import pytest
from work_lists import ROOT, RUNS, command, line, state_of

from distill import cli
from distill.launch import work_list
from distill.launch.settings import LaunchSettings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distill train --gin_file=x\n", ":1: not JSON"),
        ("[1]\n", ":1: got a JSON list, expected an object"),
        ('{"run": "a"}\n', ":1: got `run_dir` None, expected a text; expected a line of `distill"),
        (line(RUNS[0], gin_files="x.gin", command=[]), ":1: got `gin_files` 'x.gin', expected a l"),
        (line(RUNS[0], overrides=[1], command=[]), ":1: got `overrides` [1], expected a list"),
        (line("../x"), ":1: got `run` '../x', expected the id of a run"),
        (line(RUNS[0], run_dir=f"out/runs/{RUNS[0]}"), "which the hosts of a slice do not see: ma"),
        (line(RUNS[0], run_dir=f"{ROOT}/{RUNS[0]}"), "expected gs://BUCKET/FOLDER/runs/finetune-s"),
        (line(RUNS[0], run_dir=f"gs://b*/x/runs/{RUNS[0]}"), "without *, ? and ["),
        (line(RUNS[0], command=["rm", "-r"]), ":1: `command` is not that of `gin_files`"),
        (
            [line(RUNS[0]), line(RUNS[1]), line(RUNS[0])],
            ":3: the run finetune-seed1-aaaaaaaa is ",
        ),
        (
            [line(RUNS[0]), line(RUNS[1], run_dir=f"gs://other/runs/{RUNS[1]}")],
            ":2: got the results folder gs://other, expected that of the lines before, gs://bucket",
        ),
        ("\n", "work.jsonl has no runs"),
    ],
)
def test_bad_lists_are_refused_with_file_and_line(cloud, capsys, text, message):
    path = cloud.folder / "work.jsonl"
    if not isinstance(text, str):
        lines = text if isinstance(text, list) else [text]
        text = "".join(json.dumps(each) + "\n" for each in lines)
    path.write_text(text)
    assert command(path, "run") == 2
    said = capsys.readouterr().err
    assert f"{path}" in said and message in said
    assert cloud.calls == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run"], "give the state file of a launch to distill launch run, or --work_list"),
        (["down", "x.launch.json", "--work_list=w"], "and --work_list, expected one of them"),
        (["run", "x.launch.json", "--at_once=2"], "--at_once works only with --work_list"),
        (["run", "--work_list=w", "--at_once=0"], "got --at_once=0, expected 1 or more"),
        (["run", "--work_list=w", "--keep"], "--keep does not work with --work_list"),
        (["run", "--work_list=w", "--detach"], "--detach does not work with --work_list"),
        (["plan", "--work_list=w", "--name=x"], "got --name and --work_list, which has it for"),
        (["plan", "--work_list=w", "--gin.SEED=3"], "got --gin.SEED and --work_list: set it in"),
        (["plan", "--work_list=w", "--seed=3"], "got --seed and --work_list"),
    ],
)
def test_flags_that_do_not_go_together(argv, message, capsys):
    assert cli.main(["launch", *argv]) == 2
    assert message in capsys.readouterr().err


WHERE = ("--topology=v6e:1x1", "--project=our-project", "--zone=us-east5-a", "--price=2.5")


def test_a_list_of_a_sweep_is_planned(cloud, capsys, monkeypatch):
    from distill.commands import launch_plan

    checked: list[object] = []
    monkeypatch.setattr(
        launch_plan, "check_fit", lambda *a: checked.append(a) or {"hours": 0.5, "fits": True}
    )
    sweep = cloud.folder / "s.toml"
    sweep.write_text(
        'gin_files = ["tickets_finetune"]\nseeds = [1, 2]\n[axes.labels]\nmacro = "NUM_LABELS"\n'
        "values = [40, 60]\n"
    )
    assert cli.main(["sweep", str(sweep), "--list", "--json", f"--out={ROOT}"]) == 0
    path = cloud.folder / "work.jsonl"
    path.write_text(capsys.readouterr().out)
    flags = (*WHERE, "--max_run_hours=2", "--source=gs://b/d.tar.gz")
    assert command(path, "plan", *flags) == 0
    out = capsys.readouterr().out
    assert len(checked) == 2  # seeds are not checked again
    assert "4 runs, each on v6e:1x1" in out and "together at least 2 hours" in out
    assert "cost: at least 5.00, at most 20.00" in out
    assert f"next: distill launch run --work_list={path}" in out
    for item in work_list.read(str(path)):
        own = state_of(path, item.run).settings
        assert isinstance(own, LaunchSettings) and own.run_dir == item.run_dir
        assert [f"--gin.{text}" for text in item.overrides] == list(own.train_arguments[1:])
        for text in (f"instance-templates create {item.name}", f"managed delete {item.name}"):
            assert text in out
    assert cloud.calls == []
    state = state_of(path, item.run)
    state.created.append("instance group")
    state.save()
    assert command(path, "plan", *flags) == 2
    assert f"the run {item.run}: " in capsys.readouterr().err


def test_a_plan_writes_nothing_if_one_run_cannot_work(path, cloud, capsys, monkeypatch):
    from distill.commands import launch_plan

    monkeypatch.setattr(launch_plan, "check_fit", lambda *a: {"hours": 0.5, "fits": True})
    bad = line(RUNS[2], overrides=["SEED=1", "NUM_LABEL=3"])
    path.write_text("".join(json.dumps(each) + "\n" for each in (line(RUNS[0]), bad)))
    before = state_of(path, RUNS[0]).revision
    assert command(path, "plan", *WHERE, "--source=gs://b/d.tar.gz") == 2
    said = capsys.readouterr().err
    assert f"the run {RUNS[2]}: " in said and "NUM_LABEL" in said
    assert state_of(path, RUNS[0]).revision == before
