"""Answers over a closed set: ranked and decoded in one pass, or ranked alone."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from short_answers import CONFIG, make_params

from distill import cli
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.examples import Example
from distill.data.ragged import Ragged
from distill.errors import UserError
from distill.inference import closed_set, row_batches
from distill.inference import evaluator as evaluate
from distill.student.decoding import greedy
from distill.student.tree_scores import score_tree
from distill.training.assets import of_data

LENGTH = 6
INPUTS = Ragged.of([[5 + i, 90 + 3 * i, *range(2, 2 + i), 1] for i in range(9)])


@pytest.fixture(scope="module")
def params():
    return make_params()


@pytest.fixture
def make(monkeypatch):
    """(answer, labels of the dataset) -> an evaluator of batches of 4."""

    def evaluator(answer="decode", labels=(), **settings):
        dataset = datasets.Dataset(name="sums", load=lambda spec: ([], []), labels=lambda _: labels)
        monkeypatch.setitem(datasets._DATASETS, "sums", dataset)
        spec = DataSpec("sums", "finetune", vocabulary="bytes", target_length=LENGTH, **settings)
        return evaluate.Evaluator(spec, CONFIG, of_data(spec), batch_size=4, answer=answer)

    return evaluator


def rows_of(*choices):
    return [Example(id=f"{i}", input="a", choices=c) for i, c in enumerate(choices)]


def decoded_texts(evaluator, params):
    """Each row's greedy answer, decoded by itself."""
    return [
        evaluator._text(np.asarray(greedy(params, CONFIG, ids[None], LENGTH))[0].tolist())
        for ids in INPUTS
    ]


def test_answers_are_those_of_decoding_whatever_the_set_is(make, params, monkeypatch):
    """Sets that hold the row's own answer, other answers, or nothing at all."""
    evaluator = make()
    texts = decoded_texts(evaluator, params)
    assert len(set(texts)) >= 3
    inside = [(text, "other") for text in texts]
    outside = [("nothing", "like it")] * len(texts)
    mixed = [((text, "x"), ("y", "zz", "w"), ())[i % 3] for i, text in enumerate(texts)]
    decodings = []

    def counted(params, config, tokens_BxI, length, *counts):
        decodings.append(np.asarray(tokens_BxI).any(axis=1).sum())
        return greedy(params, config, tokens_BxI, length)

    monkeypatch.setattr(evaluate, "decode_greedily", counted)
    for choices, most in ((inside, 9), (outside, 9), (mixed, 9), ([()] * 9, 9)):
        decodings.clear()
        found = evaluator.rows(params, rows_of(*choices), INPUTS, "gold")
        assert [p.prediction for p in found] == texts
        assert sum(decodings) <= most
        for prediction, labels in zip(found, choices, strict=True):
            assert prediction.ranked_label in labels if labels else prediction.ranked_label is None


@pytest.mark.parametrize("closed", [True, False])
def test_batches_at_the_same_time_change_no_bit(make, params, monkeypatch, closed):
    choices = [("a", "b"), ("nothing",), ("yes", "no")] * 3 if closed else [()] * 9
    found = []
    for in_flight in (1, 2, 3):
        monkeypatch.setattr(row_batches, "_in_flight", lambda count=in_flight: count)
        rows = make().rows(params, rows_of(*choices), INPUTS, "gold", probabilities=True)
        found.append([(row, row.probabilities) for row in rows])
    assert found[0] == found[1] == found[2]


def test_an_answer_in_the_set_is_not_decoded_again(make, params, monkeypatch):
    evaluator = make()
    ended = [
        (text, "other")
        for text, ids in zip(decoded_texts(evaluator, params), INPUTS, strict=True)
        if 1 in np.asarray(greedy(params, CONFIG, ids[None], LENGTH))
    ]
    assert len(ended) >= 2, "some answers should end, or nothing is tested"
    inputs = Ragged.of(
        ids for ids in INPUTS if 1 in np.asarray(greedy(params, CONFIG, ids[None], LENGTH))
    )
    monkeypatch.setattr(evaluate, "decode_greedily", None)  # calling it would fail
    found = evaluator.rows(params, rows_of(*ended), inputs, "gold")
    assert [p.prediction for p in found] == [labels[0] for labels in ended]


