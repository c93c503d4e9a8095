"""What stock T5X trains on, as functions that gin/engines/t5x.gin calls.

Each takes the DataSpec and the Weighting that gin has built from the macros, so the
t5x engine needs no registration beyond these calls. With WEIGHTING = 'mixture_rates' label and
rationale sequences are drawn at rates that stand for the loss weights; with 'paired_batches' the
rows of a task are pairs, which the feature converter takes apart. In both every target
token carries its weight and the divisor is constant (docs/weighting.md). Needs seqio,
not t5x.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from distill.config import weighting as weights
from distill.config.data import DataSpec
from distill.config.weighting import Weighting
from distill.data import cache, datasets, ragged
from distill.data.budget import BudgetCounts
from distill.engines.t5x import check, packing

if TYPE_CHECKING:
    import seqio
    import tensorflow as tf

log = logging.getLogger(__name__)
_OPEN: dict[str, cache.TokenCache] = {}


def register_pairs(spec: DataSpec, use_cached: bool) -> str:
    """Registers the task whose rows are pairs; returns its name."""
    from distill.data import seqio_tasks

    name = seqio_tasks.register_pair_task(
        spec, _splits(spec), vocabulary(spec), _open(spec).folder, use_cached
    )
    return _provided([name], spec, use_cached)[0]


def register_rates(spec: DataSpec, weighting: Weighting, use_cached: bool) -> str:
    """Registers the mixture of the tasks at the rates of the loss weights; returns its name."""
    import seqio

    names = register_tasks(spec, use_cached)
    drawn = [(names[task], rate) for task, rate in rates(spec, weighting).items() if rate > 0]
    digest = hashlib.sha256(repr(drawn).encode()).hexdigest()[:16]
    name = f"{names['label'].removesuffix('_label')}_rates_{digest}"
    if name not in seqio.MixtureRegistry.names():
        # SeqIO hands over the datasets in the order of their tasks' names.
        indices = [list(names.values()).index(task) for task, _ in sorted(drawn)]
        seqio.MixtureRegistry.add(
            name, drawn, sample_fn=functools.partial(sample_tagged, indices=indices)
        )
    return name


def sample_tagged(
    drawn: Sequence[tf.data.Dataset],
    rates: Sequence[float],
    seed: int | None,
    indices: Sequence[int],
) -> tf.data.Dataset:
    """SeqIO's way of mixing, of rows that say which task they are of."""
    import tensorflow as tf

    from distill.engines.t5x.features import TASK

    def tagged(dataset: tf.data.Dataset, index: int) -> tf.data.Dataset:
        return dataset.map(lambda row: {**row, TASK: tf.constant(index, tf.int32)})

    parts = [tagged(dataset, index) for dataset, index in zip(drawn, indices, strict=True)]
    return tf.data.Dataset.sample_from_datasets(parts, rates, seed, stop_on_empty_dataset=True)


def rates(spec: DataSpec, weighting: Weighting) -> dict[str, float]:
    """The rate at which sequences of each task are drawn; they sum to 1."""
    by_task = dict(zip(spec.tasks, weighting.task_weights(spec.tasks), strict=True))
    return weights.mixture_rates(by_task, weighting.normalization, _means(spec))


def task_weights(spec: DataSpec, weighting: Weighting) -> tuple[float, ...]:
    """The loss weight of each task, label first."""
    return weighting.task_weights(spec.tasks)


def feature_converter(
    spec: DataSpec, weighting: Weighting, normalizer: float | str | None = None
) -> Callable[..., seqio.FeatureConverter]:
    """T5X's `feature_converter_cls`: gives each target token its weight, takes pairs apart.

    Args:
      spec: says the tasks.
      weighting: the objective.
      normalizer: LOSS_NORMALIZING_FACTOR. One of T5X's names asks for T5X's own loss, in
        which every target token weighs 1.
    """
    from distill.engines.t5x.features import TrainingFeatureConverter

    scales, by_length = token_scales(spec, weighting), weighting.normalization == "per_sequence"
    if isinstance(normalizer, str):
        scales, by_length = (1.0,) * len(scales), False
    return functools.partial(
        TrainingFeatureConverter, scales=scales, by_length=by_length, joined=spec.is_joined
    )


