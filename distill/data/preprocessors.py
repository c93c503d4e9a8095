"""SeqIO preprocessors: from the fields of a row to the text of a task.

Rows come in as `row` (index), `input`, `label`, `rationale`; absent texts are
empty. A task's rows leave with `row`, `inputs` and `targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from distill.data.seqio_vocabularies import encode_input_tf


def to_label_task(dataset: tf.data.Dataset, prefix: str) -> tf.data.Dataset:
    """`[label] x` -> label."""
    return _task(dataset, prefix, lambda row: row["label"])


def to_rationale_task(dataset: tf.data.Dataset, prefix: str) -> tf.data.Dataset:
    """`[rationale] x` -> rationale; rows without a rationale are left out."""
    kept = dataset.filter(lambda row: tf.strings.length(row["rationale"]) > 0)
    return _task(kept, prefix, lambda row: row["rationale"])


def single_task(dataset: tf.data.Dataset, prefix: str) -> tf.data.Dataset:
    """`[label] x` -> `rationale [label] label`, or `[label] label` without a rationale."""

    def target(row: dict[str, tf.Tensor]) -> tf.Tensor:
        answer = tf.strings.join([prefix, row["label"]])
        return tf.strings.strip(tf.strings.join([row["rationale"], answer], separator=" "))

    return _task(dataset, prefix, target)


def marks_to_eos(
    dataset: tf.data.Dataset, output_features: Mapping[str, seqio.Feature], mark: str
) -> tf.data.Dataset:
    """After tokenizing: inputs hold the EOS token where their texts have `mark`."""

    @seqio.map_over_dataset
    def with_eos(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return row | {
            name: encode_input_tf(feature.vocabulary, row[f"{name}_pretokenized"], mark)
            for name, feature in output_features.items()
            if name.endswith("inputs")
        }

    return with_eos(dataset)


def _task(
    dataset: tf.data.Dataset, prefix: str, target: Callable[[dict[str, tf.Tensor]], tf.Tensor]
) -> tf.data.Dataset:
    @seqio.map_over_dataset
    def to_text(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            "row": row["row"],
            "inputs": tf.strings.join([prefix, row["input"]]),
            "targets": target(row),
        }

    return to_text(dataset)


def pair_task(
    dataset: tf.data.Dataset, label_prefix: str, rationale_prefix: str
) -> tf.data.Dataset:
    """Label and rationale of a row together; the rationale's as `rationale_inputs`, `_targets`."""

    @seqio.map_over_dataset
    def to_text(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            "row": row["row"],
            "inputs": tf.strings.join([label_prefix, row["input"]]),
            "targets": row["label"],
            "rationale_inputs": tf.strings.join([rationale_prefix, row["input"]]),
            "rationale_targets": row["rationale"],
        }

    return to_text(dataset)


def empty_absent_rationale(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """After tokenizing: a row without a rationale has no rationale tokens, not even EOS."""

    @seqio.map_over_dataset
    def emptied(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        absent = tf.equal(tf.strings.length(row["rationale_targets_pretokenized"]), 0)
        names = ("rationale_inputs", "rationale_targets")
        return row | {n: tf.cond(absent, lambda n=n: row[n][:0], lambda n=n: row[n]) for n in names}

    return emptied(dataset)
