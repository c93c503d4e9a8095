"""A write that fails for want of space says which file it was: the system's error does not."""

from __future__ import annotations

import json
import resource

import pytest

from distill.cli import main
from distill.common.atomic import atomic_file
from distill.data.examples import Example
from distill.inference import predictions
from distill.inference.evaluator import Prediction

LIMIT = 1000  # bytes; a file that would grow beyond it fails, as on a full disk


@pytest.fixture
def small_files():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"input": f"text {i}", "label": "ab"[i % 2]}) + "\n" for i in range(100))
    )
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["new", "{out}", "--input={rows}"],
        ["data", "check", "--input={rows}", "--output={out}"],
        ["annotate", "--rows=50", "--output={out}"],
    ],
    ids=["new", "check", "annotate"],
)
def test_commands_name_the_file_that_does_not_fit(command, rows, tmp_path, small_files, capsys):
    out = tmp_path / "out.jsonl"
    assert main([text.format(out=out, rows=rows) for text in command]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == (
        f"distill: {out} cannot be written: File too large; free some space, or choose another "
        "place, and repeat the command"
    )
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_an_answer_that_does_not_fit_names_the_file_of_answers(tmp_path, small_files):
    def answer(block):
        return [Prediction(row.id, row.input, "a", "a" * LIMIT, None, None) for row in block]

    out = tmp_path / "out.jsonl"
    row = Example(id="r", input="text")
    with pytest.raises(OSError, match="File too large") as error:
        predictions.write_predictions(str(out), [row], 1, answer, {}, 5, lambda line: None)
    assert error.value.filename == str(out)


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, atomic_file(tmp_path / "out"):
        (tmp_path / "absent").read_text()
    assert error.value.filename == str(tmp_path / "absent")
