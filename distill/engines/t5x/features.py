"""The feature converter that gives stock T5X weighted tokens and, from pairs, both tasks.

T5X takes it as `EncoderDecoderModel.feature_converter_cls`. Training data says of every
target token what task it is of; SeqIO's packing carries such integers along (it casts
every feature to int32, so that weights would become 0), and after packing they become
the weights. Data of any other kind, as in evaluation and inference, is converted as by
the parent class. Needs seqio, not t5x.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import seqio
import tensorflow as tf

TASK = "task"  # scalar feature of a training sequence: 0 label, 1 rationale
_PAIR = "rationale_targets"
_FEATURES = ("inputs", "targets")
# Integers that go through packing; never 0, which would be padding.
_TASK_IDS, _LENGTHS = "task_ids", "target_lengths"
_INT, _FLOAT = (seqio.FeatureConverter.FeatureSpec(dtype=t) for t in (tf.int32, tf.float32))


class TrainingFeatureConverter(seqio.EncDecFeatureConverter):
    """EncDecFeatureConverter with `decoder_loss_weights` [T] float32 and `decoder_task_ids` [T].

    Rows of a batch are padded or packed sequences; task ids count from 0 and are 0 on
    padding, where the weight is 0.
    """

    MODEL_FEATURES: ClassVar = {
        **seqio.EncDecFeatureConverter.MODEL_FEATURES,
        "decoder_loss_weights": _FLOAT,
        "decoder_task_ids": _INT,
    }

    def __init__(
        self, scales: Sequence[float], by_length: bool, joined: bool = False, **settings: object
    ) -> None:
        """Takes the weights.

        Args:
          scales: K, one a task, label first.
          by_length: a token of task k weighs scales[k] / the target tokens of its sequence that
            are of this task; otherwise scales[k].
          joined: whether the targets of a pair are one sequence, with the input of the label.
          **settings: of the parent: pack, use_custom_packing_ops, ...
        """
        super().__init__(**settings)
        self._scales, self._by_length = tuple(scales), by_length
        self._joined, self._settings = joined, settings

    def __call__(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        """Converts training data (pairs, or sequences with a task), else as the parent does."""
        if TASK in ds.element_spec or _PAIR in ds.element_spec:
            return super().__call__(ds, task_feature_lengths)
        return seqio.EncDecFeatureConverter(**self._settings)(ds, task_feature_lengths)

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        target_length = task_feature_lengths["targets"]
        if self._joined:
            ds = ds.map(lambda pair: _join(pair, target_length))
        else:
            if _PAIR in ds.element_spec:
                ds = ds.flat_map(lambda pair: _expand(pair, task_feature_lengths))
            ds = ds.map(_tag)
        lengths = {_TASK_IDS: target_length, _LENGTHS: target_length, **task_feature_lengths}
        return super()._convert_features(ds, lengths)

    def _convert_example(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        ids = features[_TASK_IDS]
        weights = tf.gather(tf.constant((0.0, *self._scales), tf.float32), ids)
        if self._by_length:
            weights /= tf.cast(tf.maximum(features[_LENGTHS], 1), tf.float32)
        return {
            **super()._convert_example(features),
            "decoder_loss_weights": weights,
            "decoder_task_ids": tf.maximum(ids - 1, 0),
        }

    def get_model_feature_lengths(
        self, task_feature_lengths: Mapping[str, int]
    ) -> Mapping[str, int]:
        """Lengths of the features of training data."""
        lengths = super().get_model_feature_lengths(task_feature_lengths)
        return {**lengths, "decoder_task_ids": task_feature_lengths["targets"]}


def _expand(pair: Mapping[str, tf.Tensor], lengths: Mapping[str, int]) -> tf.data.Dataset:
    """Label and rationale of a pair, one after the other; the label alone where that is all."""

    def sequence(task: int, prefix: str) -> tf.data.Dataset:
        features = {
            feature: _cut(pair[f"{prefix}{feature}"], lengths[feature]) for feature in _FEATURES
        }
        return tf.data.Dataset.from_tensors({**features, TASK: tf.constant(task, tf.int32)})

    both = sequence(0, "").concatenate(sequence(1, "rationale_"))
    return both.filter(lambda row: tf.size(row["targets"]) > 0)


def _join(pair: Mapping[str, tf.Tensor], length: int) -> dict[str, tf.Tensor]:
    """The label and then the rationale of a pair as one target, with task and length of each."""
    label = pair["targets"]
    parts = label, _cut(pair["rationale_targets"], length - tf.size(label))
    counts = [tf.size(part) for part in parts]
    return {
        "inputs": pair["inputs"],
        "targets": tf.concat(parts, axis=0),
        _TASK_IDS: tf.repeat(tf.constant([1, 2], tf.int32), counts),
        _LENGTHS: tf.repeat(counts, counts),
    }


def _cut(tokens: tf.Tensor, length: int | tf.Tensor) -> tf.Tensor:
    """At most `length` tokens, of which the last stays: EOS."""
    return tf.cond(
        tf.size(tokens) > length,
        lambda: tf.concat([tokens[: length - 1], tokens[-1:]], axis=0),
        lambda: tokens,
    )


def _tag(sequence: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Task (from 1) and target length, once for each target token."""
    count = tf.size(sequence["targets"])
    return {
        "inputs": sequence["inputs"],
        "targets": sequence["targets"],
        _TASK_IDS: tf.fill([count], sequence[TASK] + 1),
        _LENGTHS: tf.fill([count], count),
    }
