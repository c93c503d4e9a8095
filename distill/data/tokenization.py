"""Runs the SeqIO tasks of a DataSpec and gathers their tokens and statistics."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
from etils import epath

from distill.common.progress import Progress
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.cache_meta import TaskTokens
from distill.data.checked_rows import CheckedRows
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.examples import Example
from distill.data.ragged import FEATURES, RaggedWriter
from distill.data.seqio_tasks import forget, register_seqio_tasks
from distill.data.seqio_vocabularies import to_seqio
from distill.data.vocabularies import Vocabulary
from distill.errors import UserError

log = logging.getLogger(__name__)
_BATCH = 1024  # rows that come out of TensorFlow at once


def tokenize(spec: DataSpec, checked: CheckedRows, folder: epath.Path) -> dict[str, TaskTokens]:
    """Writes tokens of every split and task, cut to the spec's lengths with EOS kept.

    Args:
      spec: the settings.
      checked: its rows and its vocabulary.
      folder: takes the files of `distill.data.ragged.RaggedWriter`, `<split>.<task>.<side>`,
        aligned with the splits' rows. They grow as rows come: memory does not depend on N.

    Returns:
      Statistics of each task: of its training rows (rows, mean and maximum target length as
      trained), and of all its sequences before they were cut (`inputs` and `targets`, as
      `SequenceCounts`).

    Raises:
      UserError: a label that TARGET_LENGTH cannot hold, naming the row.
    """
    splits, words = checked.splits, checked.vocabulary
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
    statistics["label"]["labels_not_covered"] = checked.uncovered_labels
    return statistics


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
