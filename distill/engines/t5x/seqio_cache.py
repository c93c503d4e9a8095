"""Tokenized splits of a SeqIO task in SeqIO's own cache format, without Beam.

What the steps before a task's `CacheDatasetPlaceholder` give is written as TFRecords, one file a
split, with the files of seqio.cached that `Task.get_dataset(use_cached=True)` wants beside it:

    <folder>/<task>/<split>.tfrecord-00000-of-00001   info.<split>.json   stats.<split>.json
    <folder>/<task>/COMPLETED
"""

from __future__ import annotations

import json

import seqio
import tensorflow as tf
from etils import epath

from distill.common.atomic import atomic_directory

_MARK = "COMPLETED"  # SeqIO's own name for it


def provide(name: str, folder: epath.Path) -> None:
    """Lets SeqIO find a task's cache in `folder`; it is written first if it is not there.

    Args:
      name: of a registered task with a `CacheDatasetPlaceholder`.
      folder: of the caches, local or gs://.
    """
    known = seqio.get_global_cache_dirs()
    if str(folder) not in known:
        seqio.set_global_cache_dirs([*known, str(folder)])
    target = folder / seqio.get_task_dir_from_name(name)
    if (target / _MARK).exists():
        return
    task = seqio.TaskRegistry.get(name)
    with atomic_directory(target, mark=_MARK) as scratch:
        for split in task.splits:
            _write_split(task, split, scratch)
        (scratch / _MARK).write_text("")


def _write_split(task: seqio.Task, split: str, folder: epath.Path) -> None:
    rows = task.preprocess_precache(task.source.get_dataset(split, shuffle=False))
    count = 0
    with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord-00000-of-00001")) as file:
        for row in rows:
            file.write(seqio.dict_to_tfexample(row).SerializeToString())
            count += 1
    features = {
        name: {"dtype": kind.dtype.name, "shape": list(kind.shape)}
        for name, kind in rows.element_spec.items()
    }
    info = {"num_shards": 1, "features": features, "seqio_version": seqio.__version__}
    (folder / f"info.{split}.json").write_text(json.dumps(info))
    (folder / f"stats.{split}.json").write_text(json.dumps({"examples": count}))
