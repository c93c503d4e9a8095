"""Exported folders in transformers: the same logits, ids and labels."""

from __future__ import annotations

import random

import numpy as np
import pytest

from distill.data.vocabularies import encode_input
from distill.export.huggingface import write_huggingface
from distill.student.decoding import greedy
from distill.student.network import apply_student

transformers = pytest.importorskip("transformers", reason="needs transformers and torch")
torch = pytest.importorskip("torch", reason="needs torch")

PROBES = (
    "",
    "[label] my fan seems burnt . i bought it in march .",
    "  leading, trailing and   inner   blanks\ttabs\n\nlines  ",
    "Ünïcödé ﬁ ½ ™ 日本語 😀 … “quotes” e\u0301",
    "\u00a0\u200b\u3000\ufeff a\u2028b\x1cc\x1dd\x1ee\x1ff\x0bg\x0ch",
    "▁weird ▁x <b> &amp; 12,345.67 $%^&*()",
    "Q\nAnswer Choices:\n(a) x\n(b) y",
)


def probes() -> list[str]:
    """Texts of any characters, of those that no tokenizer splits at alone: U+0085 is not one."""
    draw = random.Random(1)
    ranges = ((32, 126), (160, 0x2FFF), (0x3000, 0x9FFF))
    signs = [[chr(c) for c in range(low, high)] for low, high in ranges]

    def text() -> str:
        return "".join(draw.choice([*map(draw.choice, signs), " "]) for _ in range(30))

    return [*PROBES, *(text() for _ in range(100))]


@pytest.mark.parametrize("name", ["t5", "t5_1_1", "tied_unscaled", "byt5_depths", "deep_decoder"])
@pytest.mark.parametrize(
    "shard_bytes", [pytest.param(5 * 10**9, marks=pytest.mark.slow), 20_000], ids=["one", "several"]
)
def test_same_logits_and_ids(family, name, shard_bytes, tmp_path):
    run = family(name)
    student, length = run.config.student, run.config.data.target_length
    write_huggingface(run, tmp_path / "out", shard_bytes)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    draw = np.random.default_rng(0)
    inputs_BxI = draw.integers(2, student.vocab_size, (4, 12)).astype(np.int32)
    inputs_BxI[0, 7:] = 0
    targets_BxT = draw.integers(2, student.vocab_size, (4, 9)).astype(np.int32)
    shifted_BxT = np.pad(targets_BxT[:, :-1], ((0, 0), (1, 0)))
    batch = {
        "encoder_input_tokens": inputs_BxI,
        "decoder_input_tokens": shifted_BxT,
        "decoder_target_tokens": targets_BxT,
    }
    ours = apply_student(student, run.params, batch, deterministic=True)
    given = {
        "input_ids": torch.tensor(inputs_BxI).long(),
        "attention_mask": torch.tensor(inputs_BxI != 0).long(),
    }
    with torch.no_grad():
        theirs = model(**given, decoder_input_ids=torch.tensor(shifted_BxT).long()).logits.numpy()
        answers = model.generate(**given).numpy()[:, 1:]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    assert np.ptp(theirs) > 1  # not all alike
    expected = np.asarray(greedy(run.params, student, inputs_BxI, length))
    np.testing.assert_array_equal(answers, expected[:, : answers.shape[1]])
    assert not expected[:, answers.shape[1] :].any()


@pytest.mark.parametrize(
    "kind",
    [*(pytest.param(kind, marks=pytest.mark.slow) for kind in ("words", "bytes")), "sentencepiece"],
)
def test_same_ids_and_labels_of_texts(
    with_vocabulary, texts_of, answers_of, kind, tmp_path, labels_of_card
):
    """From the card's own lines: prefix, tokenizer, generate, decode."""
    run = with_vocabulary(kind)
    write_huggingface(run, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    vocabulary = run.assets.vocabulary()
    for text in probes():
        assert tokenizer(text).input_ids == encode_input(vocabulary, text), text
    card = (tmp_path / "out" / "README.md").read_text()
    texts = texts_of(run)
    labels = labels_of_card(card, tmp_path / "out", texts)
    expected = answers_of(run, texts)
    assert len(set(expected)) > 6
    for theirs, ours in zip(labels, expected, strict=True):
        # skip_special_tokens leaves these out
        if not any(name in ours for name in ("<unk>", "⁇", "<extra_id")):
            assert theirs.strip() == ours


def test_pieces_with_bytes_for_what_they_lack(with_vocabulary, tmp_path):
    """As in mT5's model."""
    run = with_vocabulary("byte_fallback")
    write_huggingface(run, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    vocabulary = run.assets.vocabulary()
    for text in probes():
        ids = encode_input(vocabulary, text)
        assert tokenizer(text).input_ids == ids, text
        assert tokenizer.decode(ids, skip_special_tokens=True) == vocabulary.decode(ids)
    assert any(vocabulary.processor.IsByte(id_) for id_ in encode_input(vocabulary, "日"))


def test_inputs_are_cut_alike(with_vocabulary, tmp_path):
    run = with_vocabulary("bytes")
    write_huggingface(run, tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("x" * 100, truncation=True).input_ids
    assert len(ids) == run.config.data.input_length == 64 and ids[-1] == 1


def test_the_real_vocabulary(shared_dir, tmp_path):
    from etils import epath

    from distill.data.vocabularies import make_vocabulary
    from distill.export.tokenizer_files import write_tokenizer

    (path,) = shared_dir.rglob("cc_all.32000.100extra.model")
    vocabulary = make_vocabulary("sentencepiece", str(path))
    write_tokenizer(epath.Path(tmp_path), vocabulary, 32_128, path.read_bytes(), 512)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    for is_fast in (True, False):
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, use_fast=is_fast)
        assert len(tokenizer) == 32_100
        assert tokenizer("<extra_id_0> <extra_id_99>").input_ids[::-1][1:2] == [32_000]
        for text in probes():
            assert tokenizer(text).input_ids == encode_input(vocabulary, text), text
