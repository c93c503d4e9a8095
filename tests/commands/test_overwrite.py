"""No command replaces its input, or a file that it did not write."""

from __future__ import annotations

import json

import pytest

from distill import cli

ASK = ["annotate", "--prompt=tickets", "--model=simulated-returns", "--progress_seconds=0"]


def _refused(capsys, *argv) -> str:
    capsys.readouterr()
    assert cli.main([*map(str, argv)]) == 2
    return capsys.readouterr().err


def _content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


ROW = json.dumps({"id": "a", "input": "my fan seems burnt .", "label": "repair"}) + "\n"


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A file of rows and others, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "x.dropped.jsonl", "cqa/cqa_train.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(ROW)
    (tmp_path / "link.jsonl").symlink_to("rows.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([*ASK, "--input=rows.jsonl", "--output=rows.jsonl"], "got --output 'rows.jsonl', which"),
        ([*ASK, "--input=rows.jsonl", "--output=./link.jsonl"], "same as --input 'rows.jsonl'"),
        ([*ASK, "--input=rows.jsonl", "--output=o", "--teacher_row=rows.jsonl"], "--teacher_row"),
        ([*ASK, "--input=rows.jsonl", "--output=o", "--batch_write=rows.jsonl"], "--batch_write"),
        ([*ASK, "--input=rows.jsonl", "--output=o", "--teacher_row=o"], "writes that path"),
        ([*ASK, "--raw_dir=.", "--dataset=cqa", "--released_dir=."], "got --released_dir '.'"),
        ([*ASK, "--input=x.dropped.jsonl", "--output=x.jsonl"], "same as --input"),
        (["evaluate", "--run_dir=r", "--input=rows.jsonl", "--output=rows.jsonl"], "--output"),
        (["predict", "--run_dir=r", "--input=rows.jsonl", "--output=link.jsonl"], "same as"),
    ],
)
def test_an_input_is_not_overwritten(argv, said, rows, capsys):
    before = _content(rows)
    message = _refused(capsys, *argv)
    assert said in message and "would overwrite it; choose another" in message
    assert _content(rows) == before


def test_a_name_that_is_no_file_is_no_input(rows, capsys):
    said = _refused(capsys, *ASK[:-2], "--input=rows.jsonl", "--prompt=tickets", "--output=tickets")
    assert "give the model's name" in said


@pytest.mark.parametrize(
    "argv",
    [
        ["annotate", "--rows=5", "--output=notes"],
        [*ASK, "--input=rows.jsonl", "--output=notes"],
        [*ASK, "--input=rows.jsonl", "--output=notes", "--dry_run"],
        [*ASK, "--input=rows.jsonl", "--output=o", "--teacher_row=notes"],
        [*ASK, "--input=rows.jsonl", "--output=o", "--batch_write=notes"],
        ["evaluate", "--run_dir=r", "--output=notes"],
    ],
)
def test_a_foreign_file_is_not_replaced(argv, rows, capsys):
    for text in ("my notes", '{"accuracy": 1}', '{"method": "step_by_step"}'):
        (rows / "notes").write_text(text)
        before = _content(rows)
        message = _refused(capsys, *argv)
        command = f"distill {argv[0]}"
        assert f"notes exists and `{command}` did not write it; choose another --" in message
        assert _content(rows) == before


def test_released_data_are_not_replaced(rows, capsys):
    argv = [*ASK, "--input=rows.jsonl", "--output=o", "--dataset=cqa", "--released_dir=."]
    said = _refused(capsys, *argv)
    assert "cqa_train.json exists and `distill annotate` did not write it; choose another" in said
    (rows / "cqa" / "cqa_train.json").unlink()
    (rows / "cqa" / "llm").mkdir()
    (rows / "cqa" / "llm" / "train_CoT_0.json").write_text("[]")
    assert "train_CoT_0.json exists" in _refused(capsys, *argv)


def test_annotate_replaces_what_it_wrote(rows, capsys):
    argv = ["annotate", "--output=o.jsonl"]
    assert cli.main([*argv, "--rows=5"]) == cli.main([*argv, "--rows=6"]) == 0
    assert len((rows / "o.jsonl").read_text().splitlines()) == 6
    (rows / "o.jsonl").write_text(ROW)
    assert "o.jsonl has changed since `distill annotate` wrote it" in _refused(capsys, *argv)


def test_batches_of_requests_are_written_again(rows):
    argv = [*ASK, "--input=rows.jsonl", "--output=o.jsonl", "--batch_write=b.jsonl"]
    assert cli.main(argv) == cli.main(argv) == 0


def test_evaluate_replaces_its_scores_alone(run_dir, rows, capsys):
    argv = ["evaluate", f"--run_dir={run_dir}", "--output=scores.json"]
    assert cli.main(argv) == cli.main(argv) == 0
    before = _content(run_dir)
    said = _refused(capsys, *argv[:2], f"--output={run_dir}/results.json")
    assert "results.json exists and `distill evaluate` did not write it" in said
    assert _content(run_dir) == before


def test_a_folder_of_other_files_is_no_run_folder(micro, rows, capsys):
    macros = [f"--gin.{text}" for text in micro]
    before = _content(rows)
    for command in (
        ["train", "--run_dir=cqa"],
        ["convert", "--from=t5x", "--to=native", "--checkpoint=x", "--run_dir=cqa"],
    ):
        said = _refused(capsys, *command, "--gin_file=tickets_step_by_step", *macros)
        assert "cqa is not empty (it contains cqa_train.json) and is not a run folder" in said
        assert "choose another --run_dir, such as cqa/run" in said
    assert _content(rows) == before and not (rows / "cqa" / "lock").exists()


def test_rows_of_an_earlier_version_can_be_written_again(rows, capsys):
    (rows / "o.jsonl").write_text(ROW)  # without o.jsonl.settings.json
    argv = [*ASK, "--input=rows.jsonl", "--output=o.jsonl"]
    assert "--reparse" not in _refused(capsys, *argv)
    (rows / "o.store").mkdir()
    said = _refused(capsys, *argv)
    assert "If an earlier version of `distill annotate` wrote it, delete it and give the" in said
    assert "again with --reparse: it writes the rows again from the store o.store" in said
    (rows / "o.jsonl.settings.json").write_text('{"command": "another"}')
    assert "--reparse" not in _refused(capsys, *argv)
