"""The native engine from end to end, on a run of twelve steps."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from distill import cli
from distill.config import resolve
from distill.engines import native
from distill.errors import UserError
from distill.inference import load, scoring

EXPERIMENT = "tickets_step_by_step"  # of the fixtures `resolved` and `run_dir`


def _content(folder: pathlib.Path) -> list[str]:
    """Everything of a run that must not differ between equal seeds."""
    results = json.loads((folder / "results.json").read_text())
    del results["seconds"]
    names = ("metrics.jsonl", "predictions_test.jsonl", "config.gin")
    return [json.dumps(results), *((folder / name).read_text() for name in names)]


def test_the_run_folder_says_what_happened(run_dir):
    results = json.loads((run_dir / "results.json").read_text())
    assert results["n_test"] == 24 and results["method"] == "step_by_step"
    low, high = results["interval"]
    assert 0 <= low <= results["accuracy"] <= high <= 1
    rows = [json.loads(line) for line in (run_dir / "predictions_test.jsonl").open()]
    assert sum(row["correct"] for row in rows) / 24 == pytest.approx(results["accuracy"])
    names = {"id", "input", "gold", "prediction", "correct", "ranked_label", "probability"}
    assert names == set(rows[0])
    metrics = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    assert [m["step"] for m in metrics if "loss" in m] == [2, 4, 6, 8, 10, 12]
    assert [m["step"] for m in metrics if "validation_accuracy" in m] == [6, 12]
    first = metrics[0]
    assert first["loss"] == pytest.approx(
        0.3 * first["loss_label"] + 0.7 * first["loss_rationale"], rel=1e-5
    )
    assert list(run_dir.glob("events.out.tfevents.*"))
    line = (run_dir / "lines.txt").read_text()
    assert re.search(r"4/12 steps .*steps/s, loss \d.*label \d.*rationale \d.*  ETA 00:", line)


def test_equal_seeds_give_equal_runs(resolved, run_dir, tmp_path):
    native.train(resolved, tmp_path / "b", lambda line: None)
    assert _content(tmp_path / "b") == _content(run_dir)


def test_other_seeds_give_other_runs(micro, run_dir, tmp_path):
    other = resolve.resolve([EXPERIMENT], (*micro, "SEED=1"))
    native.train(other, tmp_path / "c", lambda line: None)
    assert _content(tmp_path / "c") != _content(run_dir)


@pytest.mark.slow  # test_killed.py kills such a run at three other moments
def test_a_killed_run_ends_like_the_undisturbed_one(micro, run_dir, tmp_path, train_command):
    folder = tmp_path / "killed"
    command = train_command(folder, micro)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ)
    deadline = time.monotonic() + 180
    while not list(folder.glob("checkpoints/4/_CHECKPOINT_METADATA")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "results.json").exists(), "the run ended before it could be killed"
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"resumed at step (4|8)", done.stderr)
    assert _content(folder) == _content(run_dir)


def test_a_finished_run_is_not_trained_again(resolved, run_dir):
    before = _content(run_dir)
    lines: list[str] = []
    native.train(resolved, run_dir, lines.append)
    assert len(lines) == 1 and "finished" in lines[0]
    assert _content(run_dir) == before


def test_a_folder_of_another_configuration_is_refused(micro, run_dir):
    other = resolve.resolve([EXPERIMENT], (*micro, "LEARNING_RATE=0.5"))
    with pytest.raises(UserError, match=r"LEARNING_RATE: 0.004 in the folder, 0.5 now"):
        native.train(other, run_dir, lambda line: None)


def test_a_checkpoint_of_another_size_is_refused(run_dir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    text = (other / "config.gin").read_text()
    (other / "config.gin").write_text(text.replace("MLP_DIM = 16", "MLP_DIM = 24"))
    with pytest.raises(
        UserError, match=r"has another size: .*wi_0/kernel is \(16, 16\) there"
    ) as e:
        scoring.evaluate(other, "test")
    assert "config.gin" in str(e.value) and "macro" not in str(e.value)  # cannot be set here


def test_a_t5x_run_without_a_checkpoint_is_refused(run_dir, tmp_path):
    (tmp_path / "t5x").mkdir()
    for name in ("config.gin", "student.json"):
        shutil.copy(run_dir / name, tmp_path / name)
    shutil.copytree(run_dir / "vocabulary", tmp_path / "vocabulary")
    with pytest.raises(UserError, match=r"no checkpoint in .*/t5x: train this run first"):
        load.load_run(tmp_path)


def test_evaluate_reproduces_the_results(run_dir, capsys):
    assert cli.main(["evaluate", f"--run_dir={run_dir}", "--split=test", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    results = json.loads((run_dir / "results.json").read_text())
    assert scores["accuracy"] == results["accuracy"] and scores["n"] == 24


def test_predict_answers_as_the_test_did(run_dir, capsys):
    rows = [json.loads(line) for line in (run_dir / "predictions_test.jsonl").open()][:3]
    argv = ["predict", f"--run_dir={run_dir}", "--json", *(row["input"] for row in rows)]
    assert cli.main(argv) == 0
    answers = json.loads(capsys.readouterr().out)["predictions"]
    assert [a["prediction"] for a in answers] == [row["prediction"] for row in rows]
    assert [a["ranked_label"] for a in answers] == [row["ranked_label"] for row in rows]


@pytest.mark.parametrize(
    "experiment",
    [pytest.param("tickets_finetune", marks=pytest.mark.slow), "tickets_noisy_distill_labels"],
)
def test_one_task_methods_train(experiment, micro, tmp_path):
    resolved = resolve.resolve(
        [experiment], (*micro, "TRAIN_STEPS=2", "WARMUP_STEPS=1", "EVAL_PERIOD=0")
    )
    results = native.train(resolved, tmp_path / "run", lambda line: None)
    assert results["label_source"] == resolved.run.data.label_source


def test_single_task_writes_rationale_then_label(micro, tmp_path):
    resolved = resolve.resolve(
        ["tickets_finetune", "gin/methods/single_task.gin"],
        (*micro, "TRAIN_STEPS=2", "WARMUP_STEPS=1", "EVAL_PERIOD=0"),
    )
    native.train(resolved, tmp_path / "run", lambda line: None)
    from distill.data import cache
    from distill.data.cache import vocabulary_of

    spec = resolved.run.data
    tokens = cache.load_cache(spec).tokens["train", "label", "targets"][0]
    row = cache.load_cache(spec).rows["train"][0]
    text = vocabulary_of(spec).decode(tokens.tolist())
    assert text.strip() == f"{row.rationale} [label] {row.label}"
    assert spec.answer(text) == row.label


def test_predict_names_words_that_it_does_not_know(run_dir, capsys):
    row = json.loads((run_dir / "predictions_test.jsonl").open().readline())
    argv = ["predict", f"--run_dir={run_dir}", row["input"], row["input"] + " zyzzyva"]
    assert cli.main(argv) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "VOCABULARY" in line]
    assert len(warnings) == 1 and "'zyzzyva' in row text/1" in warnings[0]
