"""Runs the SeqIO tasks of a DataSpec and gathers their tokens and statistics."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import seqio

from distill.data import datasets
from distill.data.cache import SIDES, Ragged
from distill.data.spec import DataSpec
from distill.data.vocabularies import make_vocabulary, uncovered
from distill.errors import UserError

log = logging.getLogger(__name__)


def vocabulary(spec: DataSpec) -> seqio.Vocabulary:
    """The vocabulary that `spec` asks for."""
    words = datasets.vocabulary_words(spec) if spec.vocabulary == "words" else ()
    return make_vocabulary(spec.vocabulary, spec.vocabulary_path, words)


def tokenise(
    spec: DataSpec,
) -> tuple[datasets.Splits, dict[tuple[str, str, str], Ragged], dict[str, dict[str, float]]]:
    """Tokens of every split and task, cut to the spec's lengths with EOS kept.

    Returns:
      The splits, tokens by (split, task, side) aligned with the splits' rows, and
      statistics of each task's training rows (mean and maximum target length, rows,
      sequences cut).

    Raises:
      UserError: a label that the vocabulary or TARGET_LENGTH cannot hold, naming the
        row; for VOCABULARY = 'words' any unknown word in training rows.
    """
    splits = datasets.load_splits(spec)
    words = vocabulary(spec)
    _check_coverage(spec, splits, words)
    names = register(spec, splits, words)
    limits = {"inputs": spec.input_length, "targets": spec.target_length}
    tokens: dict[tuple[str, str, str], Ragged] = {}
    statistics: dict[str, dict[str, float]] = {}
    for task, name in names.items():
        cut = dict.fromkeys(SIDES, 0)
        for split in datasets.SPLITS:
            rows = splits[split]
            found: dict[str, list] = {side: [np.zeros(0, np.int32)] * len(rows) for side in SIDES}
            dataset = seqio.get_mixture_or_task(name).get_dataset(
                sequence_length=None, split=split, shuffle=False, use_cached=False
            )
            for example in dataset.as_numpy_iterator() if rows else ():
                for side in SIDES:
                    ids = example[side]
                    if len(ids) > limits[side]:
                        if task == "label" and side == "targets" and spec.method != "single_task":
                            raise UserError(
                                f"row {rows[example['row']].id}: label has {len(ids)} tokens, "
                                f"expected at most TARGET_LENGTH = {limits[side]}"
                            )
                        cut[side] += 1
                        ids = np.append(ids[: limits[side] - 1], ids[-1])
                    found[side][example["row"]] = ids
            for side in SIDES:
                tokens[split, task, side] = Ragged.of(found[side])
        statistics[task] = _statistics(tokens["train", task, "targets"], cut)
        log.info("%s task: %s", task, statistics[task])
    return splits, tokens, statistics


def register(spec: DataSpec, splits: datasets.Splits, words: seqio.Vocabulary) -> dict[str, str]:
    """Registers the SeqIO tasks of `spec` once; returns their names by task."""
    from distill.data import seqio_tasks

    return seqio_tasks.register(spec, splits, words)


def _statistics(targets: Ragged, cut: Mapping[str, int]) -> dict[str, float]:
    lengths = targets.lengths[targets.lengths > 0]
    if not len(lengths):
        raise UserError(
            "no training row has a target for this task (rationales all missing?); "
            "choose another method or another source of rows"
        )
    return {
        "rows": len(lengths),
        "mean_target_tokens": float(lengths.mean()),
        "max_target_tokens": int(lengths.max()),
        "inputs_cut": cut["inputs"],
        "targets_cut": cut["targets"],
    }


def _check_coverage(spec: DataSpec, splits: datasets.Splits, words: seqio.Vocabulary) -> None:
    """Every label must be writable; with VOCABULARY = 'words' every training text."""
    for row in [*splits.train, *splits.validation]:
        texts = {"label": row.label, "teacher_label": row.teacher_label}
        if spec.vocabulary == "words":
            texts |= {"input": row.input, "rationale": row.rationale}
        for field, text in texts.items():
            missing = uncovered(words, text) if text else None
            if missing is not None:
                raise UserError(
                    f"row {row.id}: the vocabulary (VOCABULARY = {spec.vocabulary!r}) does not "
                    f"cover {missing!r} in {field} {text!r}; choose 'bytes' or 'sentencepiece'"
                )
