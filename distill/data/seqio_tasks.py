"""SeqIO label and rationale tasks of a DataSpec, registered under its digest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import seqio
import tensorflow as tf

from distill.data import budget, datasets, preprocessors
from distill.data.examples import Example
from distill.data.metrics import wilson_interval
from distill.data.spec import DataSpec


def register(
    spec: DataSpec, splits: datasets.Splits, vocabulary: seqio.Vocabulary
) -> dict[str, str]:
    """Registers the tasks that the method of `spec` trains on, each once.

    Every task keeps the index `row` beside `inputs` and `targets`, so that label and
    rationale of a row can be brought together again.

    Args:
      spec: the settings; their digests make the names.
      splits: the rows.
      vocabulary: of inputs and targets.

    Returns:
      The SeqIO name of each task, label first.
    """
    prefix = f"distill_{spec.digest()}_{datasets.content_digest(spec)}"
    feature = seqio.Feature(vocabulary, add_eos=True)
    metric = label_metric(datasets.get(spec.dataset).correct)
    names = {}
    for task in spec.tasks:
        names[task] = f"{prefix}_{task}"
        if names[task] in seqio.TaskRegistry.names():
            continue
        seqio.TaskRegistry.add(
            names[task],
            source=seqio.FunctionDataSource(
                functools.partial(_source, splits=splits, label_source=spec.label_source),
                splits=datasets.SPLITS,
                num_input_examples={split: len(splits[split]) for split in datasets.SPLITS},
            ),
            preprocessors=[
                _preprocessor(spec, task),
                seqio.preprocessors.tokenize,
                seqio.preprocessors.append_eos_after_trim,
            ],
            output_features={"inputs": feature, "targets": feature},
            postprocess_fn=functools.partial(_postprocess, spec=spec) if task == "label" else None,
            metric_fns=[metric] if task == "label" else [],
        )
    return names


def _preprocessor(spec: DataSpec, task: str) -> object:
    if task == "rationale":
        return functools.partial(preprocessors.rationale_task, prefix=spec.rationale_prefix)
    if spec.method == "single_task":
        return functools.partial(preprocessors.single_task, prefix=spec.label_prefix)
    return functools.partial(preprocessors.label_task, prefix=spec.label_prefix)


def _source(
    split: str,
    shuffle_files: bool = False,
    seed: int | None = None,
    *,
    splits: datasets.Splits,
    label_source: str,
) -> tf.data.Dataset:
    """Rows of a split; the test split always carries gold labels."""
    source = "gold" if split == "test" else label_source
    rows: Sequence[Example] = splits[split]

    def column(texts: Sequence[str | None]) -> tf.Tensor:
        return tf.constant([text or "" for text in texts], tf.string)

    return tf.data.Dataset.from_tensor_slices(
        {
            "row": tf.range(len(rows), dtype=tf.int32),
            "input": column([row.input for row in rows]),
            "label": column([budget.label_of(row, source) for row in rows]),
            "rationale": column([row.rationale for row in rows]),
        }
    )


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
