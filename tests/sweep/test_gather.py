"""`distill sweep --collect`: records of runs that were trained elsewhere, and nothing else."""

from __future__ import annotations

import json
import pathlib

import pytest

from distill import cli
from distill.results import store
from distill.sweep import file, gather, plan
from distill.training import run_folder

TEXT = """
title = "T"
seeds = [1, 2]
gin_files = ["tickets_finetune"]
[axes.labels.settings]
few = { macros = { NUM_LABELS = 40 } }
forty = { macros = { NUM_LABELS = 40 } }
many = { macros = { NUM_LABELS = 60 } }
"""
RESULTS = {
    **{"engine": "native", "parameters": 1000, "accuracy": 0.5, "interval": [0.1, 0.9]},
    **{"n_test": 2, "checkpoint_step": 7, "steps": 7, "seed": 1, "seconds": 3.0},
}
METRICS = '{"step": 3, "validation_accuracy": 0.1}\n{"step": 7, "validation_accuracy": 0.25}\n'


@pytest.fixture
def path(write_sweep):
    """The sweep file: six runs, of which two have the configuration of others."""
    return write_sweep(TEXT)


@pytest.fixture
def runs(path):
    return plan.make_plan(file.read_sweep(path))


def finish(place, run):
    """A finished run as `distill train` leaves it, apart from what no record reads."""
    folder = place / "runs" / run.id
    (folder / "checkpoints" / "7").mkdir(parents=True)
    (folder / "checkpoints" / "7" / "state").write_text("x" * 100)
    (folder / run_folder.CONFIG).write_text(run.resolved.text)
    (folder / run_folder.PREDICTIONS).write_text("{}\n{}\n")
    (folder / run_folder.METRICS).write_text(METRICS)
    texts: dict[str, dict] = {name: {} for name in ("files", "bindings", "binding_files")}
    rows = dict.fromkeys(("train", "validation", "test"), 9)
    digests = dict.fromkeys(rows, "d")
    (folder / run_folder.RUN).write_text(
        json.dumps({**texts, "rows": rows, "row_digests": digests, "git_commit": "abc"})
    )
    (folder / run_folder.RESULTS).write_text(json.dumps(RESULTS))
    return folder


def collect(path, out, source, *flags):
    return cli.main(["sweep", str(path), f"--out={out}", f"--collect={source}", *flags])


def test_finished_runs_are_recorded_once_and_the_others_named(path, runs, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "out"
    finish(source, runs[0])
    (source / "runs" / runs[4].id).mkdir(parents=True)  # has begun
    assert collect(path, out, source) == 2
    shown = capsys.readouterr()
    assert f"{runs[1].id} and 3 other runs are not finished in {source}" in shown.err
    assert "few" in shown.out and "0.500" in shown.out
    first, twin = store.read_all(out)
    assert (first.run, twin.run) == (runs[0].id, runs[2].id)  # the twin has its results
    assert (first.accuracy, first.validation_accuracy, first.git_commit) == (0.5, 0.25, "abc")
    names = {each.name for each in (out / first.folder).iterdir()}
    assert "checkpoints" not in names and names >= {run_folder.PREDICTIONS, run_folder.RESULTS}
    for run in (runs[1], runs[4], runs[5]):
        finish(source, run)
    assert collect(path, out, source, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["done"], result["missing"]) == (6, [])
    assert len(store.read_all(out)) == 6
    assert collect(path, out, source) == 0 and len(store.read_all(out)) == 6
    capsys.readouterr()
    assert cli.main(["sweep", str(path), f"--out={out}", "--list"]) == 0
    shown = capsys.readouterr()
    assert not shown.out and "4 finished runs left out" in shown.err


def test_what_a_kill_leaves_is_completed(path, runs, tmp_path, monkeypatch):
    """Before the files move, and between them and the record."""
    source, out = tmp_path / "source", tmp_path / "out"
    finish(source, runs[0])

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    for module, name in ((gather, "write_bytes"), (store, "append")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, kill)
            with pytest.raises(Killed):
                collect(path, out, source)
        assert not (out / store.RECORDS).exists()
    collect(path, out, source)
    assert [record.run for record in store.read_all(out)] == [runs[0].id, runs[2].id]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda there, here: (there / "config.gin").unlink(), "run's configuration is lost; copy"),
        (
            lambda there, here: (there / "config.gin").write_text("NUM_LABELS = 41\n"),
            "contains a run with another configuration",
        ),
        (lambda there, here: (there / "results.json").write_text("{}"), "does not contain the res"),
        (
            lambda there, here: (there / "predictions_test.jsonl").write_text("{}\n"),
            "has 1 line, expected 2",
        ),
        (
            lambda there, here: (here / "checkpoints").mkdir(parents=True),
            "has a run that is not finished, and",
        ),
    ],
)
def test_other_folders_are_refused_and_nothing_is_recorded(
    path, runs, tmp_path, capsys, change, message
):
    source, out = tmp_path / "source", tmp_path / "out"
    change(finish(source, runs[0]), out / "runs" / runs[0].id)
    assert collect(path, out, source) == 2
    assert message in capsys.readouterr().err
    assert not (out / store.RECORDS).exists()


@pytest.mark.slow  # loads TensorFlow, which reads gs://
def test_runs_in_a_bucket_are_collected(path, runs, tmp_path, objects):
    place = finish(tmp_path / "source", runs[0])
    for each in place.rglob("*"):
        if each.is_file():
            name = f"bucket/s/runs/{runs[0].id}/{each.relative_to(place)}"
            objects.objects[name] = (each.read_bytes(), 1)
    out = tmp_path / "out"
    assert collect(path, out, "gs://bucket/s") == 2  # the others are missing
    assert [record.run for record in store.read_all(out)] == [runs[0].id, runs[2].id]
    read = {request.path for request in objects.requests if request.kind == "read"}
    assert read and not any("checkpoints" in each for each in read)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--collect=x", "--list"], "got both --list and --collect"),
        (["--collect=out"], "expected the path of another folder than --out"),
        (["--collect="], "expected the path of another folder than --out"),
    ],
)
def test_flags_that_do_not_go_together(path, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sweep", str(path), "--out=out", *flags]) == 2
    assert message in capsys.readouterr().err
    assert not pathlib.Path("out").exists()


def test_a_work_list_has_each_configuration_once(path, runs, capsys):
    assert cli.main(["sweep", str(path), "--out=gs://b/out", "--list", "--json"]) == 0
    listed = [json.loads(line)["run"] for line in capsys.readouterr().out.splitlines()]
    assert listed == [runs[n].id for n in (0, 1, 4, 5)]
