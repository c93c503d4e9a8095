"""Vocabularies: T5's SentencePiece, bytes, and plain words for the embedded dataset.

Nothing here imports TensorFlow; `distill.data.seqio_vocabularies` gives the SeqIO vocabularies of
the same ids, which the SeqIO tasks need.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece
from etils import epath

from distill.common.text_files import read_bytes
from distill.config.data import VOCABULARIES
from distill.errors import UserError, unknown

_PLAIN_PIECES, _SENTINELS = 32_000, 100  # of T5's model, which has them or has them added
_SENTINEL = "\u2581<extra_id_{}>"  # as T5's own model has them
_UNK_WORD = "<unk>"
_NUM_SPECIAL = 3  # pad, EOS, unknown


class Vocabulary(abc.ABC):
    """Text to ids and back; pad id 0, EOS id 1, unknown id 2."""

    pad_id = 0
    eos_id = 1
    unk_id = 2

    @property
    @abc.abstractmethod
    def vocab_size(self) -> int:
        """Number of ids."""

    @abc.abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text, without EOS."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first EOS; ids outside the vocabulary count as unknown."""
        known = [id_ if id_ < self.vocab_size else self.unk_id for id_ in ids]
        return self._decode(known[: known.index(self.eos_id)] if self.eos_id in known else known)

    @abc.abstractmethod
    def _decode(self, ids: Sequence[int]) -> str:
        """The text of ids that are all known and hold no EOS."""

    @abc.abstractmethod
    def uncovered(self, text: str) -> str | None:
        """The first word or piece of `text` that can only be written as unknown, or None."""


def make_vocabulary(kind: str, path: str = "", words: Iterable[str] = ()) -> Vocabulary:
    """The vocabulary that a run reads and writes with.

    Args:
      kind: "sentencepiece", "bytes" or "words".
      path: the SentencePiece model, for "sentencepiece".
      words: the words, for "words".

    Raises:
      UserError: an unknown kind, a missing file, or a model without T5's special ids.
    """
    if kind not in VOCABULARIES:
        raise unknown("vocabulary", kind, VOCABULARIES, "macro VOCABULARY")
    if kind == "bytes":
        return ByteVocabulary()
    if kind == "words":
        return WordVocabulary(words)
    return _piece_vocabulary(path)


