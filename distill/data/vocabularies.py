"""Vocabularies: T5's SentencePiece, bytes, and plain words for the embedded dataset.

Importing this module imports seqio and with it TensorFlow (several seconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import seqio
import tensorflow as tf
from etils import epath

from distill.common.text_files import read_bytes
from distill.config.data import VOCABULARIES
from distill.errors import UserError, unknown

_T5_PIECES = 32_100
_T5_SENTENCE = "translate English to German: That is good."
_T5_IDS = [13959, 1566, 12, 2968, 10, 466, 19, 207, 5]
_UNK_WORD = "<unk>"


def make_vocabulary(kind: str, path: str = "", words: Iterable[str] = ()) -> seqio.Vocabulary:
    """The vocabulary that a run reads and writes with; pad id 0, EOS id 1 in each.

    Args:
      kind: "sentencepiece", "bytes" or "words".
      path: the SentencePiece model, for "sentencepiece".
      words: the words, for "words".

    Raises:
      UserError: an unknown kind, a missing file, or a model without T5's ids.
    """
    if kind not in VOCABULARIES:
        raise unknown("vocabulary", kind, VOCABULARIES, "macro VOCABULARY")
    if kind == "bytes":
        return seqio.ByteVocabulary()
    if kind == "words":
        return WordVocabulary(words)
    return _t5_vocabulary(path)


class WordVocabulary(seqio.Vocabulary):
    """One id for each blank-separated word: 0 pad, 1 EOS, 2 unknown, then sorted words."""

    def __init__(self, words: Iterable[str]) -> None:
        """Builds the vocabulary.

        Args:
          words: the words; order and repetition do not matter.

        Raises:
          UserError: no words, or one that is blank or holds a blank.
        """
        super().__init__(extra_ids=0)
        known = sorted(set(words))
        if not known:
            raise UserError(
                "got no words for VOCABULARY = 'words', expected those of the dataset; "
                "set VOCABULARY to 'sentencepiece' or 'bytes' for a dataset of free text"
            )
        for word in known:
            if word.split() != [word]:
                raise UserError(f"got {word!r} as a word, expected a text without blanks")
        self._words = ("", "", _UNK_WORD, *known)
        self._ids = {word: id_ for id_, word in enumerate(self._words) if id_ > 2}
        self._table: tf.lookup.StaticHashTable | None = None

    def __getstate__(self) -> dict[str, object]:
        """What copies and other processes get: all but the TensorFlow table."""
        return self.__dict__ | {"_table": None}

    @property
    def bos_id(self) -> None:
        """There is no start id."""
        return None

    @property
    def eos_id(self) -> int:
        """Ends a sequence."""
        return 1

    @property
    def unk_id(self) -> int:
        """Stands for every word that is not in the vocabulary."""
        return 2

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in the order of their ids (from 3)."""
        return self._words[3:]

    @property
    def _base_vocab_size(self) -> int:
        return len(self._words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def _encode(self, s: str) -> list[int]:
        return [self._ids.get(word, self.unk_id) for word in s.split()]

    def _decode(self, ids: Iterable[int]) -> str:
        return " ".join(self._words[id_] for id_ in ids if id_ > self.eos_id)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        if self._table is None:
            # Kept, because TensorFlow frees a table with the last Python name for it, and
            # made outside the traced function, so that it serves every pipeline.
            with tf.init_scope():
                self._table = tf.lookup.StaticHashTable(
                    tf.lookup.KeyValueTensorInitializer(
                        list(self._ids), list(self._ids.values()), tf.string, tf.int32
                    ),
                    default_value=self.unk_id,
                )
        return self._table.lookup(tf.strings.split(s))

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        ids = tf.convert_to_tensor(ids)
        kept = tf.ragged.boolean_mask(ids, ids > self.eos_id)
        words = tf.ragged.map_flat_values(lambda i: tf.gather(self._words, i), kept)
        return tf.strings.reduce_join(words, axis=-1, separator=" ")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVocabulary) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)


