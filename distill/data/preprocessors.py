"""SeqIO preprocessors: from the fields of a row to the text of a task.

Rows come in as `row` (index), `input`, `label`, `rationale`; absent texts are
empty. A task's rows leave with `row`, `inputs` and `targets`.
"""

from __future__ import annotations

import seqio
import tensorflow as tf


def label_task(dataset: tf.data.Dataset, prefix: str) -> tf.data.Dataset:
    """`[label] x` -> label."""
    return _task(dataset, prefix, lambda row: row["label"])


def rationale_task(dataset: tf.data.Dataset, prefix: str) -> tf.data.Dataset:
    """`[rationale] x` -> rationale; rows without a rationale are left out."""
    kept = dataset.filter(lambda row: tf.strings.length(row["rationale"]) > 0)
    return _task(kept, prefix, lambda row: row["rationale"])


def single_task(dataset: tf.data.Dataset, prefix: str) -> tf.data.Dataset:
    """`[label] x` -> `rationale [label] label`, or `[label] label` without a rationale."""

    def target(row: dict[str, tf.Tensor]) -> tf.Tensor:
        answer = tf.strings.join([prefix, row["label"]])
        return tf.strings.strip(tf.strings.join([row["rationale"], answer], separator=" "))

    return _task(dataset, prefix, target)


def _task(dataset: tf.data.Dataset, prefix: str, target: object) -> tf.data.Dataset:
    @seqio.map_over_dataset
    def to_text(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            "row": row["row"],
            "inputs": tf.strings.join([prefix, row["input"]]),
            "targets": target(row),
        }

    return to_text(dataset)
