"""SeqIO's vocabularies, in Python and in TensorFlow, give the ids of the project's own."""

from __future__ import annotations

import copy
import gc
import io
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")
seqio = pytest.importorskip("seqio")

import sentencepiece  # noqa: E402

from distill.data.seqio_vocabularies import to_seqio  # noqa: E402
from distill.data.vocabularies import PieceVocabulary, make_vocabulary  # noqa: E402
from distill.tickets import generator  # noqa: E402

TEXTS = [row.input for row in generator.generate("hard", 40, 0, "train")]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A SentencePiece model with T5's special ids, trained on tickets."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=120,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("pieces") / "tickets.model"
    path.write_bytes(model.getvalue())
    return PieceVocabulary(str(path))


@pytest.fixture(scope="module")
def words():
    return make_vocabulary("words", words=generator.words())


@pytest.fixture(scope="module")
def vocabularies(pieces, words):
    return pieces, words, make_vocabulary("bytes")


_TICKET_LIKE = st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=8).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(text=_TICKET_LIKE | st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_the_same_ids_for_a_text(vocabularies, text):
    for own in vocabularies:
        theirs = to_seqio(own)
        ids = own.encode(text)
        assert list(theirs.encode(text)) == ids
        assert theirs.decode(ids) == own.decode(ids)


@pytest.mark.parametrize("text", [*TEXTS[:5], "", "é { 漢 \u00a0x"])
def test_the_same_ids_in_tensorflow(vocabularies, text):
    for own in vocabularies:
        assert to_seqio(own).encode_tf(tf.constant(text)).numpy().tolist() == own.encode(text)


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.integers(0, 300) | st.sampled_from([0, 1, 2]), max_size=20))
def test_the_same_text_for_any_ids(vocabularies, ids):
    for own in vocabularies:
        assert to_seqio(own).decode(ids) == own.decode(ids)


def test_the_same_special_ids_and_sizes(vocabularies):
    for own in vocabularies:
        theirs = to_seqio(own)
        assert (own.pad_id, own.eos_id, own.unk_id) == (0, 1, 2)
        assert (theirs.pad_id, theirs.eos_id, theirs.unk_id) == (0, 1, 2)
        assert theirs.vocab_size == own.vocab_size


def test_words_are_decoded_in_tensorflow(words):
    theirs = to_seqio(words)
    for text in TEXTS[:5]:
        ids = [*words.encode(text), 1, 7, 0]
        assert theirs.decode_tf(tf.constant(ids)).numpy().decode() == text
    batch = tf.constant([[*words.encode("my fan"), 1], [*words.encode("my"), 1, 0]])
    assert theirs.decode_tf(batch).numpy().tolist() == [b"my fan", b"my"]


def test_a_copy_encodes_in_a_pipeline(words):
    theirs = to_seqio(words)
    other = pickle.loads(pickle.dumps(copy.deepcopy(theirs)))
    assert other == theirs
    data = tf.data.Dataset.from_tensor_slices(["my fan", "", "my"]).map(other.encode_tf)
    gc.collect()
    found = [ids.tolist() for ids in data.as_numpy_iterator()]
    assert found == [words.encode("my fan"), [], words.encode("my")]


def test_sentinels_that_are_added_have_the_same_ids(shared_dir, tmp_path):
    """T5's model as Hugging Face's folders have it, without its sentinels."""
    from sentencepiece import sentencepiece_model_pb2

    content = (shared_dir / "data" / "vocab" / "cc_all.32000.100extra.model").read_bytes()
    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    del model.pieces[32_000:]
    (tmp_path / "spiece.model").write_bytes(model.SerializeToString())
    own = make_vocabulary("sentencepiece", str(tmp_path / "spiece.model"))
    theirs = to_seqio(own)
    assert theirs.vocab_size == own.vocab_size == 32_100
    for text in ("a <extra_id_0> of <extra_id_99> it", TEXTS[0]):
        assert list(theirs.encode(text)) == own.encode(text)
