"""predict and evaluate accept a run that stopped early, and print its step."""

from __future__ import annotations

import pathlib
import shutil

import pytest

import distill
from distill import cli
from distill.convert.folders import native_to_t5x
from distill.errors import UserError
from distill.inference import load

_LINE = "is not finished: using the checkpoint of step 12 of 20"


@pytest.fixture
def stopped(run_dir, tmp_path):
    """The run of twelve steps, as if it were to have twenty."""
    folder = tmp_path / "stopped"
    shutil.copytree(run_dir, folder)
    (folder / "results.json").unlink()
    config = folder / "config.gin"
    text = config.read_text()
    assert "TRAIN_STEPS = 12" in text
    config.write_text(text.replace("TRAIN_STEPS = 12", "TRAIN_STEPS = 20"))
    return folder


@pytest.mark.parametrize("argv", [["predict", "my fan"], ["evaluate", "--split=validation"]])
def test_the_step_of_an_unfinished_run_is_told(argv, stopped, run_dir, monkeypatch, capsys):
    def stop(*arguments):
        raise UserError("loaded")

    monkeypatch.setattr(load, "make_evaluator", stop)
    command, *rest = argv
    for folder, count in ((stopped, 1), (run_dir, 0)):
        assert cli.main([command, f"--run_dir={folder}", *rest]) == 2
        err = capsys.readouterr().err
        assert err.splitlines()[-1] == "distill: loaded" and err.count(_LINE) == count
        assert f"{stopped} {_LINE}" in err.splitlines() or not count


def test_python_and_t5x_runs_are_told_of_too(stopped, capsys):
    lines: list[str] = []
    distill.load(stopped, progress=lines.append)
    assert lines == [f"{stopped} {_LINE}"]
    native_to_t5x(stopped, stopped / "t5x")
    lines.clear()
    distill.load(stopped, progress=lines.append)
    assert lines == [f"{stopped} {_LINE}"]
    assert "is not finished" not in capsys.readouterr().err


def test_a_converted_checkpoint_is_named_as_one(tmp_path, capsys):
    """Until it is trained further; run.json says that it is."""
    golden = pathlib.Path(__file__).parents[1] / "golden" / "hf_loss"
    folder, lines = tmp_path / "converted", []
    assert cli.main(["convert", "--from=hf", f"--checkpoint={golden}", f"--run_dir={folder}"]) == 0
    distill.load(folder, progress=lines.append)
    assert lines == [f"{folder} is a converted checkpoint (step 0) that was not trained further"]
    (folder / "run.json").write_text("{}")
    distill.load(folder, progress=lines.append)
    assert lines[1:] == [f"{folder} is not finished: using the checkpoint of step 0 of 10,000"]


def test_the_last_step_is_trained_but_not_scored(run_dir, tmp_path):
    folder, lines = tmp_path / "unscored", []
    shutil.copytree(run_dir, folder)
    (folder / "results.json").unlink()
    distill.load(folder, progress=lines.append)
    assert not lines
