"""What stock T5X trains on where the data are TFDS: functions that gin/engines/t5x_tfds.gin calls.

The tasks are those of tasks/tfds.py. Label and rationale are drawn at the rates of the loss
weights, each target token weighs 1 / the length of its sequence, and the divisor is the number of
sequences: NORMALIZATION = 'per_sequence' (docs/weighting.md), whose rates need no statistics
of the data.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable

import seqio

from distill.config.data import DataSpec
from distill.config.weighting import Weighting
from distill.engines.t5x.features import TrainingFeatureConverter
from distill.engines.t5x.mixtures import sample_tagged
from distill.errors import UserError, unknown

_LABEL_TASKS = {"gold": "label", "teacher": "teacher_label"}
_RATIONALE = "_rationale"


def mixture(name: str, spec: DataSpec, weighting: Weighting) -> str:
    """A mixture of a data set's label and rationale tasks, registered if it is not yet.

    Args:
      name: TFDS_TASKS, as in `tasks.tfds.register_tfds_tasks`.
      spec: says the method and the label source.
      weighting: the objective.

    Returns:
      The name of the mixture; `feature_converter` understands its rows.

    Raises:
      UserError: tasks that are not registered, or an objective that these data cannot have.
    """
    _check(spec, weighting)
    weights = zip(_tasks(name, spec), weighting.task_weights(spec.tasks), strict=True)
    drawn = [(task, float(weight)) for task, weight in weights if weight > 0]
    digest = hashlib.sha256(repr(drawn).encode()).hexdigest()[:16]
    mixed = f"distill_{name}_rates_{digest}"
    if mixed not in seqio.MixtureRegistry.names():
        # SeqIO hands over the datasets in the order of their tasks' names.
        indices = [_tasks(name, spec).index(task) for task, _ in sorted(drawn)]
        sample = functools.partial(sample_tagged, indices=indices)
        seqio.MixtureRegistry.add(mixed, drawn, sample_fn=sample)
    return mixed


def label_task(name: str, spec: DataSpec) -> str:
    """The name of the task that is evaluated; its test split has gold labels whatever it learns.

    Raises:
      UserError: tasks that are not registered.
    """
    task = f"distill_{name}_{_LABEL_TASKS[spec.label_source]}"
    if task not in seqio.TaskRegistry.names():
        known = [
            other.removeprefix("distill_").removesuffix(_RATIONALE)
            for other in seqio.TaskRegistry.names()
            if other.startswith("distill_") and other.endswith(_RATIONALE)
        ]
        raise unknown(
            "data set",
            name,
            known,
            "macro TFDS_TASKS; register your own with tasks.tfds.register_tfds_tasks",
        )
    return task


def vocabulary(name: str, spec: DataSpec) -> seqio.Vocabulary:
    """That of the tasks, which is then the model's too: SeqIO compares paths, not files."""
    return seqio.TaskRegistry.get(label_task(name, spec)).output_features["targets"].vocabulary


def feature_converter(
    spec: DataSpec, weighting: Weighting
) -> Callable[..., seqio.FeatureConverter]:
    """T5X's `feature_converter_cls`: each target token of n weighs 1 / n."""
    _check(spec, weighting)
    # A task that is drawn at the rate of its weight counts 1 each time.
    scales = (sum(weighting.task_weights(spec.tasks)),) * len(spec.tasks)
    return functools.partial(TrainingFeatureConverter, scales=scales, by_length=True)


def batch_rows(
    spec: DataSpec, weighting: Weighting, batch_size: int, pack: bool = False, multiple: int = 1
) -> int:
    """Sequences of a batch, a row each, which is the loss's divisor too.

    Args:
      spec: says the tasks.
      weighting: the objective.
      batch_size: BATCH_SIZE, in pairs.
      pack: PACK.
      multiple: the rows are a multiple of this.

    Raises:
      UserError: packed rows, whose number of sequences nobody has counted.
    """
    _check(spec, weighting)
    if pack:
        raise UserError(
            "got PACK = True with TFDS tasks, expected False: the number of sequences per packed "
            "row is not known in advance; or train on rows (--raw_dir)"
        )
    return -(-batch_size * len(spec.tasks) // multiple) * multiple


def loss_normalizing_factor(rows: int) -> float:
    """The constant by which T5X divides the summed token losses."""
    return float(rows)


def _tasks(name: str, spec: DataSpec) -> list[str]:
    return [label_task(name, spec), f"distill_{name}{_RATIONALE}"][: len(spec.tasks)]


def _check(spec: DataSpec, weighting: Weighting) -> None:
    settings = {
        "NORMALIZATION": (weighting.normalization, ("per_sequence",)),
        "WEIGHTING": (weighting.scheme, ("mixture_rates",)),
        "RATIONALE_SOURCE": (spec.rationale_source, ("teacher",)),
        "METHOD": (spec.method, ("finetune", "distill_labels", "step_by_step")),
    }
    for macro, (value, possible) in settings.items():
        if value not in possible:
            raise UserError(
                f"got {macro} = {value!r} with TFDS tasks, expected "
                f"{' or '.join(map(repr, possible))}; the other values need rows (--raw_dir)"
            )
