"""SeqIO label and rationale tasks of a DataSpec, registered under its digest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import seqio
import tensorflow as tf
from etils import epath

from distill.common.accuracy import wilson_interval
from distill.common.atomic import atomic_path
from distill.config.data import DataSpec
from distill.data import budget, datasets, preprocessors
from distill.data.examples import Example
from distill.data.row_file import RowFile

_CHUNK = 1024  # rows that are read from disk at once


def register_seqio_tasks(
    spec: DataSpec,
    splits: datasets.Splits,
    vocabulary: seqio.Vocabulary,
    folder: epath.Path | None = None,
    cached: bool = False,
) -> dict[str, str]:
    """Registers the tasks that the method of `spec` trains on, each once.

    Every task keeps the index `row` beside `inputs` and `targets`, so that label and
    rationale of a row can be brought together again.

    Args:
      spec: the settings; their digests make the names.
      splits: the rows.
      vocabulary: of inputs and targets.
      folder: takes the rows as TFRecords, so that T5X can store its place in them.
      cached: the tasks have a place for SeqIO's cache, in `folder` (seqio_cache), and other names.

    Returns:
      The SeqIO name of each task, label first.
    """
    prefix = _prefix(spec, cached)
    feature = seqio.Feature(vocabulary, add_eos=True)
    metric = label_metric(datasets.get(spec.dataset).correct)
    names = {}
    for task in spec.tasks:
        names[task] = f"{prefix}_{task}"
        if names[task] in seqio.TaskRegistry.names():
            continue
        seqio.TaskRegistry.add(
            names[task],
            source=_data_source(spec, splits, folder),
            preprocessors=[
                _preprocessor(spec, task),
                *_to_ids(spec, cached),
            ],
            output_features={"inputs": feature, "targets": feature},
            postprocess_fn=functools.partial(_postprocess, spec=spec) if task == "label" else None,
            metric_fns=[metric] if task == "label" else [],
        )
    return names


def register_pair_task(
    spec: DataSpec,
    splits: datasets.Splits,
    vocabulary: seqio.Vocabulary,
    folder: epath.Path | None = None,
    cached: bool = False,
) -> str:
    """Registers a task whose rows are pairs: to train on, with the t5x engine's converter.

    Beside `inputs` and `targets` of the label a row has `rationale_inputs` and
    `rationale_targets`, empty where it has no rationale. The two sides are not cut to
    lengths of the caller's, who knows none for them.

    Returns:
      The SeqIO name of the task.
    """
    name = f"{_prefix(spec, cached)}_pairs"
    if name not in seqio.TaskRegistry.names():
        features = ("inputs", "targets", "rationale_inputs", "rationale_targets")
        seqio.TaskRegistry.add(
            name,
            source=_data_source(spec, splits, folder),
            preprocessors=[
                functools.partial(
                    preprocessors.pair_task,
                    label_prefix=spec.label_prefix,
                    rationale_prefix=spec.prefix("rationale"),
                ),
                *_to_ids(spec, cached),
                preprocessors.empty_absent_rationale,
            ],
            output_features={
                feature: seqio.Feature(vocabulary, add_eos=True) for feature in features
            },
        )
    return name


def _to_ids(spec: DataSpec, cached: bool) -> list[Callable[..., object]]:
    """From texts to ids; SeqIO's cache holds what is before trimming."""
    mark = datasets.get(spec.dataset).eos_mark(spec)
    return [
        seqio.preprocessors.tokenize,
        *([functools.partial(preprocessors.marks_to_eos, mark=mark)] if mark else []),
        *([seqio.CacheDatasetPlaceholder()] if cached else []),
        seqio.preprocessors.append_eos_after_trim,
    ]


def _prefix(spec: DataSpec, cached: bool) -> str:
    digests = f"{spec.digest()}_{datasets.content_digest(spec)}"
    return f"distill_cached_{digests}" if cached else f"distill_{digests}"


def forget(names: Iterable[str]) -> None:
    """Takes tasks out of SeqIO's registry, so that they can be registered on other rows."""
    for name in names:
        seqio.TaskRegistry.remove(name)


def _data_source(
    spec: DataSpec, splits: datasets.Splits, folder: epath.Path | None
) -> seqio.FunctionDataSource:
    return seqio.FunctionDataSource(
        functools.partial(_source, splits=splits, label_source=spec.label_source, folder=folder),
        splits=datasets.SPLITS,
        num_input_examples={split: len(splits[split]) for split in datasets.SPLITS},
    )