class ByteVocabulary(Vocabulary):
    """One id per byte of UTF-8, from 3, as in ByT5 (arXiv 2105.13626)."""

    @property
    def vocab_size(self) -> int:
        """259."""
        return _NUM_SPECIAL + 256

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without EOS."""
        return [byte + _NUM_SPECIAL for byte in text.encode()]

    def _decode(self, ids: Sequence[int]) -> str:
        content = bytes(id_ - _NUM_SPECIAL for id_ in ids if id_ >= _NUM_SPECIAL)
        return content.decode(errors="ignore")

    def uncovered(self, text: str) -> None:
        """None: bytes cover every text."""
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByteVocabulary)

    def __hash__(self) -> int:
        return hash(ByteVocabulary)


class WordVocabulary(Vocabulary):
    """One id for each blank-separated word: 0 pad, 1 EOS, 2 unknown, then sorted words."""

    def __init__(self, words: Iterable[str]) -> None:
        """Builds the vocabulary.

        Args:
          words: the words; order and repetition do not matter.

        Raises:
          UserError: no words, or one that is blank or holds a blank.
        """
        known = sorted(set(words))
        if not known:
            raise UserError(
                "VOCABULARY = 'words' needs the words of the dataset, got none; for a dataset of "
                "free text set VOCABULARY to 'sentencepiece' or 'bytes'"
            )
        for word in known:
            if word.split() != [word]:
                raise UserError(f"got {word!r} as a word, expected a string without spaces")
        self._words = ("", "", _UNK_WORD, *known)
        self.ids = {word: _NUM_SPECIAL + index for index, word in enumerate(known)}

    @property
    def vocab_size(self) -> int:
        """Number of words, and 3."""
        return len(self._words)

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in the order of their ids (from 3)."""
        return self._words[_NUM_SPECIAL:]

    @property
    def texts(self) -> tuple[str, ...]:
        """What each id is decoded to."""
        return self._words

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without EOS."""
        return [self.ids.get(word, self.unk_id) for word in text.split()]

    def _decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._words[id_] for id_ in ids if id_ > self.eos_id)

    def uncovered(self, text: str) -> str | None:
        """The first word that is not in the vocabulary, or None."""
        return next((word for word in text.split() if word not in self.ids), None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WordVocabulary) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)


class PieceVocabulary(Vocabulary):
    """The pieces of a SentencePiece model with pad, EOS and unknown at 0, 1 and 2.

    T5's model has 32,100 pieces, 100 sentinels among them. The copy that Hugging Face's folders
    have, spiece.model, ends before the sentinels; they are added, so that both give the same ids.

    Attributes:
      path: the model's file.
      processor: the model.
      extra_ids: how many sentinels were added.
    """

    def __init__(self, path: str, fix: str = "") -> None:
        """Reads the model.

        Args:
          path: its file.
          fix: what an error message advises.

        Raises:
          UserError: no such file, or no SentencePiece model.
        """
        self.path = path
        content = read_bytes(epath.Path(path), fix)
        try:
            self.processor = sentencepiece.SentencePieceProcessor(model_proto=content)
            last = self.processor.IdToPiece(self.processor.GetPieceSize() - 1)  # none if empty
        except Exception as error:  # the loader's errors differ from version to version
            raise UserError(f"{path} is not a SentencePiece model. {fix}".strip()) from error
        is_plain = self.processor.GetPieceSize() == _PLAIN_PIECES and "<extra_id_" not in last
        self.extra_ids = _SENTINELS if is_plain else 0
        if is_plain:
            self.processor = _with_sentinels(content)

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return self.processor.GetPieceSize()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without EOS."""
        return self.processor.EncodeAsIds(text)

    def _decode(self, ids: Sequence[int]) -> str:
        return self.processor.DecodeIds(list(map(int, ids)))

    def uncovered(self, text: str) -> str | None:
        """The first piece that the model does not have, or None."""
        pairs = zip(self.processor.EncodeAsPieces(text), self.encode(text), strict=True)
        return next((piece for piece, id_ in pairs if id_ == self.unk_id), None)


def encode_input(vocabulary: Vocabulary, text: str, mark: str = "") -> list[int]:
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


def padded_size(n: int) -> int:
    """Rows of the embedding table for `n` ids: what the hardware divides well.

    From 8,192 ids on a multiple of 128 (32,100 gives the 32,128 of the published T5
    checkpoints), below that a multiple of 8.
    """
    multiple = 128 if n >= 8192 else 8
    return -(-n // multiple) * multiple


def _with_sentinels(content: bytes) -> sentencepiece.SentencePieceProcessor:
    """T5's model with its sentinels, whose ids go down from the last."""
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2  # generated code without types
    model = messages.ModelProto.FromString(content)
    kind = messages.ModelProto.SentencePiece.USER_DEFINED
    for index in reversed(range(_SENTINELS)):
        model.pieces.add(piece=_SENTINEL.format(index), score=0.0, type=kind)
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def _piece_vocabulary(path: str) -> PieceVocabulary:
    """The SentencePiece model at `path`, once it is known to have T5's special ids."""
    fix = (
        "Set VOCABULARY_PATH to the model of your checkpoint; T5's is "
        "cc_all.32000.100extra.model, or spiece.model of a Hugging Face folder"
    )
    if not path:
        raise UserError(f"VOCABULARY = 'sentencepiece' needs a model file. {fix}")
    vocabulary = PieceVocabulary(path, fix)
    processor = vocabulary.processor
    special = [processor.pad_id(), processor.eos_id(), processor.unk_id()]
    if special != [0, 1, 2]:
        raise UserError(
            f"{path} does not have T5's ids: it has {vocabulary.vocab_size} pieces with the pad, "
            f"EOS and unknown ids {special}, expected [0, 1, 2]. Some copies have an extra <s> at "
            f"id 2, which shifts every later id by one. {fix}"
        )
    return vocabulary
