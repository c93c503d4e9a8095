"""SeqIO tasks on built TFDS data, for stock T5X and for SeqIO's offline caching.

Importing this module registers, for each DATASET below,

    distill_<DATASET>_label          input -> gold label
    distill_<DATASET>_teacher_label  input -> teacher's label; gold in the test split
    distill_<DATASET>_rationale      input -> rationale

The data are built with `distill data build`; where they lie is said as for any TFDS
data: `--tfds_data_dir` of T5X and of `seqio_cache_tasks`, or the environment variable
TFDS_DATA_DIR. The vocabulary is T5's, at DISTILL_VOCABULARY_PATH or, without that, in
the bucket of T5. Rows of one's own are registered with `register`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

import seqio
import tensorflow as tf

from distill.data import preprocessors
from distill.data.metrics import matches_exactly
from distill.data.released_rows import KINDS
from distill.data.seqio_tasks import label_metric
from distill.errors import UserError, unknown

T5_VOCABULARY = "gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model"
LABEL_PREFIX, RATIONALE_PREFIX = "[label] ", "[rationale] "
_LABEL_TASKS = {"gold": "label", "teacher": "teacher_label"}
# Where no validation rows were released, a tenth of the training rows, as in the paper's code.
TENTH = {"train": "train[10%:]", "validation": "train[:10%]", "test": "test"}


def register(
    name: str,
    tfds_name: str,
    splits: Mapping[str, str] | None = None,
    correct: Callable[[str, str], bool] = matches_exactly,
    vocabulary: seqio.Vocabulary | None = None,
) -> list[str]:
    """Registers the three tasks of a data set that `distill data build` has built.

    Rows without the label or the rationale of a task are left out of it. What comes
    after tokenising (EOS, trimming) is left out of SeqIO's cache.

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
    label = functools.partial(preprocessors.label_task, prefix=LABEL_PREFIX)
    rationale = functools.partial(preprocessors.rationale_task, prefix=RATIONALE_PREFIX)
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


def mixture(
    name: str, label_weight: float, rationale_weight: float, label_source: str = "gold"
) -> str:
    """A mixture of a data set's label and rationale tasks, drawn at the rates of the weights.

    With T5X's 'AVERAGE_PER_SEQUENCE' its loss is the one that NORMALIZATION =
    'per_sequence' asks for, up to a constant (docs/weighting.md).

    Args:
      name: as in `register`.
      label_weight, rationale_weight: of the two losses; 0 leaves the task out.
      label_source: "gold", or "teacher", whose labels are then learnt.

    Returns:
      The name of the mixture, which is registered if it is not yet.
    """
    weights = {label_task(name, label_source): label_weight}
    weights[f"distill_{name}_rationale"] = rationale_weight
    drawn = [(task, float(weight)) for task, weight in weights.items() if weight > 0]
    mixed = f"distill_{name}_{label_source}_{label_weight}_{rationale_weight}".replace(".", "_")
    if mixed not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(mixed, drawn)
    return mixed


def label_task(name: str, label_source: str = "gold") -> str:
    """The name of a data set's label task.

    Raises:
      UserError: an unknown source, or tasks that are not registered.
    """
    if label_source not in _LABEL_TASKS:
        raise unknown("label source", label_source, _LABEL_TASKS, "macro LABEL_SOURCE")
    task = f"distill_{name}_{_LABEL_TASKS[label_source]}"
    if task not in seqio.TaskRegistry.names():
        ending = "_rationale"
        known = [n[len("distill_") : -len(ending)] for n in seqio.TaskRegistry.names()
                 if n.startswith("distill_") and n.endswith(ending)]  # fmt: skip
        raise unknown("data set", name, known, "macro TFDS_TASKS; yours need tasks.tfds.register")
    return task


def sequences(batch_size: int, normalization: str) -> int:
    """Rows of a batch of so many pairs: a label or a rationale each.

    Raises:
      UserError: a normalisation whose rates depend on the lengths of the data.
    """
    if normalization != "per_sequence":
        raise UserError(
            f"got NORMALIZATION = {normalization!r}, expected 'per_sequence', for which the rates "
            "of a mixture of TFDS tasks are the weights; or train on rows (--raw_dir)"
        )
    return 2 * batch_size


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
        wanted = record[label or "label"]
        return {
            "row": record["row"],
            "input": record["input"],
            "label": tf.where(record["split"] == "test", record["label"], wanted),
            "rationale": record["rationale"],
        }

    rows = fields(dataset)
    return rows.filter(lambda row: tf.strings.length(row["label"]) > 0) if label else rows


def _postprocess(text: str, **unused: object) -> str:
    return text.strip()


for _name, _kind in KINDS.items():
    register(
        _name,
        f"distill_released/{_name}:1.0.0",
        splits=None if "valid" in _kind.splits else TENTH,
        correct=_kind.correct,
    )
for _policy in ("natural", "hard"):
    register(f"returns_{_policy}", f"distill_returns/{_policy}:1.0.0", splits=TENTH)
