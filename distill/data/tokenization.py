"""Runs the SeqIO tasks of a DataSpec and gathers their tokens and statistics."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
from etils import epath

from distill.common.progress import Progress, Stage, tell
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.cache_meta import TaskTokens
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.examples import Example
from distill.data.ragged import FEATURES, RaggedWriter
from distill.data.seqio_tasks import forget, register_seqio_tasks
from distill.data.seqio_vocabularies import to_seqio
from distill.data.vocabularies import Vocabulary, make_vocabulary
from distill.errors import UserError

log = logging.getLogger(__name__)
# Share of labels that a SentencePiece model may lack a letter of ('tromsø' in CQA).
MAX_UNCOVERED = 0.01
_BATCH = 1024  # rows that come out of TensorFlow at once


def tokenize(
    spec: DataSpec, folder: epath.Path
) -> tuple[datasets.Splits, Vocabulary, dict[str, TaskTokens]]:
    """Writes tokens of every split and task, cut to the spec's lengths with EOS kept.

    Args:
      spec: the settings.
      folder: takes the files of `distill.data.ragged.RaggedWriter`, `<split>.<task>.<side>`,
        aligned with the splits' rows. They grow as rows come: memory does not depend on N.

    Returns:
      The splits, the vocabulary, and statistics of each task: of its training rows (rows, mean
      and maximum target length as trained), and of all its sequences before they were cut
      (`inputs` and `targets`, as `SequenceCounts`).

    Raises:
      UserError: a label that the vocabulary or TARGET_LENGTH cannot hold, naming the
        row; for VOCABULARY = 'words' any unknown word in training rows.
    """
    with Stage(f"reading the rows of {spec.dataset}"):
        splits = datasets.load_splits(spec)
    with Stage("checking that the vocabulary covers the rows"):
        words = _vocabulary(spec)
        uncovered_labels = _check_coverage(spec, splits, words)
    names = register_seqio_tasks(spec, splits, to_seqio(words))
    statistics: dict[str, TaskTokens] = {}
    for task, name in names.items():
        counts = {feature: SequenceCounts() for feature in FEATURES}
        for split in datasets.SPLITS:
            lengths = _write_split(spec, task, name, split, splits[split], folder, counts, words)
            if split == "train":
                trained = lengths
        statistics[task] = _statistics(trained, counts)
        log.info("%s task: %s", task, statistics[task])
    forget(names.values())  # the rows are elsewhere once they are cached
    statistics["label"]["labels_not_covered"] = uncovered_labels
    return splits, words, statistics


def _write_split(
    spec: DataSpec,
    task: str,
    name: str,
    split: str,
    rows: Sequence[Example],
    folder: epath.Path,
    counts: Mapping[str, SequenceCounts],
    words: Vocabulary,
) -> np.ndarray:
    """Writes both sides of a task's split, counts them, and gives the target lengths [N]."""
    limits = {"inputs": spec.input_length, "targets": spec.target_length}
    with contextlib.ExitStack() as stack:
        writers = {
            feature: stack.enter_context(RaggedWriter(folder, f"{split}.{task}.{feature}"))
            for feature in FEATURES
        }
        done = 0
        stack.enter_context(
            Progress(
                len(rows),
                f"tokenizing {split} ({task}s)",
                count=lambda: done,
                disable=not len(rows),
            )
        )
        for example in _sequences(name, split) if len(rows) else ():
            done = int(example["row"])
            safe_point()
            for feature, writer in writers.items():
                ids = example[feature]
                if counts[feature].add(ids, limits[feature], words.unk_id):
                    if task == "label" and feature == "targets" and spec.method != "single_task":
                        raise UserError(
                            f"row {rows[done].id}: label has {len(ids)} tokens, "
                            f"expected at most TARGET_LENGTH = {limits[feature]}"
                        )
                    ids = np.append(ids[: limits[feature] - 1], ids[-1])
                writer.skip_to(done)
                writer.add(ids)
        for writer in writers.values():
            writer.skip_to(len(rows))
        return np.diff(np.frombuffer(writers["targets"].offsets, np.int64))


def _sequences(name: str, split: str) -> Iterator[dict[str, np.ndarray]]:
    """The rows of a SeqIO task in their order; read from it by the batch, which is faster."""
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=None, split=split, shuffle=False, use_cached=False
    )
    dataset = dataset.map(lambda row: {key: row[key] for key in ("row", *FEATURES)})
    for batch in dataset.ragged_batch(_BATCH).prefetch(4):
        row = batch["row"].numpy()
        features = {s: (batch[s].values.numpy(), batch[s].row_splits.numpy()) for s in FEATURES}
        for index, number in enumerate(row):
            parts = {
                s: v[offsets[index] : offsets[index + 1]] for s, (v, offsets) in features.items()
            }
            yield {"row": number, **parts}


def _statistics(lengths: np.ndarray, counts: Mapping[str, SequenceCounts]) -> TaskTokens:
    lengths = lengths[lengths > 0]
    if not len(lengths):
        raise UserError(
            "no training row has a target for this task (rationales all missing?); "
            "choose another method or another source of rows"
        )
    return {
        "rows": len(lengths),
        "mean_target_tokens": float(lengths.mean()),
        "max_target_tokens": int(lengths.max()),
        "inputs": dataclasses.asdict(counts["inputs"]),
        "targets": dataclasses.asdict(counts["targets"]),
    }


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
