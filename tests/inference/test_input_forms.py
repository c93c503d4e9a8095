"""Choices of a row become part of its input as they were in training, once."""

from __future__ import annotations

import json

import pytest

from distill.config.data import DataSpec
from distill.config.student import T5Config
from distill.data.examples import Example
from distill.data.mapping.input_forms import ANSWER_CHOICES, PLAIN, complete, list_choices
from distill.data.released.rows import KINDS
from distill.errors import UserError
from distill.inference.evaluator import Evaluator
from distill.training import assets as run_assets
from distill.training.assets import Assets
from tasks import cqa

FIELDS = {"question": "Where is  a boat?", "choices": ["sea", "the  sky"], "answer": "sea"}
STUDENT = T5Config(264, 8, 1, 8, 8, 1, 1)


@pytest.fixture
def trained() -> Example:
    """A row as the training of `cqa` sees it."""
    return KINDS["cqa"].row(FIELDS, "x:1", "x", "train")[0]


def _tokens(form: str, row: Example) -> list[int]:
    spec = DataSpec("cqa", "finetune", vocabulary="bytes", input_length=200)
    assets = Assets("bytes", "", (), (), "exact_match", "", form)
    inputs = Evaluator(spec, STUDENT, assets, 4)._inputs(spec.label_prefix, [row])
    return inputs[0].tolist()


def test_a_row_with_choices_is_asked_as_it_was_trained_on(trained):
    assert trained.input == "Where is a boat?\nAnswer Choices:\n(a) sea\n(b) the sky"
    asked = Example(id="x", input=FIELDS["question"], choices=tuple(FIELDS["choices"]))
    expected = _tokens(ANSWER_CHOICES, trained)
    assert _tokens(cqa.DATASET.input_form, asked) == expected
    assert bytes(t - 3 for t in expected[:-1]).decode() == f"[label] {trained.input}"
    assert _tokens(PLAIN, asked) == _tokens(PLAIN, Example(id="x", input=FIELDS["question"]))


def test_choices_are_listed_once(trained):
    once = complete(ANSWER_CHOICES, trained.input, ("b", "a"))
    assert once == trained.input
    twice = KINDS["cqa"].row(FIELDS | {"choices": ["sea", "sea"]}, "x:1", "x", "train")[0]
    assert twice.input.count("sea") == 2 and twice.choices == ("sea",)
    assert complete(ANSWER_CHOICES, twice.input, twice.choices) == twice.input
    assert complete(ANSWER_CHOICES, "Where?", ()) == "Where?"
    assert list_choices("a\nb", ["c"]) == "a b\nAnswer Choices:\n(a) c"


def test_more_choices_than_letters_are_refused():
    with pytest.raises(UserError, match="row 7: got 27 `choices`, expected at most 26"):
        complete(ANSWER_CHOICES, "Which?", [str(n) for n in range(27)], "row 7")


def test_a_run_folder_says_the_form(tmp_path):
    assets = Assets("bytes", "", (), (), "exact_match", "", ANSWER_CHOICES)
    run_assets.write(tmp_path, assets)
    assert run_assets.read(tmp_path) == assets
    path = tmp_path / run_assets.STUDENT
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"input_form": "letters"}))
    with pytest.raises(UserError, match="does not describe a student"):
        run_assets.read(tmp_path)
    del described["input_form"]  # a folder of before
    path.write_text(json.dumps(described))
    assert run_assets.read(tmp_path).input_form == PLAIN
    run_assets.check_same_assets(tmp_path, assets)
