"""A run on the teacher's labels alone: trained and used like any other, and not scored."""

from __future__ import annotations

import json

import pytest

from distill import cli


@pytest.fixture(scope="module")
def trained(micro, tmp_path_factory):
    """(run folder, what training said); the rows have neither gold labels nor a test file."""
    folder = tmp_path_factory.mktemp("not_scored")
    rows = [
        {"input": f"the {thing} {i}", "teacher_label": thing, "rationale": "it says so", "page": i}
        for i, thing in enumerate(["cat", "dog"] * 10)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {
        "TRAIN_FILE": f"{folder}/rows.jsonl",
        "LABEL_SOURCE": "teacher",
        "LABELS": "('cat','dog')",
    }
    own |= {"TRAIN_STEPS": "2", "WARMUP_STEPS": "1", "NUM_LABELS": "0", "EVAL_PERIOD": "0"}
    shrunk = dict(text.split("=", 1) for text in micro if text.split("=")[0] not in _OF_TICKETS)
    settings = [f"--gin.{name}={value}" for name, value in (shrunk | own).items()]
    argv = ["train", "--gin_file=jsonl_step_by_step", f"--run_dir={folder}/run", *settings]
    return folder / "run", argv


_OF_TICKETS = ("NUM_ROWS", "NUM_TEST")


@pytest.mark.slow
def test_a_run_without_gold_labels_is_not_scored(trained, capsys):
    run_dir, argv = trained
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert out == "not scored: there are no test rows with gold labels\n"
    assert "data: 18 training rows, 2 for validation, none for the test; no row left out" in err
    results = json.loads((run_dir / "results.json").read_text())
    assert results["accuracy"] is results["interval"] is results["ranked_accuracy"] is None
    assert results["n_test"] == 0
    card = (run_dir / "MODEL_CARD.md").read_text()
    assert "| test accuracy | not scored: no test rows with gold labels |" in card
    described = json.loads((run_dir / "run.json").read_text())["data"]
    assert described["rows"] == {"train": 18, "validation": 2, "test": 0}
    assert described["sequences"]["rationale"]["sequences"] == 20
    assert cli.main(argv) == 0  # a finished run says the same again
    again = capsys.readouterr()
    assert again.out == out and "is finished" in again.err and "resumed" not in again.err
    assert cli.main(["predict", f"--run_dir={run_dir}", "the dog 3"]) == 0
    assert capsys.readouterr().out.startswith("prediction\tinput\n")
    assert cli.main(["evaluate", f"--run_dir={run_dir}"]) == 2
    said = capsys.readouterr().err
    assert "has no rows with labels: give some with --input=FILE, or score its 2 valid" in said
    assert cli.main(["evaluate", f"--run_dir={run_dir}", "--split=validation"]) == 0
    assert "the labels of the validation rows are the teacher's" in capsys.readouterr().err


def test_gold_labels_need_a_test(trained, capsys):
    _, argv = trained
    argv = [text for text in argv if not text.startswith("--gin.LABEL_SOURCE")]
    assert cli.main([*argv, "--run_dir=nowhere"]) == 2
    assert "macro TEST_FILE is not set" in capsys.readouterr().err
