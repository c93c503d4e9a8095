"""INIT_FROM with stock T5X: the parameters of a checkpoint at step 0, read once."""

from __future__ import annotations

import pathlib
import re
import shutil
import sys

import pytest
from etils import epath

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from parity import needs_t5x
from pretrained import GOLDEN, LOSS, configure

from distill.engines.t5x import train as engine
from distill.errors import UserError

# T5X draws rows at random: with a single one, every batch is known.
ONE_ROW = ("BATCH_SIZE=2", "WEIGHTING=paired_batches", "EVAL_BATCH_SIZE=2")


@pytest.fixture
def one_row(tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text((GOLDEN / "rows.jsonl").read_text().splitlines()[0] + "\n")
    return (*ONE_ROW, f"TRAIN_FILE={path}", f"TEST_FILE={path}")


def losses(log: epath.Path) -> list[tuple[float, float]]:
    """Label and rationale loss of each logged step."""
    found = re.findall(
        r"collection=train .*loss_label=([\d.]+), .*loss_rationale=([\d.]+)", log.read_text()
    )
    return [(float(label), float(rationale)) for label, rationale in found]


@needs_t5x
@pytest.mark.t5x
def test_the_loss_before_the_first_step_is_that_of_transformers(one_row, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    source = pathlib.Path(shutil.copytree(GOLDEN, tmp_path / "checkpoint"))
    folder = epath.Path(tmp_path / "run")
    said: list[str] = []
    resolved = configure(source, folder, *one_row, engine="t5x")
    engine.train(resolved, folder, said.append)
    first, *_, last = losses(folder / engine.LOG)
    expected = LOSS["first_row"]["label"], LOSS["first_row"]["rationale"]
    assert first == pytest.approx(expected, abs=1e-4)
    assert sum(last) < sum(first) - 0.1
    assert "T5X: parameters from" in " ".join(said) and "T5X: compiling" in " ".join(said)
    assert "Saving checkpoint before the training loop starts" in (folder / engine.LOG).read_text()
    # Killed after its last checkpoint, and the source is gone: T5X restores, and ends the same.
    predictions = (folder / "predictions_test.jsonl").read_text()
    (folder / "results.json").unlink()
    shutil.rmtree(source)
    again: list[str] = []
    engine.train(configure(source, folder, *one_row, engine="t5x"), folder, again.append)
    assert not any("parameters from" in line for line in again)
    assert (folder / "predictions_test.jsonl").read_text() == predictions


def test_a_checkpoint_of_another_size_is_refused_before_t5x_starts(one_row, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "require_t5x", lambda: None)
    source = pathlib.Path(shutil.copytree(GOLDEN, tmp_path / "checkpoint"))
    resolved = configure(source, tmp_path / "run", *one_row, engine="t5x")
    assert "VOCAB_SIZE=88" in resolved.overrides  # T5X's own process is told the sizes
    (source / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"model\.safetensors"):
        engine.train(resolved, tmp_path / "run", lambda line: None)
    assert not (tmp_path / "run").exists()