def _preprocessor(spec: DataSpec, task: str) -> object:
    if task == "rationale":
        make = preprocessors.to_rationale_task
    elif spec.about_method.rationale_first:
        make = preprocessors.single_task
    else:
        make = preprocessors.to_label_task
    return functools.partial(make, prefix=spec.prefix(task))


def _source(
    split: str,
    shuffle_files: bool = False,
    seed: int | None = None,
    *,
    splits: datasets.Splits,
    label_source: str,
    folder: epath.Path | None,
) -> tf.data.Dataset:
    """Rows of a split; the test split always carries gold labels."""
    source = "gold" if split == "test" else label_source
    rows: Sequence[Example] = splits[split]

    def columns(start: int, stop: int) -> dict[str, np.ndarray]:
        chunk = [rows[index] for index in range(start, stop)]
        texts = {
            "input": [row.input for row in chunk],
            "label": [budget.label_of(row, source) or "" for row in chunk],
            "rationale": [row.rationale or "" for row in chunk],
        }
        encoded = {name: [t.encode() for t in column] for name, column in texts.items()}
        arrays = {name: np.array(column, object) for name, column in encoded.items()}
        return {"row": np.arange(start, stop, dtype=np.int32), **arrays}

    if not isinstance(rows, RowFile):
        tensors = {
            name: tf.constant(c, c.dtype if name == "row" else tf.string)
            for name, c in columns(0, len(rows)).items()
        }
        return tf.data.Dataset.from_tensor_slices(tensors)

    def chunks() -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(rows), _CHUNK):
            yield columns(start, min(start + _CHUNK, len(rows)))

    kinds = {"row": tf.int32} | dict.fromkeys(("input", "label", "rationale"), tf.string)
    if folder is not None:
        return _tfrecord_rows(folder / f"{split}.{source}.tfrecord", chunks(), kinds)
    signature = {name: tf.TensorSpec([None], kind) for name, kind in kinds.items()}
    return tf.data.Dataset.from_generator(chunks, output_signature=signature).unbatch()


def _postprocess(text: str, spec: DataSpec, **unused: object) -> str:
    return spec.answer(text)


def label_metric(
    correct: Callable[[str, str], bool],
) -> Callable[[Sequence[str], Sequence[str]], dict[str, float]]:
    """A SeqIO metric: the accuracy by a dataset's rule.

    Args:
      correct: whether a prediction counts as a gold label.

    Returns:
      A function of targets and predictions, N texts each, that gives the accuracy, its
      95% Wilson interval and N.
    """

    def label_accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
        pairs = zip(predictions, targets, strict=True)
        hits = sum(correct(prediction, target) for prediction, target in pairs)
        low, high = wilson_interval(hits, len(targets))
        return {
            "accuracy": hits / len(targets),
            "accuracy_low": low,
            "accuracy_high": high,
            "n": len(targets),
        }

    return label_accuracy


def _tfrecord_rows(
    path: epath.Path, chunks: Iterable[Mapping[str, np.ndarray]], kinds: Mapping[str, tf.DType]
) -> tf.data.Dataset:
    """The rows of a TFRecord file, which is written first if it is not there.

    T5X saves where a run is in its data. tf.data can store the place of a reader that is its
    own, not that of a Python generator ("PyFunc is stateful").

    Args:
      path: the file; it appears when it is complete.
      chunks: the rows' columns, each an array [n], some rows at a time.
      kinds: tf.string or tf.int32 for each column.

    Returns:
      Scalars by column, row after row.
    """
    if not path.exists():
        with atomic_path(path) as scratch, tf.io.TFRecordWriter(str(scratch)) as writer:
            for columns in chunks:
                for values in zip(*columns.values(), strict=True):
                    writer.write(_tf_example(dict(zip(columns, values, strict=True))))
    stored = {n: tf.string if k == tf.string else tf.int64 for n, k in kinds.items()}
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in stored.items()}

    def parsed(record: tf.Tensor) -> dict[str, tf.Tensor]:
        values = tf.io.parse_single_example(record, features)
        return {
            name: value if kinds[name] == tf.string else tf.cast(value, kinds[name])
            for name, value in values.items()
        }

    return tf.data.TFRecordDataset(str(path)).map(parsed)


def _tf_example(row: Mapping[str, bytes | np.integer]) -> bytes:
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        if isinstance(value, bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
        for name, value in row.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()
