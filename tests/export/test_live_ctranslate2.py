"""Exported folders in CTranslate2: the same probabilities, beams and labels."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest

from distill import cli
from distill.data.examples import Example
from distill.export.comparison import target_scores
from distill.export.ctranslate2 import write_ctranslate2
from distill.export.huggingface import write_huggingface

ctranslate2 = pytest.importorskip("ctranslate2", reason="needs ctranslate2")
transformers = pytest.importorskip("transformers", reason="needs transformers and torch")
torch = pytest.importorskip("torch", reason="needs torch")


class Folder:
    """A translator by ids."""

    def __init__(self, path) -> None:
        self.translator = ctranslate2.Translator(str(path), device="cpu")
        self.names = json.loads((path / "shared_vocabulary.json").read_text())

    def texts(self, rows) -> list[list[str]]:
        return [[self.names[id_] for id_ in row if id_] for row in rows.tolist()]

    def beams(self, inputs_BxI, length) -> list[list[str]]:
        settings = {"beam_size": 4, "length_penalty": 0, "min_decoding_length": 0}
        results = self.translator.translate_batch(
            self.texts(inputs_BxI), max_decoding_length=length, **settings
        )
        return [result.hypotheses[0] for result in results]

    def scores(self, inputs_BxI, labels_CxT) -> np.ndarray:
        labels = [[name for name in row if name != "</s>"] for row in self.texts(labels_CxT)]
        inputs = self.texts(inputs_BxI)
        pairs = [(row, label) for row in inputs for label in labels]
        results = self.translator.score_batch(*map(list, zip(*pairs, strict=True)))
        return np.array([sum(r.log_probs) for r in results]).reshape(len(inputs), -1)


def scores_of(run, inputs_BxI, labels_CxT) -> np.ndarray:
    """The student's log-probability of each label for each input, [B, C]."""
    count = len(labels_CxT)
    inputs, labels = np.repeat(inputs_BxI, count, 0), np.tile(labels_CxT, (len(inputs_BxI), 1))
    scores = target_scores(run.params, run.config.student, inputs, labels)
    return np.asarray(scores).reshape(len(inputs_BxI), count)


def beams_of_transformers(path, inputs_BxI, length) -> list[list[int]]:
    """Ids of its beam search without a length penalty; T5X's counts ended beams otherwise."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(path)
    inputs = torch.tensor(inputs_BxI).long()
    settings = {"num_beams": 4, "length_penalty": 0.0, "max_new_tokens": length}
    answers = model.generate(inputs, attention_mask=(inputs != 0).long(), **settings)
    rows = answers[:, 1:].tolist()
    return [row[: row.index(1)] if 1 in row else row for row in rows]


@pytest.mark.parametrize("name", ["t5", "t5_1_1", "tied_unscaled", "byt5_depths", "deep_decoder"])
def test_same_probabilities_and_beams(family, name, tmp_path):
    run = family(name)
    student, length = run.config.student, 12
    draw = np.random.default_rng(0)
    inputs_BxI = draw.integers(3, student.vocab_size, (8, 12)).astype(np.int32)
    inputs_BxI[0, 7:] = 0
    labels_CxT = draw.integers(3, student.vocab_size, (5, 4)).astype(np.int32)
    labels_CxT[:, 3] = 1
    labels_CxT[0, 2:] = 1, 0
    expected = scores_of(run, inputs_BxI, labels_CxT)
    write_huggingface(run, tmp_path / "hf")
    beams = beams_of_transformers(tmp_path / "hf", inputs_BxI, length)
    assert len(set(map(tuple, beams))) > 3

    write_ctranslate2(run, tmp_path / "out")
    folder = Folder(tmp_path / "out")
    np.testing.assert_allclose(folder.scores(inputs_BxI, labels_CxT), expected, rtol=0, atol=1e-3)
    assert folder.beams(inputs_BxI, length) == [[folder.names[i] for i in row] for row in beams]


def test_the_converter_alone_scales_what_is_not_to_be_scaled(family, tmp_path):
    """What the correction is for; when the converter is right by itself, it may go."""
    from ctranslate2.converters import TransformersConverter

    run = family("t5_1_1")
    write_huggingface(run, tmp_path / "hf")
    TransformersConverter(str(tmp_path / "hf")).convert(str(tmp_path / "alone"))
    write_ctranslate2(run, tmp_path / "ours")
    inputs, labels = np.array([[5, 6, 7, 1]]), np.array([[9, 8, 1]])
    expected = scores_of(run, inputs, labels)
    ours, alone = (Folder(tmp_path / name).scores(inputs, labels) for name in ("ours", "alone"))
    assert abs(ours - expected).max() < 1e-3
    if int(transformers.__version__.split(".")[0]) >= 5:
        assert abs(alone - expected).max() > 0.1


@pytest.mark.parametrize(
    "kind",
    [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("words", "bytes")), "sentencepiece"],
)
def test_the_cards_lines_answer_alike(
    with_vocabulary, texts_of, answers_of, kind, tmp_path, labels_of_card
):
    run = with_vocabulary(kind)
    texts = texts_of(run)
    rows = [Example(id=str(index), input=text) for index, text in enumerate(texts)]
    _, found = write_ctranslate2(run, tmp_path / "out", rows=rows)
    assert (found.rows, found.same) == (24, 24) and 0 < found.largest_error < 1e-3
    card = (tmp_path / "out" / "README.md").read_text()
    assert str(found) in card
    labels = labels_of_card(card, tmp_path / "out", texts)
    expected = answers_of(run, texts)
    assert len(set(expected)) > 6
    for theirs, ours in zip(labels, expected, strict=True):
        if not any(name in ours for name in ("<unk>", "⁇", "<extra_id")):
            assert theirs.strip() == ours


def test_the_command_tells_of_int8(run_dir, tmp_path, capsys):
    argv = ["export", "--to=ctranslate2", f"--run_dir={run_dir}", "--quantization=int8", "--json"]
    assert cli.main([*argv, f"--output={tmp_path}/out"]) == 0
    found = json.loads(capsys.readouterr().out)["comparison"]
    assert found["rows"] == 24 and found["scored"] == 24 * 4
    assert 1e-5 < found["largest_error"] < 1  # not the weights of float32
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"input": "my fan seems burnt ."}\n')
    assert cli.main([*argv[:-1], f"--output={tmp_path}/two", f"--input={rows}"]) == 0
    assert "of 1 row (" in capsys.readouterr().out
    assert cli.main([*argv, f"--output={tmp_path}/x", f"--input={tmp_path}/none.jsonl"]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_another_student_is_noticed(run, family, tmp_path, monkeypatch):
    """The comparison compares: one with another's parameters disagrees."""
    from distill.export import ctranslate2 as module

    other = dataclasses.replace(run, params=jax.tree.map(lambda leaf: leaf[::-1], run.params))
    monkeypatch.setattr(module, "compare", lambda _, *others: compare(other, *others))
    compare = __import__("distill.export.comparison", fromlist=["compare"]).compare
    rows = [Example(id=str(i), input=f"my fan {word} .") for i, word in enumerate("abcdefgh")]
    _, found = write_ctranslate2(run, tmp_path / "out", rows=rows)
    assert found.same < found.rows and found.largest_error > 1
