"""Errors that T5X's users know end with one message and exit code 2, from stock T5X itself."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from parity import needs_t5x
from test_t5x import SMALL, cache_dir  # noqa: F401  (a fixture of this file too)

from distill import cli


def train(tmp_path, capsys, *argv: str) -> str:
    """What `distill train` complains of; fails unless it exits with 2."""
    command = ["train", "--engine=t5x", "--gin_file=tickets_step_by_step"]
    command += [f"--gin.{text}" for text in SMALL]
    assert cli.main([*command, f"--run_dir={tmp_path}/run", *argv]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("distill: ") and "Traceback" not in message
    return message


@needs_t5x
@pytest.mark.t5x
def test_a_missing_module(tmp_path, capsys):
    (tmp_path / "mine.gin").write_text("NUM_LABELS = 40\nimport mytasks\n")
    message = train(tmp_path, capsys, f"--gin_file={tmp_path}/mine.gin")
    assert "mine.gin:2: no module named 'mytasks'" in message and "PYTHONPATH" in message
    assert not (tmp_path / "run").exists()


@needs_t5x
@pytest.mark.t5x
def test_wrong_partition_counts(tmp_path, capsys):
    message = train(tmp_path, capsys, "--gin.MODEL_PARALLEL=3")
    assert "got MODEL_PARALLEL = 3, expected a divisor of the number of devices, 1" in message


@needs_t5x
@pytest.mark.t5x
def test_a_vocabulary_of_the_models_own(tmp_path, capsys):
    (tmp_path / "mine.gin").write_text(
        "from __gin__ import dynamic_registration\n"
        "import seqio\n"
        "from distill.engines.t5x import model as t5x_model\n"
        "t5x_model.TaskLossModel.output_vocabulary = @seqio.ByteVocabulary()\n"
    )
    message = train(tmp_path, capsys, f"--gin_file={tmp_path}/mine.gin")
    assert "vocabularies do not match" in message and "VOCABULARY_PATH" in message


@needs_t5x
@pytest.mark.t5x
def test_the_last_step_lies_behind_the_restored_one(tmp_path, capsys):
    (tmp_path / "other" / "checkpoint_9" / "state").mkdir(parents=True)
    initial = f"--gin.CONTINUE_FROM={tmp_path}/other/checkpoint_9"
    message = train(tmp_path, capsys, initial)
    assert "got TRAIN_STEPS = 3" in message and "a checkpoint of step 9" in message