def encode_input(vocabulary: seqio.Vocabulary, text: str, mark: str = "") -> list[int]:
    """Ids of an input, EOS at its end.

    Args:
      vocabulary: one made by `make_vocabulary`.
      text: the input, its prefix included.
      mark: what stands for the EOS token in the text, "" for nothing (SentencePiece does not
        read it as one); the parts between are tokenized by themselves, as the tokenizers of Hugging
        Face do.
    """
    parts = text.split(mark) if mark else [text]
    return [id_ for part in parts for id_ in (*vocabulary.encode(part), vocabulary.eos_id)]


def encode_input_tf(vocabulary: seqio.Vocabulary, text: tf.Tensor, mark: str) -> tf.Tensor:
    """Ids [T] of a scalar text: those of `encode_input`, but for the last EOS."""

    def encode(part: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.cast(vocabulary.encode_tf(part), tf.int32), [vocabulary.eos_id]], 0)

    ragged = tf.RaggedTensorSpec([None], tf.int32)
    parts = tf.strings.split(text, mark)
    return tf.map_fn(encode, parts, fn_output_signature=ragged).values[:-1]


def uncovered(vocabulary: seqio.Vocabulary, text: str) -> str | None:
    """The first word or piece of `text` that the vocabulary can only write as unknown.

    Args:
      vocabulary: one made by `make_vocabulary`.
      text: what it would have to write, e.g. a label.

    Returns:
      The word (words), the piece (sentencepiece), or None: all is covered. Bytes cover
      every text.
    """
    if isinstance(vocabulary, WordVocabulary):
        return next((word for word in text.split() if word not in vocabulary), None)
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        pieces = vocabulary.tokenizer.EncodeAsPieces(text)
        ids = vocabulary.tokenizer.EncodeAsIds(text)
        pairs = zip(pieces, ids, strict=True)
        return next((piece for piece, id_ in pairs if id_ == vocabulary.unk_id), None)
    return None


def padded_size(n: int) -> int:
    """Rows of the embedding table for `n` ids: what the hardware divides well.

    From 8,192 ids on a multiple of 128 (32,100 gives the 32,128 of the published T5
    checkpoints), below that a multiple of 8.
    """
    multiple = 128 if n >= 8192 else 8
    return -(-n // multiple) * multiple


def _t5_vocabulary(path: str) -> seqio.SentencePieceVocabulary:
    """The SentencePiece model at `path`, once it is known to have T5's ids."""
    fix = "Set VOCABULARY_PATH to T5's model, cc_all.32000.100extra.model"
    if not path:
        raise UserError(f"VOCABULARY = 'sentencepiece' needs a model file. {fix}")
    read_bytes(epath.Path(path), fix)
    # The file holds its 100 sentinels already: extra_ids would add another hundred.
    vocabulary = seqio.SentencePieceVocabulary(path, extra_ids=0)
    try:
        vocabulary.load_model()
    except Exception as error:  # the loader's errors differ from version to version
        raise UserError(f"{path} is not a SentencePiece model ({error}). {fix}") from error
    tokenizer = vocabulary.tokenizer
    special = [tokenizer.pad_id(), tokenizer.eos_id(), tokenizer.unk_id()]
    got: Sequence[int] = tokenizer.EncodeAsIds(_T5_SENTENCE)
    if special != [0, 1, 2] or list(got) != _T5_IDS or vocabulary.vocab_size != _T5_PIECES:
        raise UserError(
            f"{path} does not have T5's ids: it has {vocabulary.vocab_size} pieces, pad, EOS and "
            f"unknown ids {special}, and writes {_T5_SENTENCE!r} as {list(got)}; expected "
            f"{_T5_PIECES}, [0, 1, 2] and {_T5_IDS}. Copies circulate with an extra <s> at id 2, "
            f"in which every later id is off by one. {fix} with 32,100 pieces"
        )
    return vocabulary
