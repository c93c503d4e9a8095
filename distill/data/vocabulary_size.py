"""Whether the student has a logit for every id of its vocabulary."""

from __future__ import annotations

from etils import epath

from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.vocabularies import Vocabulary, make_vocabulary, padded_size
from distill.errors import UserError


def check_size(spec: DataSpec, vocab_size: int, vocabulary: Vocabulary) -> None:
    """Refuses a student that is too small for its vocabulary.

    Args:
      spec: the run's data.
      vocab_size: the student's VOCAB_SIZE.
      vocabulary: of `spec`.

    Raises:
      UserError: names the size to set.
    """
    size = vocabulary.vocab_size
    if vocab_size < size:
        raise UserError(
            f"got VOCAB_SIZE = {vocab_size}, but the vocabulary (VOCABULARY = "
            f"{spec.vocabulary!r}) has {size} ids: set VOCAB_SIZE = {padded_size(size)}"
        )


def check_size_before_rows(spec: DataSpec, vocab_size: int) -> None:
    """As `check_size`, where the vocabulary can be had without the rows; else does nothing.

    Raises:
      UserError: see `check_size`; a damaged SentencePiece model.
    """
    vocabulary = _without_rows(spec)
    if vocabulary is not None:
        check_size(spec, vocab_size, vocabulary)


def _without_rows(spec: DataSpec) -> Vocabulary | None:
    """The vocabulary; None if its words come from the rows, or its file is not here."""
    if spec.vocabulary == "words":
        if datasets.get(spec.dataset).words is None:
            return None
        return make_vocabulary(spec.vocabulary, "", datasets.vocabulary_words(spec))
    path = spec.vocabulary_path
    if spec.vocabulary == "sentencepiece" and not (path and epath.Path(path).exists()):
        return None
    return make_vocabulary(spec.vocabulary, path)
