"""The mixtures that stock T5X trains on, as functions that gin/engines/t5x.gin calls.

Each takes the DataSpec and the Weighting that gin has built from the macros, so the
t5x engine needs no registration beyond these calls. A mixture draws label and
rationale sequences at rates that stand for the loss weights (`distill.weighting`).
Needs seqio, not t5x.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from distill import weighting as weights
from distill.data import cache, datasets
from distill.data.budget import BudgetCounts
from distill.data.spec import DataSpec
from distill.errors import UserError
from distill.weighting import Weighting

if TYPE_CHECKING:
    import seqio

_OPEN: dict[str, cache.TokenCache] = {}


def mixture(spec: DataSpec, weighting: Weighting) -> str:
    """Registers what a run trains on; the name says settings, files and rates by digest.

    Returns:
      The name of a SeqIO mixture, or of the task itself where only one has a weight.

    Raises:
      UserError: WEIGHTING is not 'rates'; what the data or the vocabulary complain of.
    """
    import seqio

    names = _register(spec)
    drawn = [(names[task], rate) for task, rate in rates(spec, weighting).items() if rate > 0]
    if len(drawn) == 1:
        return drawn[0][0]
    digest = hashlib.sha256(repr(drawn).encode()).hexdigest()[:16]
    name = f"{names['label'].removesuffix('_label')}_rates_{digest}"
    if name not in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.add(name, drawn)
    return name


def label_task(spec: DataSpec) -> str:
    """The name of the task that is evaluated: input to label, scored by exact match."""
    return _register(spec)["label"]


def rates(spec: DataSpec, weighting: Weighting) -> dict[str, float]:
    """The rate at which sequences of each task are drawn; they sum to 1.

    Raises:
      UserError: WEIGHTING is not 'rates'.
    """
    if weighting.way != "rates":
        raise UserError(
            f"got WEIGHTING = {weighting.way!r} with the t5x engine, expected 'rates': a SeqIO "
            "mixture does not keep label and rationale of a row together; set WEIGHTING = 'rates'"
        )
    by_task = dict(zip(spec.tasks, weighting.task_weights(spec.tasks), strict=True))
    return weights.mixture_rates(by_task, weighting.normalization, _means(spec))


def loss_normalizing_factor(spec: DataSpec, weighting: Weighting, batch_size: int) -> float | str:
    """What T5X divides the summed token losses by (see `distill.weighting.rates_divisor`)."""
    drawn, count = rates(spec, weighting), sequences(spec, batch_size)
    return weights.rates_divisor(drawn, weighting.normalization, _means(spec), count)


def sequences(spec: DataSpec, batch_size: int) -> int:
    """Sequences of a batch: one for each of its rows and each task of the method."""
    return batch_size * len(spec.tasks)


def feature_lengths(spec: DataSpec) -> dict[str, int]:
    """Tokens of the longest input and target, so that no step computes on more padding.

    Never more than INPUT_LENGTH and TARGET_LENGTH.
    """
    tokens = _open(spec)
    return {side: tokens.longest(side) for side in cache.SIDES}


def decode_lengths(spec: DataSpec) -> dict[str, int]:
    """Lengths for decoding labels.

    A label longer than every true one is wrong however it goes on, so decoding stops
    there; `single_task` writes a rationale first and gets all of TARGET_LENGTH.
    """
    tokens = _open(spec).tokens
    longest = {
        side: max(
            int(tokens[split, "label", side].lengths.max(initial=1)) for split in datasets.SPLITS
        )
        for side in cache.SIDES
    }
    if spec.method == "single_task":
        longest["targets"] = spec.target_length
    return longest


def vocabulary(spec: DataSpec) -> seqio.Vocabulary:
    """The vocabulary of inputs and targets; T5X compares it with the tasks' own."""
    from distill.data import tokenise

    return tokenise.vocabulary(spec)


def checkpoint_steps(train_steps: int, save_period: int) -> tuple[int, ...]:
    """The steps after which T5X saves: every `save_period` and the last.

    T5X wants its periods to divide each other, a list of steps it does not. The list
    has to end with the last step: T5X does not move on from its last entry.
    """
    return (*range(save_period, train_steps, save_period), train_steps)


def _open(spec: DataSpec) -> cache.TokenCache:
    key = f"{spec.digest()}-{datasets.content_digest(spec)}"
    if key not in _OPEN:
        _OPEN[key] = cache.load(spec)
    return _OPEN[key]


def _means(spec: DataSpec) -> dict[str, float]:
    return {task: _open(spec).mean_target_tokens(task) for task in spec.tasks}


def _register(spec: DataSpec) -> dict[str, str]:
    from distill.data import seqio_tasks

    tokens = _open(spec)
    counts = BudgetCounts(**tokens.meta["counts"])
    splits = datasets.Splits(**tokens.rows, counts=counts)
    return seqio_tasks.register(spec, splits, vocabulary(spec))
