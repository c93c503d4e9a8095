"""SeqIO tasks on data that `distill data build` has built; tasks/tfds.py registers them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from distill.common.accuracy import matches_exactly
from distill.data import preprocessors
from distill.data.seqio_tasks import label_metric

T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
LABEL_PREFIX, RATIONALE_PREFIX = "[label] ", "[rationale] "
# Where no validation rows were released, a tenth of the training rows, as in the paper's code.
TENTH = {"train": "train[10%:]", "validation": "train[:10%]", "test": "test"}


def register_tfds_tasks(
    name: str,
    tfds_name: str,
    splits: Mapping[str, str] | None = None,
    correct: Callable[[str, str], bool] = matches_exactly,
    vocabulary: seqio.Vocabulary | None = None,
) -> list[str]:
    """Registers the three tasks of a data set that `distill data build` has built.

    Rows without the label or the rationale of a task are left out of it. What comes
    after tokenizing (EOS, trimming) is left out of SeqIO's cache.

    Args:
      name: the tasks' names are `distill_<name>_label` and so on.
      tfds_name: what `distill data build` says, e.g. "distill_jsonl/mine:1.0.0".
      splits: SeqIO split -> TFDS split or slice; None takes those that were built.
      correct: whether a prediction counts as a label.
      vocabulary: of inputs and targets; None takes T5's.

    Returns:
      The names of the tasks.
    """
    path = os.environ.get("DISTILL_VOCABULARY_PATH", T5_VOCABULARY)
    vocabulary = vocabulary or _vocabulary(path)
    feature = seqio.Feature(vocabulary, add_eos=True)
    label = functools.partial(preprocessors.to_label_task, prefix=LABEL_PREFIX)
    rationale = functools.partial(preprocessors.to_rationale_task, prefix=RATIONALE_PREFIX)
    tasks = {
        "label": (functools.partial(_rows, label="label"), label),
        "teacher_label": (functools.partial(_rows, label="teacher_label"), label),
        "rationale": (_rows, rationale),
    }
    names = []
    for task, (rows, to_text) in tasks.items():
        scored = task != "rationale"
        names.append(f"distill_{name}_{task}")
        seqio.TaskRegistry.add(
            names[-1],
            source=seqio.TfdsDataSource(
                tfds_name=tfds_name, splits=dict(splits) if splits else None, read_only=True
            ),
            preprocessors=[
                rows,
                to_text,
                seqio.preprocessors.tokenize,
                seqio.CacheDatasetPlaceholder(),
                seqio.preprocessors.append_eos_after_trim,
            ],
            output_features={"inputs": feature, "targets": feature},
            postprocess_fn=_postprocess if scored else None,
            metric_fns=[label_metric(correct)] if scored else [],
        )
    return names


@functools.cache
def _vocabulary(path: str) -> seqio.SentencePieceVocabulary:
    # The file holds its 100 sentinels already.
    return seqio.SentencePieceVocabulary(path, extra_ids=0)


def _rows(dataset: tf.data.Dataset, label: str = "") -> tf.data.Dataset:
    """From the fields of a record to those that the preprocessors read.

    With a `label`, rows that do not have it are left out; test rows have the gold one.
    """

    @seqio.map_over_dataset
    def fields(record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        train_label = record[label or "label"]
        return {
            "row": record["row"],
            "input": record["input"],
            "label": tf.where(record["split"] == "test", record["label"], train_label),
            "rationale": record["rationale"],
        }

    rows = fields(dataset)
    return rows.filter(lambda row: tf.strings.length(row["label"]) > 0) if label else rows


def _postprocess(text: str, **unused: object) -> str:
    return text.strip()