def token_scales(spec: DataSpec, weighting: Weighting) -> tuple[float, ...]:
    """What a target token of each task weighs (per_token), or all of its row (per_sequence).

    Divided by the pairs of a batch (paired) or by its sequences (rates), where a task that
    is drawn at rate r counts w / r each time, the sums over tokens are w_task * L_task.
    """
    paired = is_paired(spec, weighting)
    drawn = {} if paired else rates(spec, weighting)
    means, scales = _means(spec), []
    for task, weight in zip(spec.tasks, weighting.task_weights(spec.tasks), strict=True):
        share = 1.0 if paired else drawn[task]
        mean = 1.0 if weighting.normalization == "per_sequence" else means[task]
        scales.append(weight / (share * mean) if weight else 0.0)
    return tuple(scales)


def loss_normalizing_factor(
    spec: DataSpec,
    weighting: Weighting,
    batch_size: int,
    normalizer: float | str | None = None,
    pack: bool = False,
    multiple: int = 1,
) -> float | str:
    """The constant by which T5X divides the summed token losses, or the caller's `normalizer`.

    It is the expected number of pairs (paired) or of sequences (rates) of a batch.
    """
    if normalizer is not None:
        return normalizer
    return layout(spec, weighting, batch_size, pack, multiple).expected


def batch_rows(
    spec: DataSpec,
    weighting: Weighting,
    batch_size: int,
    pack: bool = False,
    multiple: int = 1,
) -> int:
    """T5X's batch size, in padded or packed rows, for BATCH_SIZE pairs on average."""
    batch = layout(spec, weighting, batch_size, pack, multiple)
    has_pairs = is_paired(spec, weighting) and not spec.is_joined
    unit = "pairs" if has_pairs else "sequences"
    log.info("distill: a batch is %d rows with %.1f %s", batch.rows, batch.expected, unit)
    return batch.rows


def layout(
    spec: DataSpec,
    weighting: Weighting,
    batch_size: int,
    pack: bool = False,
    multiple: int = 1,
) -> packing.Layout:
    """Rows of a batch and the pairs or sequences expected in them.

    Args:
      spec: the data.
      weighting: says the scheme.
      batch_size: BATCH_SIZE, in pairs; with rates as many sequences as those would be.
      pack: whether SeqIO packs sequences into rows of INPUT_LENGTH and TARGET_LENGTH.
      multiple: the rows are a multiple of this.
    """
    paired = is_paired(spec, weighting)
    lengths = _lengths(spec)
    sequences_a_pair = float((lengths[..., 1] > 0).sum() / len(lengths)) if paired else 1.0
    per_row = 1.0
    if pack:
        drawn = () if paired else tuple(rates(spec, weighting).values())
        limits = spec.input_length, spec.target_length
        rng = np.random.default_rng(0)
        per_row = packing.sequences_per_row(lengths, limits, rng, drawn)
    units = batch_size if paired else batch_size * spec.sequences_per_row
    return packing.nearest_layout(units, per_row / sequences_a_pair, multiple)


def feature_lengths(spec: DataSpec, pack: bool = False) -> dict[str, int]:
    """Tokens of a row: INPUT_LENGTH and TARGET_LENGTH where sequences are packed.

    Otherwise those of the longest input and target, so that no step computes on more
    padding; never more than the two macros.
    """
    if pack:
        return {"inputs": spec.input_length, "targets": spec.target_length}
    tokens = _open(spec)
    longest = {feature: tokens.longest(feature) for feature in ragged.FEATURES}
    if spec.is_joined:
        longest["targets"] = int(_lengths(spec)[..., 1].max())
    return longest


