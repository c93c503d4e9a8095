"""`distill convert`: a native run goes to T5X's layout and back, and answers as before."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from saved_state import state_of

from distill import cli
from distill.config.resolve import resolve
from distill.convert import folders
from distill.engines import native
from distill.inference import scoring
from distill.training.checkpoints import Checkpoints

EXPERIMENT = "--gin_file=tickets_step_by_step"


@pytest.fixture(scope="module")
def trained(micro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("convert") / "run"
    native.train(resolve(["tickets_step_by_step"], micro), folder, lambda line: None)
    return folder


@pytest.mark.parametrize("layout", ["zarr", "ocdbt"])
def test_there_and_back_is_the_same_state(layout, trained, micro, tmp_path, capsys):
    argv = ["convert", "--from=native", "--to=t5x", f"--run_dir={trained}", "--json"]
    argv += [f"--layout={layout}"]
    assert cli.main([*argv, f"--output={tmp_path}/t5x"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["step"] == 12 and written["written"].endswith("checkpoint_12")
    overrides = [f"--gin.{text}" for text in micro]
    back = ["convert", "--from=t5x", "--to=native", EXPERIMENT, *overrides]
    back += [f"--checkpoint={tmp_path}/t5x", f"--run_dir={tmp_path}/back"]
    assert cli.main(back) == 0
    states = [state_of(f)[1] for f in (trained, tmp_path / "back")]
    for ours, theirs in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert scoring.evaluate(tmp_path / "back", "test") == scoring.evaluate(trained, "test")
    capsys.readouterr()
    assert cli.main(back) == 2
    assert "has a checkpoint of step 12: choose another --run_dir" in capsys.readouterr().err
    assert cli.main([*argv, f"--output={tmp_path}/t5x"]) == 2
    assert "already exists" in capsys.readouterr().err


def test_the_best_checkpoint_goes_over_on_request(trained, micro, tmp_path, capsys):
    argv = ["convert", "--from=native", "--to=t5x", "--json"]
    refused = [*argv, "--best", f"--run_dir={trained}", f"--output={tmp_path}/none"]
    assert cli.main(refused) == 2
    assert "has CHECKPOINT = 'last', so no best" in capsys.readouterr().err
    folder, settings = tmp_path / "run", (*micro, "CHECKPOINT=best", "TRAIN_STEPS=4")
    native.train(resolve(["tickets_step_by_step"], settings), folder, lambda line: None)
    state = state_of(folder)[1]
    with Checkpoints(folder, keep=1, best=True) as checkpoints:
        checkpoints.save(state.replace(step=state.step + 1))  # newer, and not evaluated
    for flag, step in (("--best", 4), ("--json", 5)):
        out = f"--output={tmp_path}/t5x"
        assert cli.main([*argv, flag, f"--run_dir={folder}", out]) == 0
        assert json.loads(capsys.readouterr().out)["step"] == step


def test_parameters_alone_begin_a_run(trained, micro, tmp_path, capsys):
    """From the scanned network's checkpoint, and with an optimizer that it was not trained with."""
    argv = ["convert", "--from=native", "--to=t5x", f"--run_dir={trained}", "--scanned"]
    assert cli.main([*argv, f"--output={tmp_path}/t5x"]) == 0
    overrides = [f"--gin.{text}" for text in (*micro, "OPTIMIZER=adafactor")]
    back = ["convert", "--from=t5x", "--to=native", EXPERIMENT, *overrides]
    back += [f"--checkpoint={tmp_path}/t5x", f"--run_dir={tmp_path}/back"]
    assert cli.main(back) == 2
    assert "--parameters_only" in capsys.readouterr().err
    assert cli.main([*back, "--parameters_only"]) == 0
    ours, theirs = (state_of(f)[1] for f in (trained, tmp_path / "back"))
    assert int(theirs.step) == 0
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)


def there_and_back(trained, folder, overrides) -> list[str]:
    """Converts to T5X's form; the command that converts to a native run with these settings."""
    folders.native_to_t5x(trained, folder / "t5x")
    return [
        *("convert", "--from=t5x", "--to=native", EXPERIMENT),
        *(f"--gin.{text}" for text in overrides),
        *(f"--checkpoint={folder}/t5x", f"--run_dir={folder}/back"),
    ]


def test_a_run_that_is_to_end_before_the_checkpoint_is_refused(trained, micro, tmp_path, capsys):
    assert cli.main(there_and_back(trained, tmp_path, [*micro, "TRAIN_STEPS=8"])) == 2
    assert "TRAIN_STEPS = 8, but the checkpoint is at step 12" in capsys.readouterr().err
    assert not (tmp_path / "back").exists()


def test_another_size_is_named(trained, micro, tmp_path, capsys):
    assert cli.main(there_and_back(trained, tmp_path, [*micro, "MLP_DIM=24"])) == 2
    message = capsys.readouterr().err
    assert "has shape (16, 16) in the checkpoint, expected (16, 24)" in message
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--from=t5x", "--to=t5x"], "expected --to=native"),
        (["--from=native", "--to=t5x"], "needs --output"),
        (["--from=t5x", "--to=native"], "needs --checkpoint"),
        (["--from=t5x", "--to=native", "--checkpoint=/nowhere"], "contains no T5X checkpoint"),
        (["--from=native", "--to=t5x", "--output=x"], "is not a run folder"),
        (["--from=native", "--to=t5x", "--output=x", "--parameters_only"], "does not work with"),
        (["--from=t5x", "--to=native", "--checkpoint=x", "--scanned"], "does not work with"),
        (["--from=t5x", "--to=native", "--checkpoint=x", "--best"], "--best does not work with"),
    ],
)
def test_bad_input(argv, message, tmp_path, capsys):
    run_dir = f"--run_dir={tmp_path}/none"
    settings = [] if "--from=native" in argv else [EXPERIMENT]
    assert cli.main(["convert", *settings, run_dir, *argv]) == 2
    assert message in capsys.readouterr().err
