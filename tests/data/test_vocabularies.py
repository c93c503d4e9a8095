"""Words and T5 pieces get the ids that everything after them relies on."""

from __future__ import annotations

import copy

import pytest
from sentencepiece import sentencepiece_model_pb2

from distill.data.vocabularies import make_vocabulary, padded_size
from distill.errors import UserError
from distill.tickets import generator

T5_FILE = "cc_all.32000.100extra.model"


@pytest.fixture(scope="module")
def words():
    return make_vocabulary("words", words=generator.words())


@pytest.fixture(scope="module")
def t5_path(shared_dir):
    return shared_dir / "data" / "vocab" / T5_FILE


def test_word_ids_are_sorted_after_pad_eos_unknown(words):
    assert (words.pad_id, words.eos_id, words.unk_id) == (0, 1, 2)
    assert words.vocab_size == len(generator.words()) + 3
    assert words.encode(" ".join(generator.words())) == list(range(3, words.vocab_size))
    assert make_vocabulary("words", words=[*generator.words()[::-1], "my"]) == words


def test_every_ticket_survives(words):
    for row in generator.generate("hard", 20, 0, "train"):
        text = f"[label] {row.input}"
        found = words.encode(text)
        assert 2 not in found
        assert words.decode([*found, 1, 7, 0]) == text


def test_unknown_words_are_seen(words):
    assert words.encode("my zeppelin") == [words.encode("my")[0], 2]
    assert words.decode([2, words.encode("my")[0]]) == "<unk> my"
    assert words.uncovered("my zeppelin is a blimp") == "zeppelin"
    assert words.uncovered("my fan") is None


def test_bytes_cover_everything():
    vocabulary = make_vocabulary("bytes")
    assert (vocabulary.pad_id, vocabulary.eos_id) == (0, 1)
    assert vocabulary.decode(vocabulary.encode("é {")) == "é {"
    assert vocabulary.uncovered("é {") is None


def test_t5_pieces(t5_path):
    vocabulary = make_vocabulary("sentencepiece", str(t5_path))
    assert vocabulary.vocab_size == 32_100
    assert vocabulary.encode("<extra_id_0>") == [32_099]
    assert vocabulary.uncovered("a good { text") == "{"
    assert vocabulary.uncovered("a good text") is None


def test_a_t5_copy_with_an_extra_start_piece_is_refused(t5_path, tmp_path):
    model = sentencepiece_model_pb2.ModelProto.FromString(t5_path.read_bytes())
    start = copy.deepcopy(model.pieces[1])
    start.piece = "<s>"
    pieces = [*model.pieces[:2], start, *model.pieces[2:]]
    del model.pieces[:]
    model.pieces.extend(pieces)
    model.trainer_spec.unk_id = 3
    shifted = tmp_path / T5_FILE
    shifted.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"32101 pieces.*extra <s>"):
        make_vocabulary("sentencepiece", str(shifted))


def test_a_t5_copy_without_sentinels_gets_them(t5_path, tmp_path):
    """spiece.model of Hugging Face's folders has 32,000 pieces."""
    model = sentencepiece_model_pb2.ModelProto.FromString(t5_path.read_bytes())
    del model.pieces[32_000:]
    short = tmp_path / "spiece.model"
    short.write_bytes(model.SerializeToString())
    whole, found = (make_vocabulary("sentencepiece", str(path)) for path in (t5_path, short))
    assert (found.vocab_size, found.extra_ids, whole.extra_ids) == (32_100, 100, 0)
    for text in ("<extra_id_0>", "a <extra_id_17> of <extra_id_99>", "Größe 東京 {x} 12,345.67"):
        assert found.encode(text) == whole.encode(text)
        assert found.decode(found.encode(text)) == whole.decode(whole.encode(text))


def test_bad_settings_are_named(tmp_path):
    (tmp_path / "text.model").write_text("no model at all")
    (tmp_path / "empty.model").touch()
    for kind, path, message in (
        ("word", "", r"unknown vocabulary 'word' \(set by macro VOCABULARY\); closest: words"),
        ("sentencepiece", "", "VOCABULARY_PATH"),
        ("sentencepiece", str(tmp_path / "test.model"), r"closest.*text\.model.*VOCABULARY_PATH"),
        ("sentencepiece", str(tmp_path / "text.model"), "not a SentencePiece model"),
        ("sentencepiece", str(tmp_path / "empty.model"), "not a SentencePiece model"),
        ("words", "", "needs the words of the dataset"),
    ):
        with pytest.raises(UserError, match=message):
            make_vocabulary(kind, path)
    with pytest.raises(UserError, match="'two words'"):
        make_vocabulary("words", words=["two words"])


@pytest.mark.parametrize(
    ("n", "padded"),
    [(1, 8), (8, 8), (213, 216), (259, 264), (8191, 8192), (8193, 8320), (32_100, 32_128)],
)
def test_padded_size(n, padded):
    assert padded_size(n) == padded