def decode_lengths(spec: DataSpec) -> dict[str, int]:
    """Lengths for decoding labels.

    A label longer than every true one is wrong whatever follows, so decoding stops
    there; `single_task` writes a rationale first and gets all of TARGET_LENGTH.
    """
    tokens = _open(spec).tokens
    longest = {
        feature: max(
            int(tokens[split, "label", feature].lengths.max(initial=1)) for split in datasets.SPLITS
        )
        for feature in ragged.FEATURES
    }
    if spec.about_method.rationale_first:
        longest["targets"] = spec.target_length
    return longest


def vocabulary(spec: DataSpec) -> seqio.Vocabulary:
    """The vocabulary of inputs and targets; T5X compares it with the tasks' own."""
    from distill.data.seqio_vocabularies import to_seqio

    return to_seqio(cache.vocabulary_of(spec))


def eval_split(checkpoint: str) -> str:
    """The split that T5X decodes while it trains, with CHECKPOINT = 'best' to choose by it."""
    return "validation" if checkpoint == "best" else "test"


def eval_period(train_steps: int, eval_period: int, checkpoint: str) -> int:
    """Steps from one decoding to the next; T5X also saves then.

    With CHECKPOINT = 'last' it decodes once, after the last step.
    """
    return min(eval_period, train_steps) if checkpoint == "best" else train_steps


def checkpoint_steps(
    train_steps: int, save_period: int, checkpoint: str = "last"
) -> tuple[int, ...] | None:
    """The steps after which T5X saves: every `save_period` and the last.

    T5X wants its periods to divide each other, a list of steps it does not. The list
    has to end with the last step: T5X does not move on from its last entry. With CHECKPOINT =
    'best' there is none: what is saved is what `eval_period` has decoded.
    """
    if checkpoint == "best":
        return None
    return (*range(save_period, train_steps, save_period), train_steps)


def _open(spec: DataSpec) -> cache.TokenCache:
    key = f"{spec.digest()}-{datasets.content_digest(spec)}"
    if key not in _OPEN:
        opened = cache.load_cache(spec)
        check.check_rationales(spec, opened)
        _OPEN[key] = opened
    return _OPEN[key]


def is_paired(spec: DataSpec, weighting: Weighting) -> bool:
    """Whether rows are pairs; a method with one sequence a row is the same in either scheme."""
    return spec.is_joined or (weighting.scheme == "paired_batches" and len(spec.tasks) == 2)


def _lengths(spec: DataSpec) -> np.ndarray:
    """Input and target lengths of each training row and sequence [N, K, 2]; 0 where there is none.

    Tasks that are joined are one sequence (K = 1).
    """
    tokens = _open(spec).tokens
    columns = [
        [tokens["train", t, feature].lengths for feature in ragged.FEATURES] for t in spec.tasks
    ]
    lengths_NxKx2 = np.moveaxis(np.array(columns), -1, 0)
    if not spec.is_joined:
        return lengths_NxKx2
    return np.stack([lengths_NxKx2[:, 0, 0], lengths_NxKx2[..., 1].sum(axis=1)], axis=-1)[:, None]


def _means(spec: DataSpec) -> Mapping[str, float]:
    return {task: _open(spec).mean_target_tokens(task) for task in spec.tasks}


def _splits(spec: DataSpec) -> datasets.Splits:
    tokens = _open(spec)
    counts = BudgetCounts(**tokens.meta["counts"])
    rows = tokens.rows
    return datasets.Splits(rows["train"], rows["validation"], rows["test"], counts)


def register_tasks(spec: DataSpec, use_cached: bool) -> dict[str, str]:
    """Registers the task of each kind of target; returns their names, label first."""
    from distill.data import seqio_tasks

    names = seqio_tasks.register_seqio_tasks(
        spec, _splits(spec), vocabulary(spec), _open(spec).folder, use_cached
    )
    _provided(names.values(), spec, use_cached)
    return names


def _provided(names: Iterable[str], spec: DataSpec, use_cached: bool) -> list[str]:
    """The same names; with `use_cached` SeqIO has a cache of these tasks."""
    task_names = list(names)
    if use_cached:
        from distill.engines.t5x import seqio_cache

        for name in task_names:
            seqio_cache.provide(name, _open(spec).folder / "seqio")
    return task_names
