"""The SeqIO vocabularies of the project's own: the same ids, and TensorFlow operations for them.

Importing this module imports seqio and with it TensorFlow (several seconds).
"""

from __future__ import annotations

from collections.abc import Iterable

import seqio
import tensorflow as tf

from distill.data.vocabularies import PieceVocabulary, Vocabulary, WordVocabulary


def to_seqio(vocabulary: Vocabulary) -> seqio.Vocabulary:
    """The SeqIO vocabulary with the ids of a vocabulary that `make_vocabulary` made."""
    if isinstance(vocabulary, PieceVocabulary):
        # T5's own file holds its 100 sentinels already.
        return seqio.SentencePieceVocabulary(vocabulary.path, extra_ids=vocabulary.extra_ids)
    if isinstance(vocabulary, WordVocabulary):
        return SeqioWords(vocabulary)
    return seqio.ByteVocabulary()


class SeqioWords(seqio.Vocabulary):
    """A `WordVocabulary` for SeqIO."""

    def __init__(self, words: WordVocabulary) -> None:
        """Wraps the vocabulary."""
        super().__init__(extra_ids=0)
        self._words = words
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
        return self._words.eos_id

    @property
    def unk_id(self) -> int:
        """Stands for every word that is not in the vocabulary."""
        return self._words.unk_id

    @property
    def _base_vocab_size(self) -> int:
        return self._words.vocab_size

    def _encode(self, s: str) -> list[int]:
        return self._words.encode(s)

    def _decode(self, ids: Iterable[int]) -> str:
        return self._words.decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        if self._table is None:
            # Kept, because TensorFlow frees a table with the last Python name for it, and
            # made outside the traced function, so that it serves every pipeline.
            ids = self._words.ids
            with tf.init_scope():
                self._table = tf.lookup.StaticHashTable(
                    tf.lookup.KeyValueTensorInitializer(
                        list(ids), list(ids.values()), tf.string, tf.int32
                    ),
                    default_value=self.unk_id,
                )
        return self._table.lookup(tf.strings.split(s))

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        ids = tf.convert_to_tensor(ids)
        kept = tf.ragged.boolean_mask(ids, ids > self.eos_id)
        words = tf.ragged.map_flat_values(lambda i: tf.gather(self._words.texts, i), kept)
        return tf.strings.reduce_join(words, axis=-1, separator=" ")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SeqioWords) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)


def encode_input_tf(vocabulary: seqio.Vocabulary, text: tf.Tensor, mark: str) -> tf.Tensor:
    """Ids [T] of a scalar text: those of `vocabularies.encode_input`, but for the last EOS."""

    def encode(part: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.cast(vocabulary.encode_tf(part), tf.int32), [vocabulary.eos_id]], 0)

    ragged = tf.RaggedTensorSpec([None], tf.int32)
    parts = tf.strings.split(text, mark)
    return tf.map_fn(encode, parts, fn_output_signature=ragged).values[:-1]
