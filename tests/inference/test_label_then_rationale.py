"""Answers and rationales of students that write the rationale after the label."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from distill.data.examples import Example
from distill.inference import load, rationales
from distill.inference.predictor import Predictor
from distill.student.decoding import greedy_after


@pytest.fixture(scope="module")
def folder(run_dir, tmp_path_factory):
    """The run of twelve steps, as that of a student of METHOD = 'answer_first'."""
    folder = tmp_path_factory.mktemp("answer_first") / "run"
    shutil.copytree(run_dir, folder)
    text = (folder / "config.gin").read_text()
    assert "METHOD = 'step_by_step'" in text
    (folder / "config.gin").write_text(text.replace("'step_by_step'", "'answer_first'"))
    return folder


@pytest.fixture(scope="module")
def rows(run_dir):
    lines = (run_dir / "predictions_test.jsonl").open()
    return [Example(id=row["id"], input=row["input"]) for row in map(json.loads, lines)][:5]


def test_labels_cost_what_those_of_two_tasks_cost(folder, run_dir, rows):
    """The same programs give the same answers: decoding ends at the label's EOS."""
    found, other = (Predictor(path, progress=lambda _: None)(rows) for path in (folder, run_dir))
    assert found == other


@pytest.mark.parametrize("answer", ["decode", "rank"])
def test_a_rationale_continues_the_label_that_is_answered(folder, rows, answer):
    predictor = Predictor(folder, rationale=True, progress=lambda _: None, answer=answer)
    run = load.load_run(folder)
    evaluator, length = run.evaluator(), run.config.data.target_length
    for row, found in zip(rows, predictor(rows), strict=True):
        label = evaluator._encode(found.prediction)
        if len(label) >= length:  # what is decoded has no end that a rationale could follow
            assert answer == "decode" and found.rationale == ""
            continue
        given = np.zeros((1, length), np.int32)
        given[0, : len(label)] = label
        inputs = evaluator.label_inputs([row])[0][None]
        tokens = np.asarray(greedy_after(run.params, run.config.student, inputs, given))[0]
        assert found.rationale == evaluator._text(tokens[len(label) :].tolist()).strip() != ""


def test_a_beam_is_said_to_be_one_of_labels(folder):
    lines: list[str] = []
    for rationale, beam in ((True, 1), (False, 3), (True, 3)):
        assert not lines
        Predictor(folder, beam=beam, rationale=rationale, progress=lines.append)
    assert lines == [
        "--beam=3 searches the labels; METHOD = 'answer_first' writes each rationale after its "
        "label, and rationales are decoded greedily"
    ]


def test_other_labels_have_other_rationales(folder, rows):
    run = load.load_run(folder)
    evaluator = run.evaluator()
    inputs, length = evaluator.label_inputs(rows), run.config.data.target_length
    settings = run.params, run.config.student, evaluator._batches, inputs
    found = {
        label: rationales.decode_after_labels(*settings, [evaluator._encode(label)] * 5, length)
        for label in evaluator.labels
    }
    assert len({str(each) for each in found.values()}) > 1
    full = [[*range(5, 5 + length)]] * 4 + [evaluator._encode(evaluator.labels[0])]
    none = rationales.decode_after_labels(*settings, full, length)
    assert none[:4] == [[]] * 4 and none[4] == found[evaluator.labels[0]][4]
