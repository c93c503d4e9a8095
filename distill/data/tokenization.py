"""Runs the SeqIO tasks of a DataSpec and gathers their tokens and statistics."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import seqio
from etils import epath

from distill.common.progress import Progress
from distill.common.safe_points import safe_point
from distill.config.data import DataSpec
from distill.data import datasets
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.examples import Example
from distill.data.ragged import FEATURES, RaggedWriter, offsets_path
from distill.data.row_file import open_array
from distill.data.seqio_tasks import forget, register_seqio_tasks
from distill.data.seqio_vocabularies import to_seqio
from distill.data.vocabularies import Vocabulary

log = logging.getLogger(__name__)
_BATCH = 1024  # rows that come out of TensorFlow at once


def write_tokens(
    spec: DataSpec,
    splits: datasets.Splits,
    vocabulary: Vocabulary,
    folder: epath.Path,
    names: Sequence[str] = datasets.SPLITS,
) -> dict[str, dict[str, SequenceCounts]]:
    """Writes tokens of splits and tasks, cut to the spec's lengths with EOS kept.

    Args:
      spec: the settings.
      splits: the rows.
      vocabulary: of inputs and targets.
      folder: takes the files of `distill.data.ragged.RaggedWriter`, `<split>.<task>.<side>`,
        aligned with the splits' rows. They grow as rows come: memory does not depend on N.
      names: the splits to write.

    Returns:
      Counts by task and side of all sequences before they were cut.
    """
    tasks = register_seqio_tasks(spec, splits, to_seqio(vocabulary))
    found = {}
    for task, name in tasks.items():
        counts = found[task] = {feature: SequenceCounts() for feature in FEATURES}
        for split in names:
            _write_split(spec, task, name, split, splits[split], folder, counts, vocabulary)
        log.info("%s task: %s", task, counts)
    forget(tasks.values())  # the rows are elsewhere once they are cached
    return found


def _write_split(
    spec: DataSpec,
    task: str,
    name: str,
    split: str,
    rows: Sequence[Example],
    folder: epath.Path,
    counts: Mapping[str, SequenceCounts],
    words: Vocabulary,
) -> None:
    """Writes both sides of a task's split, and counts them."""
    limits = {"inputs": spec.input_length, "targets": spec.target_length}
    before = _label_lengths(folder, split) if spec.is_joined and task == "rationale" else None
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
                ids, limit = example[feature], limits[feature]
                taken = int(before[done]) if before is not None and feature == "targets" else 0
                if counts[feature].add(ids, limit, words.unk_id, taken):
                    ids = np.append(ids[: limit - taken - 1], ids[-1])
                writer.skip_to(done)
                writer.add(ids)
        for writer in writers.values():
            writer.skip_to(len(rows))


def _label_lengths(folder: epath.Path, split: str) -> np.ndarray:
    """Target tokens of each row's label [N], EOS included, which `_write_split` has written."""
    return np.diff(open_array(offsets_path(folder / f"{split}.label.targets"), "<i8"))


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
