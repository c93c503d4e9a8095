"""Rows as TFRecords beside the tokenised cache, for readers that store their place.

T5X saves where a run is in its data. tf.data can store the place of a reader that is its own, not
that of a Python generator ("PyFunc is stateful"). Loads tensorflow.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf
from etils import epath


def dataset(
    path: epath.Path, chunks: Iterable[Mapping[str, np.ndarray]], kinds: Mapping[str, tf.DType]
) -> tf.data.Dataset:
    """The rows of a TFRecord file, which is written first if it is not there.

    Args:
      path: the file; it appears when it is complete.
      chunks: the rows' columns, each an array [n], some rows at a time.
      kinds: tf.string or tf.int32 for each column.

    Returns:
      Scalars by column, row after row.
    """
    if not path.exists():
        scratch = path.parent / f"{path.name}.tmp-{uuid.uuid4().hex[:8]}"
        with tf.io.TFRecordWriter(str(scratch)) as writer:
            for columns in chunks:
                for values in zip(*columns.values(), strict=True):
                    writer.write(_record(dict(zip(columns, values, strict=True))))
        scratch.replace(path)
    stored = {n: tf.string if k == tf.string else tf.int64 for n, k in kinds.items()}
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in stored.items()}

    def parsed(record: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.io.parse_single_example(record, features)
        return {
            name: value if kinds[name] == tf.string else tf.cast(value, kinds[name])
            for name, value in values.items()
        }

    return tf.data.TFRecordDataset(str(path)).map(parsed)


def _record(row: Mapping[str, bytes | np.integer]) -> bytes:
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
        for name, value in row.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
