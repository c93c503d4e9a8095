"""A student's answer counts by the rule of its dataset."""

from __future__ import annotations

import numpy as np
import pytest

from distill.config.data import DataSpec
from distill.config.student import T5Config
from distill.data import datasets
from distill.data.examples import Example
from distill.data.ragged import Ragged
from distill.data.released import equations
from distill.inference import evaluator as evaluate
from distill.training.assets import of_data


@pytest.mark.parametrize(
    ("correct", "hits"),
    [(None, [False, True, None]), (equations.same_value, [True, True, None])],
    ids=["to the letter", "by value"],
)
def test_the_evaluator_asks_the_dataset(monkeypatch, correct, hits):
    rule = {"correct": correct} if correct else {}
    sums = datasets.Dataset(name="sums", load=lambda spec: ([], []), **rule)
    monkeypatch.setitem(datasets._DATASETS, "sums", sums)
    spec = DataSpec("sums", "finetune", vocabulary="bytes")
    sizes = {"vocab_size": 264, "embed_dim": 4, "num_heads": 1, "head_dim": 4, "mlp_dim": 4}
    config = T5Config(num_encoder_layers=1, num_decoder_layers=1, **sizes)
    evaluator = evaluate.Evaluator(spec, config, of_data(spec), batch_size=4)
    decoded = np.array([[*evaluator.vocabulary.encode("(6 / 2)"), 1, 9]])
    monkeypatch.setattr(evaluate, "decode_greedily", lambda p, c, x, *_: decoded.repeat(len(x), 0))
    golds = ("( 1.0 + 2.0 )", "(6 / 2)", None)
    rows = [Example(id=f"{i}", input="a", label=gold) for i, gold in enumerate(golds)]
    found = evaluator.rows({}, rows, Ragged.of([[5, 1]] * 3), "gold")
    assert [p.correct for p in found] == hits
    assert {p.prediction for p in found} == {"(6 / 2)"}
    assert evaluate.summarize_predictions(found[:2])["accuracy"] == sum(hits[:2]) / 2


def test_seqio_counts_by_the_same_rule():
    from distill.data.seqio_tasks import label_metric

    targets, predictions = ["( 3.0 )", "4", "5"], ["2 + 1", "4", "(5"]
    found = label_metric(equations.same_value)(targets, predictions)
    assert found["accuracy"] == 2 / 3 and found["n"] == 3
    assert found["accuracy_low"] < 2 / 3 < found["accuracy_high"]
