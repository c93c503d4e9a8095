"""A file of predictions: whole, in order, and the same bytes wherever it was interrupted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.examples import Example
from distill.errors import UserError
from distill.inference import predictions
from distill.inference.evaluator import Prediction

ROWS = [Example(id=f"r{i}", input="täxt " * (i % 5 + 1), label="a") for i in range(23)]
MADE_BY = {"parameters": "p", "beam": 1}


class Answers:
    """Answers that depend on the block they are given in, as a batch's last digits may."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.blocks: list[int] = []
        self.fail_at = fail_at

    def __call__(self, rows):
        if len(self.blocks) == self.fail_at:
            raise KeyboardInterrupt
        self.blocks.append(len(rows))
        ids = " ".join(row.id for row in rows)
        return [
            Prediction(row.id, row.input, "a", f"{ids} ä", i % 2 == 0, None)
            for i, row in enumerate(rows)
        ]


def _write(path, rows=ROWS, answers=None, made_by=MADE_BY, block_rows=5, say=lambda line: None):
    answers = answers or Answers()
    return predictions.write_predictions(
        str(path), rows, len(ROWS), answers, made_by, block_rows, say
    )


def test_a_record_has_the_teachers_words_beside_the_students():
    row = Example("a", "x", "no", "yes", "because", extra={"probability": 2, "page": 3})
    shares = {"yes": 1 / 3, "no": 2 / 3}
    answer = Prediction("a", "x", "no", "yes", False, "no", extra=row.extra, probabilities=shares)
    common = {"id": "a", "input": "x", "gold": "no", "prediction": "yes", "correct": False}
    common |= {"ranked_label": "no", "probability": 0.666667}
    of_row = {"row_probability": 2, "page": 3}
    assert predictions.to_prediction_record(answer) == common | of_row
    teacher = {"teacher_label": "yes", "teacher_rationale": "because"}
    assert predictions.to_prediction_record(answer, row) == common | teacher | of_row


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "deep" / "out.jsonl"
    lines: list[str] = []
    result = _write(path, iter(ROWS), say=lines.append)
    assert result == {
        "output": str(path),
        "rows": 23,
        "resumed_at": 0,
        "labeled": 23,
        "correct": 14,
    }
    assert len(lines) == 5 and lines[0].startswith("answering the rows: 5/23 rows ")
    assert "rows/s  ETA 00:" in lines[0]
    return path


def test_answers_stand_in_the_order_of_the_rows(whole):
    records = [json.loads(line) for line in whole.open()]
    assert [record["id"] for record in records] == [row.id for row in ROWS]
    assert records[7]["prediction"] == "r5 r6 r7 r8 r9 ä"


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, 5000))
def test_a_file_cut_anywhere_ends_with_the_same_bytes(whole, tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "out.jsonl"
    content = whole.read_bytes()
    cut %= len(content) + 1
    path.write_bytes(content[:cut])
    side = predictions.SETTINGS
    (path.parent / f"out.jsonl{side}").write_bytes((whole.parent / f"out.jsonl{side}").read_bytes())
    answers, there = Answers(), content[:cut].count(b"\n")
    result = _write(path, answers=answers)
    assert path.read_bytes() == content
    assert (result["resumed_at"], result["rows"], result["correct"]) == (there, 23, 14)
    assert answers.blocks == [5, 5, 5, 5, 3][there // 5 :] or there == 23


def test_an_interrupted_run_keeps_its_whole_blocks(whole, tmp_path):
    path = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        _write(path, answers=Answers(fail_at=2))
    assert path.read_bytes().count(b"\n") == 10
    assert _write(path)["resumed_at"] == 10
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"made_by": {**MADE_BY, "beam": 4}}, "beam: was 1, now 4"),
        ({"made_by": {**MADE_BY, "parameters": "q"}}, "parameters: was 'p', now 'q'"),
        ({"block_rows": 6}, "block_rows: was 5, now 6"),
        (
            {"rows": [Example(id="r0", input="new")]},
            ":1 answers row 'r0'.*the text of this row is another one now",
        ),
        ({"rows": ROWS[1:]}, ":1 answers row 'r0', but the input has row 'r1' there"),
        ({"rows": ROWS[:20]}, "more lines than the input's 20 rows"),
    ],
)
def test_another_input_or_setting_is_refused(whole, change, message):
    before = whole.read_bytes()
    with pytest.raises(UserError, match=message):
        _write(whole, **change)
    assert whole.read_bytes() == before


def test_what_is_not_ours_is_refused(whole, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="did not write it"):
        _write(tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "precious"
    with pytest.raises(UserError, match="is not a regular file"):
        _write(tmp_path)
    with pytest.raises(UserError, match="expected a local file"):
        _write("gs://bucket/out.jsonl")
    (tmp_path / f"mine.txt{predictions.SETTINGS}").write_text("[1]")
    with pytest.raises(UserError, match="does not record how"):
        _write(tmp_path / "mine.txt")


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "out.jsonl"
    _write(path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"{}", *lines[2:]]))
    with pytest.raises(UserError, match=r"out.jsonl:2: not a prediction record"):
        _write(path)


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "out.jsonl"

    def answer_and_write_again(rows):
        with pytest.raises(UserError, match="another process is writing"):
            _write(path)
        return Answers()(rows)

    assert _write(path, answers=answer_and_write_again)["rows"] == 23
