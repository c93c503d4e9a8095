"""A folder's vocabulary is compared with what the data are tokenized with."""

from __future__ import annotations

import io
import json

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from distill.data.vocabularies import PieceVocabulary, make_vocabulary
from distill.errors import UserError
from distill.huggingface import tokenizer

TEXTS = ["my kettle arrived broken", "asks where 12 things are", "Größe 3,5", "[label] refund"] * 9


def train(**settings) -> bytes:
    model = io.BytesIO()
    arguments = {"vocab_size": 60, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    arguments |= {"hard_vocab_limit": False, "pad_piece": "<pad>", "minloglevel": 2, **settings}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, **arguments
    )
    return model.getvalue()


@pytest.fixture(scope="module")
def pieces():
    return train(normalization_rule_name="nmt_nfkc")


@pytest.fixture
def folder(pieces, tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "spiece.model").write_bytes(pieces)
    return tmp_path / "hf"


def changed(pieces, change) -> bytes:
    model = sentencepiece_model_pb2.ModelProto.FromString(pieces)
    change(model)
    return model.SerializeToString()


def vocabulary(content: bytes, tmp_path) -> PieceVocabulary:
    path = tmp_path / "data.model"
    path.write_bytes(content)
    return PieceVocabulary(str(path))


def table(pieces: bytes, sentinels: int = 2) -> str:
    """tokenizer.json, as far as it is read."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    size = processor.GetPieceSize()
    vocab = [[processor.IdToPiece(i), processor.GetScore(i)] for i in range(size)]
    added = [
        {"id": size + i, "content": f"<extra_id_{sentinels - 1 - i}>"} for i in range(sentinels)
    ]
    model = {"type": "Unigram", "unk_id": 2, "vocab": vocab}
    return json.dumps({"added_tokens": added, "model": model})


def _swap(model):
    one, other = model.pieces[30], model.pieces[31]
    one.piece, other.piece = other.piece, one.piece


def _score(model):
    model.pieces[30].score -= 0.5


def _remove(model):
    del model.pieces[-1]


def _lower(model):
    model.normalizer_spec.CopyFrom(
        sentencepiece_model_pb2.ModelProto.FromString(
            train(normalization_rule_name="nmt_nfkc_cf")
        ).normalizer_spec
    )


def test_the_same_model_agrees_wherever_it_lies(pieces, folder, tmp_path):
    assert tokenizer.vocabulary_of(folder) == ("sentencepiece", str(folder / "spiece.model"))
    assert tokenizer.check_vocabulary(folder, "sentencepiece", vocabulary(pieces, tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_swap, r"spiece\.model has the piece .* at id 30, but data has"),
        (_score, r"at id 30, but data has .* \(score "),
        (_remove, r"pieces, but data has"),
        (_lower, r"encodes .* as .*, but data as"),
    ],
)
def test_another_model_is_refused(change, message, pieces, folder, tmp_path):
    other = vocabulary(changed(pieces, change), tmp_path)
    with pytest.raises(UserError, match=message):
        tokenizer.check_vocabulary(folder, "sentencepiece", other, "data")


@pytest.mark.parametrize("change", [_swap, _score, _remove])
def test_tokenizer_json_alone_is_compared_by_its_pieces(
    change, pieces, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(tokenizer.importlib.util, "find_spec", lambda name: None)
    (folder / "spiece.model").unlink()
    (folder / "tokenizer.json").write_text(table(pieces))
    assert tokenizer.vocabulary_of(folder) == ("sentencepiece", "")
    same = vocabulary(pieces, tmp_path)
    assert tokenizer.check_vocabulary(folder, "sentencepiece", same) is None
    other = vocabulary(changed(pieces, change), tmp_path)
    with pytest.raises(UserError, match=r"tokenizer\.json has .*set --vocabulary_path to"):
        tokenizer.check_vocabulary(folder, "sentencepiece", other)


def test_byt5_needs_bytes(folder, pieces, tmp_path):
    (folder / "spiece.model").unlink()
    settings = folder / "tokenizer_config.json"
    settings.write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert tokenizer.vocabulary_of(folder) == ("bytes", "")
    assert tokenizer.check_vocabulary(folder, "bytes", make_vocabulary("bytes")) is None
    with pytest.raises(UserError, match=r"VOCABULARY = 'sentencepiece', but .*'bytes' \(tok"):
        tokenizer.check_vocabulary(folder, "sentencepiece", vocabulary(pieces, tmp_path))


def test_another_kind_and_a_folder_that_does_not_say(folder):
    words = make_vocabulary("bytes")
    with pytest.raises(UserError, match=r"'bytes', but .*'sentencepiece' \(spiece\.model\)"):
        tokenizer.check_vocabulary(folder, "bytes", words)
    (folder / "spiece.model").unlink()
    assert "was not checked" in tokenizer.check_vocabulary(folder, "bytes", words)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spiece.model", "text", r"spiece\.model is not a SentencePiece model"),
        ("tokenizer.json", "{", r"tokenizer\.json: not JSON"),
        ("tokenizer.json", "[]", "got a JSON list, expected an object"),
        ("tokenizer.json", '{"model": {"type": "BPE"}}', "type 'BPE', expected 'Unigram'"),
        ("tokenizer.json", '{"model": {"type": "Unigram"}}', "does not list its pieces"),
        ("tokenizer_config.json", "{", r"tokenizer_config\.json: not JSON"),
    ],
)
def test_damaged_files_are_named(name, content, message, folder, pieces, tmp_path):
    (folder / "spiece.model").unlink()
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=message):
        tokenizer.check_vocabulary(folder, "sentencepiece", vocabulary(pieces, tmp_path))


def test_sentinels_of_t5s_own_model_and_of_the_copy_without_them(shared_dir, tmp_path):
    whole = shared_dir / "data" / "vocab" / "cc_all.32000.100extra.model"

    def cut(model):
        del model.pieces[32_000:]

    (tmp_path / "spiece.model").write_bytes(changed(whole.read_bytes(), cut))
    for path in (whole, tmp_path / "spiece.model"):
        found = make_vocabulary("sentencepiece", str(path))
        assert tokenizer.check_vocabulary(tmp_path, "sentencepiece", found) is None
    with pytest.raises(UserError, match=r"'<extra_id_0>' as \[32099\], but"):
        tokenizer._compare("<extra_id_0>", [32099], [32000], tmp_path, "")
