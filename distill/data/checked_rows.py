"""The rows and the vocabulary of a run, checked before TensorFlow is loaded to tokenize them."""

from __future__ import annotations

import dataclasses
import itertools

from distill.common.progress import Stage, tell
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.target_checks import check_targets
from distill.data.vocabularies import Vocabulary, make_vocabulary
from distill.errors import UserError

# Share of labels that a SentencePiece model may lack a letter of ('tromsø' in CQA).
MAX_UNCOVERED = 0.01


@dataclasses.dataclass(frozen=True)
class CheckedRows:
    """Rows that can be tokenized.

    Attributes:
      splits: the rows.
      vocabulary: of inputs and targets.
      uncovered_labels: training and validation rows whose label needs an unknown piece.
    """

    splits: datasets.Splits
    vocabulary: Vocabulary
    uncovered_labels: int


def read_rows(spec: DataSpec) -> CheckedRows:
    """Reads and checks the rows of a run.

    Raises:
      UserError: what the readers or the budget complain of; a label that the vocabulary cannot
        hold; for VOCABULARY = 'words' any unknown word in training rows; see also
        `check_targets`.
    """
    with Stage(f"reading the rows of {spec.dataset}"):
        splits = datasets.load_splits(spec)
    with Stage("checking that the vocabulary covers the rows"):
        vocabulary = _vocabulary(spec)
        uncovered = _check_coverage(spec, splits, vocabulary)
    with Stage("checking the targets"):
        check_targets(spec, splits, vocabulary)
    return CheckedRows(splits, vocabulary, uncovered)


def _check_coverage(spec: DataSpec, splits: datasets.Splits, words: Vocabulary) -> int:
    """Every label must be writable; with VOCABULARY = 'words' every training text.

    A SentencePiece model lacks some letters of real text. Up to MAX_UNCOVERED of the labels
    may need one; such a label is trained on with the unknown piece and never decoded right.

    Returns:
      How many training and validation rows have such a label.
    """
    if spec.vocabulary == "bytes":
        return 0  # they cover every text
    mark = datasets.get(spec.dataset).eos_mark(spec)
    fix = "choose 'bytes' or 'sentencepiece'" if spec.vocabulary == "words" else "choose 'bytes'"
    errors: list[UserError] = []
    for row in itertools.chain(splits.train, splits.validation):
        texts = {"label": row.label, "teacher_label": row.teacher_label}
        if spec.vocabulary == "words":
            texts |= {"input": datasets.without_mark(row.input, mark), "rationale": row.rationale}
        for field, text in texts.items():
            missing = words.uncovered(text) if text else None
            if missing is not None:
                error = UserError(
                    f"row {row.id}: the vocabulary (VOCABULARY = {spec.vocabulary!r}) does not "
                    f"cover {missing!r} in {field} {text!r}; {fix}"
                )
                if spec.vocabulary == "words":
                    raise error
                errors.append(error)
                break
    allowed = MAX_UNCOVERED * (len(splits.train) + len(splits.validation))
    if len(errors) > allowed:
        raise errors[0]
    if errors:
        rows = "1 row has" if len(errors) == 1 else f"{len(errors):,} rows have"
        tell(f"warning: {rows} a label that cannot be decoded correctly: {errors[0]}")
    return len(errors)


def _vocabulary(spec: DataSpec) -> Vocabulary:
    """The vocabulary of a cache that is not made yet."""
    words = datasets.vocabulary_words(spec) if spec.vocabulary == "words" else ()
    return make_vocabulary(spec.vocabulary, spec.vocabulary_path, words)