def test_memory_bounds_the_rows_of_a_pass_and_changes_no_answer(make, params, monkeypatch):
    choices = [("a", "bc", f"d{i}") for i in range(9)]
    want = make().rows(params, rows_of(*choices), INPUTS, "gold", probabilities=True)
    monkeypatch.setattr(closed_set, "_AT_ONCE", 1)
    got = make().rows(params, rows_of(*choices), INPUTS, "gold", probabilities=True)
    for one, other in zip(got, want, strict=True):
        assert dataclasses.replace(one, probabilities=None) == dataclasses.replace(
            other, probabilities=None
        )
        np.testing.assert_allclose(
            [*one.probabilities.values()], [*other.probabilities.values()], rtol=1e-5
        )


def test_on_one_cpu_logits_do_not_bound_the_rows_of_a_pass(make, params, monkeypatch):
    """They are computed in chunks, so memory that all of them would not fit into is enough."""
    choices = [("a", "bc", f"d{i}") for i in range(9)]
    nodes = 8
    monkeypatch.setattr(closed_set, "_SMALL", 0)  # else a batch of four is scored when encoded
    monkeypatch.setattr(closed_set, "_AT_ONCE", 4 * nodes * CONFIG.num_heads * nodes)
    assert CONFIG.vocab_size > CONFIG.num_heads * nodes
    rows = []

    def counted(params, config, tokens_BxI, *arguments):
        rows.append(len(tokens_BxI))
        return score_tree(params, config, tokens_BxI, *arguments)

    monkeypatch.setattr(closed_set, "score_tree", counted)
    make().rows(params, rows_of(*choices), INPUTS, "gold")
    assert rows == [4, 4, 4]


def test_nodes_without_padding_fit_and_take_few_programs():
    """Of 640 rows whose sets have 1 to 9 labels, the largest together in one batch."""
    rng = np.random.default_rng(0)
    counts = np.sort(rng.integers(1, 10, 640))
    choices = [
        tuple(f"{row} {label}" for label in range(count)) for row, count in enumerate(counts)
    ]
    sets = closed_set.ClosedSets(CONFIG, lambda text: [*text.encode(), 1], choices, LENGTH)
    found = set()
    for start in range(0, 640, 64):
        trees = [sets._trees[labels] for labels in choices[start : start + 64]]
        arrays = sets._arrays(trees)
        at_most = sets._nodes_at_most(arrays, 64)
        assert sum(map(len, trees)) <= at_most <= arrays.tokens_BxN.size
        found.add(at_most)
    assert len(found) < 6
    shared = sets._arrays(trees[:1])
    assert 64 * len(trees[0]) <= sets._nodes_at_most(shared, 64) <= 64 * shared.tokens_BxN.size


def test_ranked_answers_are_not_decoded(make, params, monkeypatch):
    labels = ("ab", "c", "def")
    rows = rows_of(*[()] * len(INPUTS))
    want = [p.ranked_label for p in make(labels=labels).rows(params, rows, INPUTS, "gold")]
    monkeypatch.setattr(evaluate, "decode_greedily", None)
    found = make("rank", labels).rows(params, rows, INPUTS, "gold")
    assert [p.prediction for p in found] == [p.ranked_label for p in found] == want


def test_ranked_answers_need_a_set(make, params):
    rows = rows_of(*[("a",)] * 8, ())
    with pytest.raises(UserError, match="row 8 has no closed set of labels"):
        make("rank").rows(params, rows, INPUTS, "gold")
    with pytest.raises(UserError, match="METHOD = 'single_task'"):
        evaluator = make("rank", ("a", "b"))
        evaluator._spec = dataclasses.replace(evaluator._spec, method="single_task")
        evaluator.rows(params, rows, INPUTS, "gold")


def test_the_flag_answers_with_the_ranked_label(run_dir, capsys):
    """predict and evaluate; a beam is refused."""
    run = f"--run_dir={run_dir}"
    assert cli.main(["predict", run, "--answer=rank", "--json", "my fan seems burnt ."]) == 0
    (row,) = json.loads(capsys.readouterr().out)["predictions"]
    assert row["prediction"] == row["ranked_label"]
    assert cli.main(["evaluate", run, "--answer=rank", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["accuracy"] == scores["ranked_accuracy"]
    assert cli.main(["predict", run, "--answer=rank", "--beam=2", "x"]) == 2
    assert "got both --answer=rank and --beam=2" in capsys.readouterr().err
